//! The search for an owner: repeated, bounded, and at last given up.

use baton_core::flow::State;
use baton_core::switch::Backend;
use baton_core::{DropReason, Event, Micros, Settings, Verdict};

use crate::common::client::{Client, get};
use crate::common::packets::{ACK, RST};
use crate::common::world::{World, backend_of, settings, snapshot};
use crate::support::{INTERVAL, Socket, ask, deny, expect_reset_at, learning_world, questions, stranger};

#[test]
fn three_questions_that_all_deny_end_in_a_reset_that_gives_a_lost_first_segment_time() {
    let mut world = World::new();
    let client = Client { read: 5000, ..stranger() };
    let first = ask(&mut world, &client.ack(1000));
    deny(&mut world, &first);
    for turn in 2..=3 {
        let again = questions(&world.pass(INTERVAL));
        assert_eq!(again.len(), first.len(), "question {turn}");
        assert_eq!(again[0].inner[20..], first[0].inner[20..], "the same question");
        assert_eq!(again[0].issued, world.now.0);
        world.expect_drop(&client.ack(1000), DropReason::UnknownFlow);
    }
    assert!(
        world.pass(Micros::from_millis(2700)).is_empty(),
        "a client repeats its first segment before that"
    );
    let last = world.pass(INTERVAL);
    assert_eq!(last.len(), 1);
    expect_reset_at(&last[0], &client, client.peer_isn.wrapping_add(5001));
    assert_eq!(world.event(Event::FlowsUnowned), 1);
    assert_eq!(world.switch.flow_count(), 0);
    assert!(world.pass(Micros::from_secs(1)).is_empty());
    ask(&mut world, &client.ack(1000)); // and from the beginning
}

#[test]
fn a_usable_backend_that_is_silent_may_have_it() {
    let mut world = World::new();
    let client = stranger();
    let first = ask(&mut world, &client.ack(0));
    deny(&mut world, &first[..1]);
    deny(&mut world, &first[2..]);
    assert_eq!(questions(&world.pass(Micros::from_secs(4))).len(), 8, "asked, and not reset");
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
    ask(&mut world, &client.ack(0)); // its next packet asks again

    // Of one that is not usable, nothing is awaited.
    let mut world = World::new();
    let first = ask(&mut world, &client.ack(0));
    deny(&mut world, &first[..3]);
    world.pass(Micros::from_secs(4));
    assert_eq!((world.event(Event::FlowsUnowned), world.event(Event::ResetsSent)), (1, 1));
}

#[test]
fn answers_are_judged_by_the_newest_packet() {
    // The first was anybody's invention, or of a connection long over.
    let mut world = World::new();
    let client = stranger();
    let asked = ask(&mut world, &Client { isn: client.isn ^ 1 << 31, ..client.clone() }.ack(0));
    world.expect_drop(&client.ack(0), DropReason::UnknownFlow);
    let fitting = Socket {
        rcv_nxt: client.isn.wrapping_add(1),
        snd_nxt: client.peer_isn.wrapping_add(1),
        ..Socket::of(&asked[1])
    };
    assert_eq!(world.give(&fitting.mine(&asked[1]).frame()).verdict, Verdict::Absorb);
    assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Established));
}

#[test]
fn while_learning_nobody_is_reset() {
    let mut world = learning_world();
    let client = stranger();
    let asked = ask(&mut world, &client.ack(0));
    deny(&mut world, &asked);
    let sent = questions(&world.pass(Micros::from_millis(2900)));
    assert_eq!(sent.len(), 8, "two more questions at four backends");
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (1, 0));
}

#[test]
fn who_resets_is_not_reset() {
    for rst in [stranger().rst(0), stranger().segment(0, RST | ACK, b"").frame()] {
        let mut world = World::new();
        let asked = ask(&mut world, &rst);
        deny(&mut world, &asked);
        assert_eq!(questions(&world.pass(Micros::from_secs(4))).len(), 8);
        assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
    }
    // One that comes during the search counts as well.
    let mut world = World::new();
    let asked = ask(&mut world, &stranger().ack(0));
    deny(&mut world, &asked);
    world.expect_drop(&stranger().rst(0), DropReason::UnknownFlow);
    assert_eq!(questions(&world.pass(Micros::from_secs(4))).len(), 8);
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
}

#[test]
fn so_many_questions_a_second_and_no_more() {
    let more = (0..500u16).map(|host| {
        let [high, low] = host.to_be_bytes();
        Backend { address: [10, 62, high, low].into(), usable: true }
    });
    let mut snapshot = snapshot();
    snapshot.backends.extend(more);
    let mut world = World::with(Settings { flow_count_max: 200, ..settings() }, snapshot);
    for port in 1..=100 {
        world.expect_drop(&Client { port, ..stranger() }.ack(0), DropReason::UnknownFlow);
    }
    assert_eq!(world.event(Event::QuestionsSent), 50_400, "the last that was begun is asked everywhere");
    let late = Client { port: 101, ..stranger() }.ack(0);
    world.expect_drop(&late, DropReason::AskLimit);
    assert_eq!((world.event(Event::QuestionsSent), world.switch.flow_count()), (50_400, 100));

    // Searches that cannot go on are given up; nobody is reset for want of a question.
    world.pass(Micros::from_millis(200));
    assert_eq!((world.event(Event::QuestionsSent), world.switch.flow_count()), (50_400, 0));
    assert_eq!((world.event(Event::ResetsSent), world.counters.drops(DropReason::AskLimit)), (0, 101));
    world.pass(Micros::from_secs(1));
    world.expect_drop(&late, DropReason::UnknownFlow);
    assert_eq!(world.event(Event::QuestionsSent), 50_904);
}

#[test]
fn a_full_table_asks_nothing_unless_a_flow_is_idle() {
    let mut world = World::with(Settings { flow_count_max: 1, ..settings() }, snapshot());
    let (client, _, _) = world.established(Client::new(), "/files/a");
    let outcome = world.give(&Client { port: 2, ..stranger() }.ack(0));
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::TableFull));
    assert!(outcome.sent.frames.is_empty());
    assert_eq!(world.event(Event::OwnersSought), 0);
    assert_eq!(world.flow(client.tuple()).expect("kept").state, State::Established);
    // What is idle can be asked for in turn; what is asked for gives way first.
    world.pass(Micros::from_secs(10));
    for port in 2..5 {
        ask(&mut world, &Client { port, ..stranger() }.ack(0));
        assert_eq!((world.switch.flow_count(), world.event(Event::FlowsEvicted)), (1, u64::from(port) - 1));
    }
}

#[test]
fn a_new_connection_need_not_wait_for_a_stray_packet_of_an_old_one() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    ask(&mut world, &Client { isn: 5_000_000, ..stranger() }.ack(0));
    let outcome = world.give(&client.data(0, &get("/files/a")));
    backend_of(&outcome.message());
    assert_eq!(world.flow(client.tuple()).expect("new").state, State::Unconfirmed);
    assert_eq!((world.event(Event::FlowsReplaced), world.event(Event::Handoffs)), (1, 1));
    // Only with a good checksum.
    let mut world = World::new();
    world.connect(&mut client);
    ask(&mut world, &Client { isn: 5_000_000, ..stranger() }.ack(0));
    let mut bad = client.data(0, &get("/files/a"));
    bad[51] ^= 1;
    world.expect_drop(&bad, DropReason::TcpChecksum);
}
