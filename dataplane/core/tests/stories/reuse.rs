//! One 4-tuple, two connections.

use baton_core::flow::State;
use baton_core::{DropReason, Event, Micros, Verdict};

use crate::common::client::{BARE, Client, USUAL, get, len};
use crate::common::packets::{ACK, FIN, PSH, RST};
use crate::common::world::{World, backend_of};

/// The same 4-tuple, opened again.
fn again(client: &Client) -> Client {
    Client { isn: client.isn.wrapping_add(0x0100_0000), clock: client.clock + 5000, ..client.clone() }
}

#[test]
fn a_syn_alone_changes_nothing_and_the_data_behind_it_replaces_the_flow() {
    for offer in [USUAL, BARE] {
        let mut world = World::new();
        let (old, outcome) = world.request(Client::with(offer), "/files/a");
        let first = outcome.message();
        let sent = len(&get("/files/a"));
        world.pass(Micros::from_secs(1));
        let mut new = again(&old);
        let answer = world.give(&new.syn().frame()).reply();
        new.take_syn_ack(&answer);
        // The old connection goes on: perhaps the SYN was forged.
        let more = world.give(&old.data(sent, b"more")).message();
        assert_eq!((more.generation, more.base_seq), (first.generation, first.base_seq));
        // The new handshake's acknowledgment is not the old connection's business, nor a reason to store anything.
        assert_eq!(world.give(&new.ack(0)).verdict, Verdict::Absorb);
        assert_eq!(world.event(Event::FlowsReplaced), 0);

        let message = world.give(&new.data(0, &get("/files/b"))).message();
        assert!(message.generation > first.generation);
        assert_eq!(message.base_seq, new.isn.wrapping_add(1));
        assert_eq!(message.base_ack, new.peer_isn.wrapping_add(1));
        assert_ne!(backend_of(&message), backend_of(&first), "chosen anew");
        assert_eq!((world.event(Event::FlowsReplaced), world.event(Event::Handoffs)), (1, 2));
        assert_eq!(world.switch.flow_count(), 1);
        assert_eq!(world.flow(new.tuple()).expect("a flow").created, world.now);
    }
}

#[test]
fn a_replacement_within_the_same_microsecond_is_newer_still() {
    let mut world = World::new();
    let (old, outcome) = world.request(Client::new(), "/files/a");
    let generation = outcome.message().generation;
    let (_, outcome) = world.request(again(&old), "/files/a");
    assert_eq!(outcome.message().generation, generation + 1);
}

#[test]
fn a_late_copy_of_the_connections_own_syn_does_not_start_it_again() {
    let mut world = World::new();
    let (client, outcome) = world.request(Client::new(), "/files/a");
    let first = outcome.message();
    world.pass(Micros::from_millis(300));
    assert_eq!(world.give(&client.syn().frame()).verdict, Verdict::Reply);
    // The request is repeated: the same handoff, or it would run twice.
    let message = world.give(&client.data(0, &get("/files/a"))).message();
    assert_eq!((message.generation, message.outer), (first.generation, first.outer));
    assert_eq!((world.event(Event::FlowsReplaced), world.event(Event::Handoffs)), (0, 1));
}

#[test]
fn data_that_does_not_fit_the_new_cookie_belongs_to_the_old_flow() {
    let mut world = World::new();
    let (old, sent, backend) = world.established(Client::new(), "/files/a");
    let mut new = again(&old);
    let answer = world.give(&new.syn().frame()).reply();
    new.take_syn_ack(&answer);
    for forged in [
        Client { peer_isn: new.peer_isn ^ 0x100, ..new.clone() },
        Client { isn: new.isn ^ 1, ..new.clone() },
        Client { echo: new.echo ^ 1, ..new.clone() },
    ] {
        let data = forged.data(0, &get("/files/b"));
        world.give(&data).expect_direct(&data, backend);
    }
    assert_eq!(world.event(Event::FlowsReplaced), 0);
    let more = old.data(sent, b"more");
    world.give(&more).expect_direct(&more, backend);
}

#[test]
fn a_damaged_first_segment_of_the_new_connection_does_not_end_the_old_flow() {
    let mut world = World::new();
    let (old, _, _) = world.established(Client::new(), "/files/a");
    let mut new = again(&old);
    world.connect(&mut new);
    let mut damaged = new.data(0, &get("/files/b"));
    *damaged.last_mut().expect("not empty") ^= 1;
    world.expect_drop(&damaged, DropReason::TcpChecksum);
    assert_eq!(world.flow(old.tuple()).expect("still there").state, State::Established);
}

#[test]
fn leaving_probing_or_resetting_without_a_request_does_not_end_the_old_flow() {
    let mut world = World::new();
    let (old, _, _) = world.established(Client::new(), "/files/a");
    let mut new = again(&old);
    world.connect(&mut new);
    for garbage in [&b""[..], b"\0"] {
        assert_eq!(world.give(&new.segment(u32::MAX, ACK, garbage).frame()).reply().flags, ACK);
    }
    assert_eq!(world.give(&new.fin(0)).reply().flags, FIN | ACK);
    world.expect_drop(&new.segment(0, RST | ACK, b"").frame(), DropReason::UnknownFlow);
    world.expect_drop(&new.segment(0, RST | ACK | PSH, b"why").frame(), DropReason::UnknownFlow);
    world.expect_drop(&new.segment(u32::MAX, ACK, b"two").frame(), DropReason::UnknownFlow);
    assert_eq!(world.event(Event::FlowsReplaced), 0);
    assert_eq!(world.flow(old.tuple()).expect("still there").state, State::Established);
}

#[test]
fn a_held_head_gives_way_to_a_new_connection() {
    let mut world = World::new();
    let mut old = Client::new();
    world.connect(&mut old);
    assert_eq!(world.give(&old.data(0, b"GET /files/a")).verdict, Verdict::Absorb);
    let mut new = again(&old);
    world.connect(&mut new);
    let message = world.give(&new.data(0, &get("/files/b"))).message();
    assert_eq!(message.base_seq, new.isn.wrapping_add(1));
    assert!(message.inner.ends_with(&get("/files/b")));
    // The place of the head is free again: all four can be taken.
    for port in 0..4 {
        let mut other = Client::at_port(port);
        world.connect(&mut other);
        assert_eq!(world.give(&other.data(0, b"GET")).verdict, Verdict::Absorb);
    }
}
