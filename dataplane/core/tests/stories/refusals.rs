//! What backends answer, and what strangers pretend they answered.

use baton_core::flow::State;
use baton_core::ids::BackendIndex;
use baton_core::policy::Pool;
use baton_core::switch::Backend;
use baton_core::{DropReason, Event, Micros, Snapshot, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::packets::{ACK, FIN, Message, PSH, read_tcp};
use crate::common::page::REFUSED_BY_ALL;
use crate::common::world::{
    Answer, GATEWAY, KEY_ID, SECRET, SWITCH_MAC, World, backend_of, inner_tuple, is_authentic, ring,
    settings, snapshot,
};

#[test]
fn a_refused_handoff_goes_to_the_next_backend_at_once() {
    let mut world = World::new();
    let (client, outcome) = world.request(Client::new(), "/files/a");
    let first = outcome.message();
    world.now = world.now.plus(Micros::from_millis(1));
    let second = world.give(&Answer::refused(&first).frame()).message();
    assert_eq!((backend_of(&first), backend_of(&second)), (0, 1));
    assert_eq!(second.inner, first.inner, "the client's packet, untouched");
    assert_eq!((second.kind, second.detail), (1, 0));
    assert_eq!((second.generation, second.issued), (world.now.0, world.now.0));
    assert!(is_authentic(&second, SECRET));
    assert_eq!((second.base_seq, second.base_ack), (first.base_seq, first.base_ack));
    assert_eq!((second.flags, second.wscale, second.mss), (first.flags, first.wscale, first.mss));
    assert_eq!(second.source_port, first.source_port);
    assert_eq!(world.event(Event::HandoffsRetried), 1);
    // What the client sends from now on goes there, too.
    let again = world.give(&client.data(0, &get("/files/a"))).message();
    assert_eq!((backend_of(&again), again.generation), (1, second.generation));
}

#[test]
fn a_refusal_in_the_same_microsecond_is_answered_with_a_newer_generation() {
    let mut world = World::new();
    let (_, outcome) = world.request(Client::new(), "/files/a");
    let first = outcome.message();
    let second = world.give(&Answer::refused(&first).frame()).message();
    assert_eq!(second.generation, first.generation + 1);
}

#[test]
fn packets_bounced_later_follow_to_the_backend_chosen_by_then() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = get("/files/a");
    let mut bounced = vec![world.give(&client.data(0, &request)).message()];
    for piece in 0..3 {
        bounced.push(world.give(&client.data(len(&request) + piece, b"x")).message());
    }
    let mut generations = Vec::new();
    for message in &bounced {
        let on = world.give(&Answer::refused(message).frame()).message();
        assert_eq!((backend_of(&on), &on.inner), (1, &message.inner));
        generations.push(on.generation);
    }
    assert!(
        generations.iter().all(|generation| *generation == generations[0]),
        "one decision: {generations:?}"
    );
    assert_eq!(world.event(Event::HandoffsRetried), 1);
}

#[test]
fn refused_by_all_the_client_is_told() {
    let mut world = World::new();
    let (client, outcome) = world.request(Client::new(), "/files/a");
    let second = world.give(&Answer::refused(&outcome.message()).frame()).message();
    let outcome = world.give(&Answer::refused(&second).frame());
    outcome.expect_page(&client, len(&get("/files/a")), REFUSED_BY_ALL);
    assert_eq!((world.counters.drops(DropReason::RefusedByAll), world.event(Event::Errors503)), (1, 1));
    assert_eq!(world.flow(client.tuple()).expect("closing").state, State::Answered);
    // The second copy of the refusal finds the connection answered.
    world.expect_drop(&Answer::refused(&second).frame(), DropReason::AnswerUnexpected);
}

#[test]
fn no_more_than_four_backends_are_tried() {
    let mut many = snapshot();
    many.backends = (20..26).map(|last| Backend::at([10, 61, 0, last].into())).collect();
    many.pools = vec![Pool::of((0..6).map(BackendIndex))];
    let mut world = World::with(settings(), Snapshot { ..many });
    let (client, outcome) = world.request(Client::new(), "/files/a");
    let mut message = outcome.message();
    let mut tried = vec![message.outer.destination];
    for _ in 0..3 {
        message = world.give(&Answer::refused(&message).frame()).message();
        tried.push(message.outer.destination);
    }
    tried.dedup();
    assert_eq!(tried.len(), 4, "each another: {tried:?}");
    let outcome = world.give(&Answer::refused(&message).frame());
    outcome.expect_page(&client, len(&get("/files/a")), REFUSED_BY_ALL);
    assert_eq!(world.event(Event::HandoffsRetried), 3);
}

