//! Request heads that come in several segments.

use baton_core::flow::State;
use baton_core::switch::{HEAD_BYTES_MAX, SEGMENT_COUNT_MAX};
use baton_core::{DropReason, Event, Micros, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::packets::{ACK, FIN, Message, PSH, RST, read_message, read_tcp};
use crate::common::world::{SECRET, SWITCH_MAC, World, backend_of, is_authentic};

fn connected(world: &mut World) -> Client {
    let mut client = Client::new();
    world.connect(&mut client);
    client
}

/// Frames that carry `bytes` in pieces of at most `size`.
fn cut(client: &Client, bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    let starts = (0..).step_by(size);
    bytes.chunks(size).zip(starts).map(|(piece, at)| client.data(at, piece)).collect()
}

fn long_request(cookie_bytes: usize) -> Vec<u8> {
    let cookie = "c".repeat(cookie_bytes);
    format!("GET /files/a HTTP/1.1\r\nHost: www.example.org\r\nCookie: {cookie}\r\n\r\n").into_bytes()
}

/// Gives all frames but the last, which are kept, and then the last; returns what is sent, in order.
fn hold_and_send(world: &mut World, frames: &[Vec<u8>]) -> Vec<Message> {
    let (last, held) = frames.split_last().expect("at least one");
    for frame in held {
        assert_eq!(world.give(frame).verdict, Verdict::Absorb);
    }
    let outcome = world.give(last);
    let mut sent: Vec<Message> = outcome.sent.frames.iter().map(|frame| read_message(frame)).collect();
    sent.push(outcome.message());
    sent
}

#[test]
fn a_head_of_8_kb_is_handed_off_in_order_and_byte_for_byte() {
    let mut world = World::new();
    let client = connected(&mut world);
    let frames = cut(&client, &long_request(8192), 1364);
    assert_eq!(frames.len(), 7);
    let sent = hold_and_send(&mut world, &frames);
    assert_eq!(sent.len(), frames.len());
    for (message, frame) in sent.iter().zip(&frames) {
        assert_eq!(message.inner, frame[14..]);
        assert!(is_authentic(message, SECRET));
        assert_eq!((message.kind, backend_of(message)), (1, 0));
        assert_eq!(message.base_seq, client.isn.wrapping_add(1), "all tell of the first byte");
        assert_eq!((message.generation, message.issued), (sent[0].generation, world.now.0));
    }
    assert_eq!((world.event(Event::HeadsHeld), world.event(Event::Handoffs)), (6, 1));
    assert_eq!(world.event(Event::HandoffPackets), 7);
    assert_eq!(world.flow(client.tuple()).expect("a flow").state, State::Unconfirmed);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_handed_off() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = b"GET /files/ HTTP/1.0\r\n\r\n";
    assert!(request.len() <= SEGMENT_COUNT_MAX);
    let frames = cut(&client, request, 1);
    let sent = hold_and_send(&mut world, &frames);
    let stream: Vec<u8> = sent.iter().flat_map(|message| message.inner[52..].to_vec()).collect();
    assert_eq!(stream, request);
}

#[test]
fn every_cut_of_a_request_in_two_is_handed_off() {
    let request = get("/files/a");
    let mut world = World::new();
    for (port, at) in (1..).zip(1..len(&request)) {
        let mut client = Client::at_port(port);
        world.connect(&mut client);
        let (front, back) = request.split_at(usize::try_from(at).expect("short"));
        let frames = [client.data(0, front), client.data(at, back)];
        let sent = hold_and_send(&mut world, &frames);
        assert_eq!(
            (&sent[0].inner[..], &sent[1].inner[..]),
            (&frames[0][14..], &frames[1][14..]),
            "cut at {at}"
        );
    }
}

#[test]
fn repeats_and_gaps_are_dropped_until_the_right_segment_comes() {
    let mut world = World::new();
    let client = connected(&mut world);
    let frames = cut(&client, &get("/files/a"), 10);
    assert_eq!(world.give(&frames[0]).verdict, Verdict::Absorb);
    world.expect_drop(&frames[0], DropReason::HoldRepeat);
    world.expect_drop(&frames[2], DropReason::HoldGap);
    assert_eq!(world.give(&frames[1]).verdict, Verdict::Absorb);
    world.expect_drop(&frames[0], DropReason::HoldRepeat);
    let sent = hold_and_send(&mut world, &frames[2..]);
    assert_eq!(sent.len(), frames.len(), "those held before, too");
    // Once handed off, a repeated segment goes the same way, whichever it is.
    assert_eq!(world.give(&frames[1]).message().generation, sent[0].generation);
}

#[test]
fn a_retransmission_that_grew_is_taken_for_what_is_new_in_it() {
    // A client whose first segments were small puts them together when it repeats them; the switch has not acknowledged.
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    assert_eq!(world.give(&client.data(0, &request[..10])).verdict, Verdict::Absorb);
    assert_eq!(world.give(&client.data(0, &request[..25])).verdict, Verdict::Absorb);
    assert_eq!(world.give(&client.data(5, &request[5..30])).verdict, Verdict::Absorb);
    let whole = client.data(0, &request);
    let outcome = world.give(&whole);
    assert_eq!(outcome.message().inner, whole[14..]);
    let held: Vec<Vec<u8>> =
        outcome.sent.frames.iter().map(|frame| read_message(frame).inner[52..].to_vec()).collect();
    assert_eq!(held, [&request[..10], &request[..25], &request[5..30]]);
}

#[test]
fn a_retransmission_that_tells_another_story_is_refused() {
    // What was parsed is what is sent on: two versions of the same bytes would let the backend read the other one.
    let mut world = World::new();
    let client = connected(&mut world);
    assert_eq!(world.give(&client.data(0, b"GET /files/a")).verdict, Verdict::Absorb);
    let outcome = world.give(&client.data(0, b"GET /routed/a HTTP/1.1\r\n\r\n"));
    outcome.expect_reset(&client);
    assert_eq!(world.counters.drops(DropReason::RequestMalformed), 1);
    assert_eq!(world.switch.flow_count(), 0);
}

#[test]
fn a_segment_from_before_the_head_is_no_part_of_it() {
    let mut world = World::new();
    let client = connected(&mut world);
    assert_eq!(world.give(&client.data(0, b"GET /files/a")).verdict, Verdict::Absorb);
    for payload in [&b""[..], b"?", b"?GET /files/a HTTP/1.0\r\n\r\n"] {
        world.expect_drop(&client.data(u32::MAX, payload), DropReason::HoldRepeat);
    }
    assert_eq!(world.flow(client.tuple()).expect("still held").state, State::Holding);
}

#[test]
fn a_segment_that_acknowledges_something_else_is_no_part_of_a_held_head() {
    // The backend's kernel would not read it: the switch must not dispatch by it.
    let mut world = World::new();
    let client = connected(&mut world);
    assert_eq!(world.give(&client.data(0, b"GET /files/a")).verdict, Verdict::Absorb);
    for acked in [u32::MAX, 1] {
        let peer_isn = client.peer_isn.wrapping_add(acked);
        let stranger = Client { peer_isn, ..client.clone() };
        world.expect_drop(&stranger.data(12, b" HTTP/1.0\r\n\r\n"), DropReason::UnknownFlow);
    }
    let outcome = world.give(&client.data(12, b"bc HTTP/1.0\r\n\r\n"));
    assert!(outcome.message().inner.ends_with(b"bc HTTP/1.0\r\n\r\n"));
}

#[test]
fn damaged_and_empty_segments_of_a_held_head_change_nothing() {
    let mut world = World::new();
    let client = connected(&mut world);
    let frames = cut(&client, &get("/files/a"), 30);
    assert_eq!(world.give(&frames[0]).verdict, Verdict::Absorb);
    let mut damaged = frames[1].clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    world.expect_drop(&damaged, DropReason::TcpChecksum);
    assert_eq!(world.give(&client.ack(30)).verdict, Verdict::Absorb);
    assert_eq!(hold_and_send(&mut world, &frames[1..]).len(), frames.len());
}

#[test]
fn bytes_and_segments_of_a_held_head_are_bounded() {
    let many = SEGMENT_COUNT_MAX + 1;
    for (size, count) in [(1364, HEAD_BYTES_MAX / 1364 + 1), (1, many)] {
        let mut world = World::new();
        let client = connected(&mut world);
        let frames = cut(&client, &long_request(size * count), size);
        for frame in &frames[..count - 1] {
            assert_eq!(world.give(frame).verdict, Verdict::Absorb);
        }
        world.give(&frames[count - 1]).expect_reset(&client);
        assert_eq!((world.counters.drops(DropReason::HeadTooLarge), world.switch.flow_count()), (1, 0));
    }
}

#[test]
fn a_head_never_finished_ends_with_a_reset_that_the_client_believes() {
    let mut world = World::new();
    let client = connected(&mut world);
    assert_eq!(world.give(&client.data(0, b"GET /fil")).verdict, Verdict::Absorb);
    let sent = world.pass(Micros::from_millis(12_700));
    assert_eq!(sent.len(), 1);
    let reset = read_tcp(&sent[0]);
    assert_eq!((reset.to, reset.from), (client.mac, SWITCH_MAC));
    assert_eq!((reset.source, reset.destination), (client.vip, client.address));
    assert_eq!((reset.source_port, reset.destination_port), (client.vip_port, client.port));
    assert_eq!((reset.flags, reset.seq), (RST, client.peer_isn.wrapping_add(1)));
    assert_eq!((world.event(Event::HoldsExpired), world.event(Event::FlowsExpired)), (1, 1));
    assert_eq!((world.event(Event::ResetsSent), world.switch.flow_count()), (1, 0));
}

#[test]
fn a_head_that_comes_drop_by_drop_gets_no_more_time_than_any_other() {
    let mut world = World::new();
    let client = connected(&mut world);
    let mut resets = 0;
    for at in 0..7 {
        let request = [b"GET /files/"[at]];
        if world.switch.flow_count() > 0 || at == 0 {
            assert_eq!(
                world.give(&client.data(u32::try_from(at).expect("small"), &request)).verdict,
                Verdict::Absorb
            );
        }
        resets += world.pass(Micros::from_millis(2_000)).len();
    }
    assert_eq!((resets, world.switch.flow_count()), (1, 0));
    assert_eq!(world.event(Event::HoldsExpired), 1);
}

#[test]
fn a_fin_in_the_middle_of_a_head_ends_in_a_reset() {
    for payload in [&b""[..], b"le"] {
        let mut world = World::new();
        let client = connected(&mut world);
        assert_eq!(world.give(&client.data(0, b"GET /fi")).verdict, Verdict::Absorb);
        world.give(&client.segment(7, FIN | ACK, payload).frame()).expect_reset(&client);
        assert_eq!(world.counters.drops(DropReason::RequestMalformed), 1);
        assert_eq!(world.switch.flow_count(), 0);
    }
}

#[test]
fn a_fin_at_the_end_of_a_head_is_handed_off_and_remembered() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    assert_eq!(world.give(&client.data(0, &request[..10])).verdict, Verdict::Absorb);
    let last = client.segment(10, FIN | PSH | ACK, &request[10..]).frame();
    let outcome = world.give(&last);
    assert_eq!(outcome.message().inner, last[14..]);
    assert_eq!(outcome.sent.frames.len(), 1);
    assert_eq!(world.flow(client.tuple()).expect("a flow").state, State::ClosingUnconfirmed);
}

