//! Packets that are old, forged or slow on purpose, and what they cannot do.

use baton_core::flow::State;
use baton_core::{DropReason, Event, Micros, Verdict};

use super::heads::{connected, cut, expect_kept, hold_and_send};
use crate::common::backend::{MINE, sort};
use crate::common::client::{Client, get, len};
use crate::common::packets::{RST, arp, read_tcp};
use crate::common::world::{Answer, BROADCAST, SWITCH_MAC, VIP, World};

#[test]
fn an_old_acknowledgment_does_not_pass_for_an_answer() {
    let mut world = World::new();
    let (client, _) = world.request(Client::new(), "/files/a");
    let sent = len(&get("/files/a"));
    let state = |world: &World| world.flow(client.tuple()).map(|flow| flow.state);
    let far = Client { read: (1 << 26) + 1, ..client.clone() };
    world.give(&far.ack(sent));
    assert_eq!(state(&world), Some(State::Unconfirmed), "no backend has sent so much");
    let strange = Client { read: 100, ..client.clone() };
    world.give(&strange.ack(sent + 70_000));
    assert_eq!(state(&world), Some(State::Unconfirmed), "its client has not sent so much");
    world.give(&strange.ack(sent));
    assert_eq!(state(&world), Some(State::Established));
}

#[test]
fn clients_that_are_slow_on_purpose_keep_nobody_out() {
    let mut world = World::new();
    let slow: Vec<Client> = (1..=4).map(Client::at_port).collect();
    for client in &slow {
        let mut client = client.clone();
        world.connect(&mut client);
        expect_kept(&world.give(&client.data(0, b"G")), true);
    }
    let mut hasty = Client::at_port(5);
    world.connect(&mut hasty);
    world.expect_drop(&hasty.data(0, b"GET /fil"), DropReason::HoldsFull); // not within the first second
    world.pass(Micros::from_secs(1));
    let outcome = world.give(&hasty.data(0, b"GET /fil"));
    let resets: Vec<_> = outcome.sent.frames.iter().map(|frame| read_tcp(frame)).collect();
    assert_eq!((outcome.verdict, resets.len(), resets[0].flags), (Verdict::Absorb, 1, RST));
    assert_eq!((world.event(Event::HoldsEvicted), world.switch.flow_count()), (1, 4));
    assert_eq!(world.flow(hasty.tuple()).map(|flow| flow.state), Some(State::Holding));
}

#[test]
fn a_head_nobody_acknowledged_is_left_to_its_client_in_the_end() {
    let mut world = World::new();
    let client = connected(&mut world);
    let frames = cut(&client, &get("/files/a"), 30);
    assert_eq!(frames.len(), 2, "whole before the first is acknowledged");
    hold_and_send(&mut world, &frames);
    let (_, questions) = sort(&world.pass_by(Micros::from_secs(20), Micros::from_millis(10)));
    assert!(!questions.is_empty());
    assert_eq!((world.event(Event::HeadsLost), world.event(Event::ResetsSent)), (0, 0));
    assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Unconfirmed));
    // The client repeats it: it goes to the backend again.
    world.give(&frames[0]).message();
}

#[test]
fn a_backend_that_forgot_the_generation_still_has_the_head() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    hold_and_send(&mut world, &cut(&client, &request, 30));
    let (_, questions) = sort(&world.pass_by(Micros::from_millis(30), Micros::from_millis(1)));
    let mut answer = Answer::of(&questions[0], MINE);
    let rcv_nxt = client.isn.wrapping_add(1 + len(&request));
    answer.covered[12..16].copy_from_slice(&rcv_nxt.to_be_bytes());
    answer.covered[28..30].copy_from_slice(&[0, 1]);
    answer.covered[32..40].copy_from_slice(&0_u64.to_be_bytes());
    assert_eq!(world.give(&answer.frame()).verdict, Verdict::Absorb);
    let (_, questions) = sort(&world.pass_by(Micros::from_secs(2), Micros::from_millis(10)));
    assert!(questions.is_empty(), "it has it");
}

#[test]
fn a_probe_with_a_byte_of_anything_passes_behind_a_request_and_nothing_else_does() {
    let mut world = World::new();
    let (client, _) = world.request(Client::new(), "/files/a");
    let sent = len(&get("/files/a"));
    let probe = client.data(sent - 1, b"?");
    assert_eq!(world.give(&probe).message().inner, probe[14..], "a client that waits for a slow answer");
    world.expect_drop(&client.data(sent - 2, b"?"), DropReason::HeadChanged);
    world.expect_drop(&client.data(sent - 1, b"??"), DropReason::HeadChanged);
}

#[test]
fn an_address_is_defended_but_not_in_a_quarrel() {
    let mut world = World::new();
    let stranger = [2, 0, 0, 0, 9, 9];
    let claim = arp(1, (VIP, stranger), (VIP, [0; 6]), BROADCAST);
    let defended = |world: &mut World| {
        let outcome = world.give(&claim);
        assert_eq!(outcome.verdict, Verdict::Drop(DropReason::AddressConflict));
        let announced =
            outcome.sent.frames.iter().filter(|frame| {
                frame[..6] == BROADCAST && frame[22..28] == SWITCH_MAC && frame[28..32] == VIP
            });
        announced.count()
    };
    assert_eq!((defended(&mut world), defended(&mut world)), (1, 0));
    world.pass(Micros::from_secs(10));
    assert_eq!(defended(&mut world), 1);
    assert_eq!(world.switch.conflict().map(|claim| claim.mac.0), Some(stranger));
}

#[test]
fn a_packet_longer_than_the_mtu_goes_nowhere() {
    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/files/a");
    let fits = client.data(sent, &[b'x'; 1448]);
    assert_eq!(fits.len(), 1514);
    world.give(&fits).expect_direct(&fits, backend);
    world.expect_drop(&client.data(sent, &[b'x'; 1449]), DropReason::TooLong);
}