#[test]
fn the_client_is_told_at_the_hardware_address_its_packets_come_from() {
    let mut world = World::new();
    let near = Client { mac: [2, 0, 0, 0, 9, 9], address: [10, 60, 0, 77], ..Client::new() };
    let (near, outcome) = world.request(near, "/routed/a");
    let message = outcome.message();
    let outcome = world.give(&Answer::refused(&message).frame());
    outcome.expect_page(&near, len(&get("/routed/a")), REFUSED_BY_ALL);
    let told = read_tcp(&outcome.sent.frames[0]);
    assert_eq!((told.to, told.from), (near.mac, SWITCH_MAC));
}

#[test]
fn a_finished_client_that_is_refused_by_all_is_told_too() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = client.segment(0, PSH | ACK | FIN, &get("/routed/a")).frame();
    let message = world.give(&request).message();
    let outcome = world.give(&Answer::refused(&message).frame());
    outcome.expect_page(&client, len(&get("/routed/a")) + 1, REFUSED_BY_ALL); // the FIN counts
}

#[test]
fn a_refusal_that_is_no_longer_possible_is_dropped() {
    let mut world = World::new();
    // Confirmed: some backend has the connection.
    let (mut client, outcome) = world.request(Client::new(), "/files/a");
    let message = outcome.message();
    client.read = 1;
    assert_eq!(world.give(&client.ack(len(&get("/files/a")))).verdict, Verdict::Forward);
    world.expect_drop(&Answer::refused(&message).frame(), DropReason::AnswerUnexpected);
    assert_eq!(world.flow(client.tuple()).expect("untouched").state, State::Established);
    // A generation of the future, and a connection nobody asked about.
    let (_, outcome) = world.request(Client::at_port(2), "/files/a");
    let mut newer = Answer::refused(&outcome.message());
    newer.covered[39] = newer.covered[39].wrapping_add(1);
    world.expect_drop(&newer.frame(), DropReason::AnswerUnexpected);
    let mut stranger = Answer::refused(&outcome.message());
    stranger.inner[21] ^= 1; // the client's port
    world.expect_drop(&stranger.frame(), DropReason::AnswerUnexpected);
    assert_eq!(world.event(Event::HandoffsRetried), 0);
}

#[test]
fn nothing_forged_is_believed() {
    let mut world = World::new();
    let (client, outcome) = world.request(Client::new(), "/files/a");
    let message = outcome.message();
    let good = Answer::refused(&message);
    for bit in 0..64 {
        world.expect_drop(&Answer { flip: 1 << bit, ..good.clone() }.frame(), DropReason::AnswerForged);
    }
    world.expect_drop(&Answer { secret: [1; 32], ..good.clone() }.frame(), DropReason::AnswerForged);
    // Each byte of the header and of the inner 4-tuple, flipped under a tag that was right before.
    let frame = good.frame();
    let header_at = 14 + 20 + 8;
    for at in (header_at..header_at + 56).chain(header_at + 56 + 12..header_at + 56 + 24) {
        let mut flipped = frame.clone();
        flipped[at] ^= 0x40;
        let verdict = world.give(&flipped).verdict;
        assert!(matches!(verdict, Verdict::Drop(_)), "byte {at}: {verdict:?}");
    }
    assert_eq!(world.flow(client.tuple()).expect("untouched").backend, BackendIndex(0));
    assert_eq!(world.event(Event::HandoffsRetried), 0);
}

#[test]
fn an_unknown_key_and_a_stale_answer_are_told_apart_from_a_forged_one() {
    let mut world = World::new();
    let (_, outcome) = world.request(Client::new(), "/files/a");
    let good = Answer::refused(&outcome.message());
    let mut other_key = good.clone();
    other_key.covered[9] = KEY_ID + 1;
    world.expect_drop(&other_key.frame(), DropReason::AnswerKey);
    let mut future = good.clone();
    future.covered[40..48].copy_from_slice(&(world.now.0 + 1).to_be_bytes());
    world.expect_drop(&future.frame(), DropReason::AnswerStale);
    world.now = world.now.plus(Micros(2_000_001));
    world.expect_drop(&good.frame(), DropReason::AnswerStale);
    world.now = Micros(world.now.0 - 1);
    assert_eq!(world.give(&good.frame()).verdict, Verdict::Forward, "two seconds old, no more");
}