#[test]
fn a_client_that_resets_a_held_head_is_forgotten_if_it_is_the_client() {
    let mut world = World::new();
    let client = connected(&mut world);
    assert_eq!(world.give(&client.data(0, b"GET /fi")).verdict, Verdict::Absorb);
    for at in [6, 8] {
        world.give(&client.rst(at));
        assert_eq!(world.switch.flow_count(), 1, "a RST beside the point");
    }
    assert_eq!(world.event(Event::FinUnbelieved), 2);
    assert_eq!(world.give(&client.rst(7)).verdict, Verdict::Absorb);
    assert_eq!(world.switch.flow_count(), 0);
}

#[test]
fn places_for_heads_are_bounded_and_come_back() {
    let mut world = World::new();
    let mut clients: Vec<Client> = (1..=5).map(Client::at_port).collect();
    for client in &mut clients {
        world.connect(client);
    }
    for client in &clients[..4] {
        assert_eq!(world.give(&client.data(0, b"GET /files")).verdict, Verdict::Absorb);
    }
    world.expect_drop(&clients[4].data(0, b"GET /files"), DropReason::HoldsFull);
    assert_eq!(world.switch.flow_count(), 4);
    // One finishes, one is malformed, one resets, one times out: all four places are free again.
    assert_eq!(world.give(&clients[0].data(10, b"/ HTTP/1.0\r\n\r\n")).verdict, Verdict::Forward);
    world.give(&clients[1].data(10, b"\0\r\n\r\n")).expect_reset(&clients[1]);
    assert_eq!(world.give(&clients[2].rst(10)).verdict, Verdict::Absorb);
    assert_eq!(world.pass(Micros::from_millis(12_700)).len(), 1);
    for client in &clients[1..] {
        assert_eq!(world.give(&client.data(0, b"GET /files")).verdict, Verdict::Absorb);
    }
}