#[test]
fn keys_rotate_without_losing_an_answer() {
    let mut world = World::new();
    let (_, outcome) = world.request(Client::new(), "/files/a");
    let under_old = Answer::refused(&outcome.message());
    let both = ring(&[(9, [9; 32]), (KEY_ID, SECRET)]);
    world.apply(Snapshot { keys: both, ..snapshot() });
    let message = world.give(&under_old.frame()).message();
    assert_eq!(message.key_id, 9, "the first key of the ring issues");
    assert!(is_authentic(&message, [9; 32]));
    world.apply(Snapshot { keys: ring(&[(9, [9; 32])]), ..snapshot() });
    world.expect_drop(&under_old.frame(), DropReason::AnswerKey);
}

#[test]
fn answers_that_were_not_asked_for_are_counted_by_kind() {
    let mut world = World::new();
    let (_, outcome) = world.request(Client::new(), "/files/a");
    let message = outcome.message();
    for kind in [1, 2, 3, 4, 5, 8, 10] {
        world.expect_drop(&Answer::of(&message, kind).frame(), DropReason::AnswerUnexpected);
    }
    let mut gone = Answer::of(&message, 6);
    gone.inner.truncate(40); // what a backend quotes of the packet
    gone.covered[32..40].fill(0); // it knows of no handoff: that is still on its way
    world.expect_drop(&gone.frame(), DropReason::AnswerGone);
    assert_eq!(world.event(Event::FlowsGone), 0);
    gone.inner.truncate(39);
    world.expect_drop(&gone.frame(), DropReason::AnswerMalformed);
}

#[test]
fn messages_that_cannot_be_read_are_malformed() {
    let mut world = World::new();
    let (_, outcome) = world.request(Client::new(), "/files/a");
    let good = Answer::refused(&outcome.message());
    let change = |at: usize, value: u8| {
        let mut changed = good.clone();
        changed.covered[at] = value;
        changed.frame()
    };
    for frame in [
        change(0, b'X'),
        change(4, 2),
        change(5, 0),
        change(5, 11),
        change(6, 1),
        change(7, 0x10),
        change(8, 0xf7),
        change(28, 1),
        change(31, 1),
    ] {
        world.expect_drop(&frame, DropReason::AnswerMalformed);
    }
    let mut inner = good.clone();
    inner.inner[0] = 0x46;
    world.expect_drop(&inner.frame(), DropReason::AnswerMalformed);
    let mut inner = good.clone();
    inner.inner[9] = 17;
    world.expect_drop(&inner.frame(), DropReason::AnswerMalformed);
    let mut port = good.frame();
    port[14 + 20 + 3] ^= 1;
    world.expect_drop(&port, DropReason::AnswerMalformed);
    let mut length = good.frame();
    length[14 + 20 + 5] -= 1;
    world.expect_drop(&length, DropReason::AnswerMalformed);
}

#[test]
fn answers_find_the_lcore_that_asked() {
    let mut asked = World::with(settings(), snapshot());
    let (_, outcome) = asked.request(Client::new(), "/files/a");
    let answer = Answer::refused(&outcome.message()).frame();
    let mut other = World::just_started(1, settings(), snapshot());
    other.now = asked.now;
    let steered = other.give(&answer);
    assert_eq!(steered.verdict, Verdict::Steer(0));
    assert_eq!(steered.frame, answer, "unchanged");
    assert_eq!(backend_of(&asked.give(&steered.frame).message()), 1);
    // The other way round the header names lcore 1.
    let mut second = World::just_started(1, settings(), snapshot());
    second.switch.learn(
        baton_core::switch::Learned {
            address: GATEWAY.into(),
            mac: smoltcp::wire::EthernetAddress(crate::common::world::ROUTER_MAC),
        },
        second.now,
    );
    second.pass(Micros::from_secs(3));
    let (client, outcome) = second.request(Client::new(), "/routed/a");
    assert_eq!(outcome.message().lcore, 1);
    assert_eq!(inner_tuple(&outcome.message().inner), client.tuple());
}

#[test]
fn a_refusal_while_no_other_backend_has_a_known_hardware_address_is_told_to_the_client() {
    let mut world = World::new();
    let (client, outcome) = world.request(Client::new(), "/files/a");
    let message: Message = outcome.message();
    world.silent = vec![crate::common::world::BACKENDS[1]];
    for _ in 0..60 {
        world.pass(Micros::from_secs(1));
        world.give(&client.data(0, &get("/files/a"))); // keeps the flow alive
    }
    assert!(world.switch.next_hop_of(BackendIndex(1)).is_none());
    let fresh = world.give(&client.data(0, &get("/files/a"))).message();
    assert_eq!(fresh.generation, message.generation);
    let outcome = world.give(&Answer::refused(&fresh).frame());
    outcome.expect_page(&client, len(&get("/files/a")), REFUSED_BY_ALL);
}