#[test]
fn a_held_head_for_nobody_is_reset_when_it_is_whole() {
    for (path, reason) in [("/nowhere", DropReason::NoRule), ("/dead/a", DropReason::NoBackend)] {
        let mut world = World::new();
        let client = connected(&mut world);
        let frames = cut(&client, &get(path), 30);
        assert_eq!(world.give(&frames[0]).verdict, Verdict::Absorb);
        world.give(&frames[1]).expect_reset(&client);
        assert_eq!((world.counters.drops(reason), world.switch.flow_count()), (1, 0));
    }
}

#[test]
fn without_buffers_for_the_held_segments_the_client_repeats_them() {
    let mut world = World::new();
    let client = connected(&mut world);
    let frames = cut(&client, &get("/files/a"), 20);
    for frame in &frames[..frames.len() - 1] {
        assert_eq!(world.give(frame).verdict, Verdict::Absorb);
    }
    let outcome = world.give_in(&frames[frames.len() - 1], 128, 128, true);
    let generation = outcome.message().generation;
    let lost = u64::try_from(frames.len() - 1).expect("few");
    assert_eq!(world.event(Event::TransmitFailed), lost);
    for frame in &frames {
        let message = world.give(frame).message();
        assert_eq!((&message.inner[..], message.generation), (&frame[14..], generation));
    }
}
