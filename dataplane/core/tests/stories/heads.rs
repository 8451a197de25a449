//! Request heads that come in several segments: how they are put together, and their bounds.

use baton_core::flow::State;
use baton_core::switch::{HEAD_BYTES_MAX, SEGMENT_COUNT_MAX};
use baton_core::{DropReason, Event, Micros, Verdict};

use crate::common::backend::{HANDOFF, inner_of};
use crate::common::client::{BARE, Client, get, len};
use crate::common::packets::{ACK, FIN, Message, PSH, TcpFrame, read_message};
use crate::common::page::{CUT_OFF, DISPUTED, MALFORMED, NO_BACKEND, NO_RULE, TOO_LARGE, UNFINISHED};
use crate::common::page::{page, read_to_fin, tsval};
use crate::common::world::{Outcome, SECRET, World, backend_of, is_authentic};

pub(crate) fn connected(world: &mut World) -> Client {
    let mut client = Client::new();
    world.connect(&mut client);
    client
}

/// Frames that carry `bytes` in pieces of at most `size`.
pub(crate) fn cut(client: &Client, bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    let starts = (0..).step_by(size);
    bytes.chunks(size).zip(starts).map(|(piece, at)| client.data(at, piece)).collect()
}

pub(crate) fn long_request(cookie_bytes: usize) -> Vec<u8> {
    let cookie = "c".repeat(cookie_bytes);
    format!("GET /files/a HTTP/1.1\r\nHost: www.example.org\r\nCookie: {cookie}\r\n\r\n").into_bytes()
}

/// Insists that a segment of a head was kept: the first is acknowledged later, every other at once.
pub(crate) fn expect_kept(outcome: &Outcome, is_first: bool) {
    assert_eq!(outcome.verdict, if is_first { Verdict::Absorb } else { Verdict::Reply });
    assert!(outcome.sent.frames.is_empty());
}

/// Reads the handoffs that a segment set free.
pub(crate) fn handed(outcome: &Outcome) -> Vec<Message> {
    assert_eq!(outcome.verdict, Verdict::Absorb, "it went with the others");
    outcome.sent.frames.iter().map(|frame| read_message(frame)).collect()
}

/// Gives all frames but the last, which are kept, and then the last; returns what is sent, in order.
pub(crate) fn hold_and_send(world: &mut World, frames: &[Vec<u8>]) -> Vec<Message> {
    let (last, held) = frames.split_last().expect("at least one");
    for (place, frame) in held.iter().enumerate() {
        expect_kept(&world.give(frame), place == 0);
    }
    handed(&world.give(last))
}

/// Insists that messages carry `bytes` from the first byte of the connection on, in order, each of them a handoff that
/// names the base segment, the first of them being it; returns their sizes.
pub(crate) fn expect_stream(messages: &[Message], client: &Client, bytes: &[u8]) -> Vec<usize> {
    let mut stream = Vec::new();
    for message in messages {
        assert!(is_authentic(message, SECRET));
        assert_eq!(message.kind, HANDOFF);
        assert_eq!(message.base_seq, client.isn.wrapping_add(1), "all tell of the first byte");
        assert_eq!(message.base_ack, client.peer_isn.wrapping_add(1));
        let first = messages.first().expect("at least this one");
        assert_eq!((message.generation, message.tsval), (first.generation, first.tsval));
        let inner = inner_of(message);
        assert_eq!(inner.seq, message.base_seq.wrapping_add(len(&stream)), "in order");
        assert_eq!((inner.ack, inner.flags & !(PSH | FIN)), (message.base_ack, ACK));
        if stream.is_empty() && client.offer.timestamps {
            assert_eq!(inner.stamps, Some((message.tsval, message.tsecr)), "those of the base segment");
        }
        stream.extend(inner.payload);
    }
    assert_eq!(String::from_utf8_lossy(&stream), String::from_utf8_lossy(bytes));
    messages.iter().map(|message| inner_of(message).payload.len()).collect()
}

#[test]
fn a_head_of_8_kb_is_handed_off_in_order_and_byte_for_byte() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = long_request(8192);
    let frames = cut(&client, &request, 1364);
    assert_eq!(frames.len(), 7);
    let sent = hold_and_send(&mut world, &frames);
    let sizes = expect_stream(&sent, &client, &request);
    assert_eq!(sizes[..6], [1364; 6], "as large as fits the tunnel");
    assert_eq!(sent[0].outer.protocol, 17);
    assert!(sent.iter().all(|message| backend_of(message) == 0 && message.issued == world.now.0));
    assert_eq!((world.event(Event::HeadsHeld), world.event(Event::Handoffs)), (6, 1));
    assert_eq!((world.event(Event::HandoffPackets), world.event(Event::HeadAcks)), (7, 5));
    assert_eq!(world.flow(client.tuple()).expect("a flow").state, State::Unconfirmed);
}

#[test]
fn a_head_of_30_kb_is_handed_off_whole_with_and_without_timestamps() {
    for (offer, size) in [(crate::common::client::USUAL, 1364), (BARE, 1376)] {
        let mut world = World::new();
        let mut client = Client::with(offer);
        world.connect(&mut client);
        let request = long_request(30_000);
        let frames = cut(&client, &request, 1000);
        let sent = hold_and_send(&mut world, &frames);
        let sizes = expect_stream(&sent, &client, &request);
        let (last, full) = sizes.split_last().expect("many");
        assert!(full.iter().all(|bytes| *bytes == size) && *last <= size, "cut anew: {sizes:?}");
        assert!(sent.iter().all(|message| message.inner.len() + 84 <= 1500));
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_handed_off_in_one_piece() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = b"GET /files/ HTTP/1.0\r\n\r\n";
    let sent = hold_and_send(&mut world, &cut(&client, request, 1));
    assert_eq!(expect_stream(&sent, &client, request), [request.len()]);
}

#[test]
fn every_cut_of_a_request_in_two_is_handed_off() {
    let request = get("/files/a");
    let mut world = World::new();
    for (port, at) in (1..).zip(1..len(&request)) {
        world.pass(Micros::from_secs(40)); // the flow before this one is over, its place free
        let mut client = Client::at_port(port);
        world.connect(&mut client);
        let (front, back) = request.split_at(usize::try_from(at).expect("short"));
        let sent = hold_and_send(&mut world, &[client.data(0, front), client.data(at, back)]);
        expect_stream(&sent, &client, &request);
    }
}

#[test]
fn the_base_segment_keeps_its_own_stamps_though_its_clients_clock_went_on() {
    let mut world = World::new();
    let client = connected(&mut world);
    let later = Client { clock: client.clock.wrapping_add(50), ..client.clone() };
    let request = long_request(2000);
    let frames = [client.data(0, &request[..800]), later.data(800, &request[800..])];
    let sent = hold_and_send(&mut world, &frames);
    expect_stream(&sent, &client, &request);
    assert_eq!(sent[0].tsval, tsval(&client));
    let stamps: Vec<_> = sent.iter().map(|message| inner_of(message).stamps).collect();
    assert_eq!(stamps, [tsval(&client), tsval(&later)].map(|value| Some((value, client.echo))));
}

#[test]
fn what_comes_with_the_end_of_a_head_goes_with_it() {
    // The beginning of a body, with a blank line in it as at the end of a head.
    let mut world = World::new();
    let client = connected(&mut world);
    let request = [&get("/files/a")[..], b"of a body\r\n\r\nthe beginning"].concat();
    let sent = hold_and_send(&mut world, &[client.data(0, &request[..20]), client.data(20, &request[20..])]);
    assert_eq!(expect_stream(&sent, &client, &request), [request.len()]);
}

#[test]
fn segments_in_any_order_make_the_head() {
    let request = get("/files/a");
    for order in [[0, 4, 3, 2, 1], [0, 2, 4, 1, 3], [0, 3, 1, 4, 2], [0, 1, 3, 4, 2]] {
        let mut world = World::new();
        let client = connected(&mut world);
        let frames = cut(&client, &request, 10);
        assert_eq!(frames.len(), 5);
        let shuffled: Vec<Vec<u8>> = order.iter().map(|at: &usize| frames[*at].clone()).collect();
        let sent = hold_and_send(&mut world, &shuffled);
        expect_stream(&sent, &client, &request);
        assert_eq!(world.counters.drops(DropReason::HoldGap), 0, "{order:?}");
    }
}

/// `World::give_in` insists on one reason for one frame.
#[test]
fn a_piece_too_far_ahead_whose_acknowledgment_has_no_room_is_dropped_once() {
    let mut world = World::new();
    let client = connected(&mut world);
    expect_kept(&world.give(&client.data(0, b"GET /files/a HTT")), true);
    // Shorter than what acknowledges it: it leaves out the timestamps.
    let far = TcpFrame { options: Vec::new(), ..client.segment(40_000, PSH | ACK, b"x") };
    let outcome = world.give_in(&far.frame(), 128, 0, false);
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::NoHeadroom));
    expect_kept(&world.give(&far.frame()), false);
    assert_eq!(world.counters.drops(DropReason::HoldGap), 1);
}

#[test]
fn repeats_are_counted_and_a_ninth_piece_apart_must_come_again() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = long_request(300);
    let frames = cut(&client, &request, 10);
    expect_kept(&world.give(&frames[0]), true);
    expect_kept(&world.give(&frames[0]), false);
    for piece in 1..=8 {
        expect_kept(&world.give(&frames[piece * 2]), false);
    }
    assert_eq!((world.event(Event::HeadRepeats), world.event(Event::HeadsHeld)), (1, 9));
    expect_kept(&world.give(&frames[18]), false); // acknowledged, but not kept
    assert_eq!(world.counters.drops(DropReason::HoldGap), 1);
    expect_kept(&world.give(&frames[17]), false); // joins the last piece
    for frame in &frames[1..frames.len() - 1] {
        expect_kept(&world.give(frame), false);
    }
    let sent = handed(&world.give(&frames[frames.len() - 1]));
    expect_stream(&sent, &client, &request);
}

#[test]
fn a_retransmission_that_grew_is_taken_for_what_is_new_in_it() {
    // A client whose first segments were small puts them together when it repeats them.
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    expect_kept(&world.give(&client.data(0, &request[..10])), true);
    expect_kept(&world.give(&client.data(0, &request[..25])), false);
    expect_kept(&world.give(&client.data(5, &request[5..30])), false);
    let sent = handed(&world.give(&client.data(0, &request)));
    expect_stream(&sent, &client, &request);
}

#[test]
fn a_retransmission_that_tells_another_story_is_refused() {
    // What was parsed is what is sent on: two versions of the same bytes would let the backend read the other one.
    for (at, other) in [(0, &b"GET /routed/a HTTP/1.1\r\n\r\n"[..]), (10, b"/b"), (19, b"/1.0\r\n\r\n")] {
        let mut world = World::new();
        let client = connected(&mut world);
        expect_kept(&world.give(&client.data(0, b"GET /files/a")), true);
        expect_kept(&world.give(&client.data(16, b"TP/1.1")), false); // ahead of a gap
        world.give(&client.data(at, other)).expect_page(&client, 12, DISPUTED);
        assert_eq!(world.counters.drops(DropReason::RequestDisputed), 1);
        assert_eq!(world.flow(client.tuple()).expect("closing").state, State::Answered);
    }
}

#[test]
fn a_keepalive_probe_with_a_byte_of_anything_is_no_other_story() {
    let mut world = World::new();
    let client = connected(&mut world);
    expect_kept(&world.give(&client.data(0, b"GET /files/a")), true);
    expect_kept(&world.give(&client.data(11, b"?")), false); // acknowledged, not looked at
    let sent = handed(&world.give(&client.data(12, b" HTTP/1.0\r\n\r\n")));
    assert!(sent[0].inner.ends_with(b"GET /files/a HTTP/1.0\r\n\r\n"));
}

#[test]
fn a_segment_from_before_the_head_is_no_part_of_it() {
    let mut world = World::new();
    let client = connected(&mut world);
    expect_kept(&world.give(&client.data(0, b"GET /files/a")), true);
    for payload in [&b""[..], b"?", b"?GET /files/b HTTP/1.0\r\n\r\n"] {
        expect_kept(&world.give(&client.data(u32::MAX, payload)), false); // as a probe: acknowledged
    }
    assert_eq!(world.flow(client.tuple()).expect("still held").state, State::Holding);
    let sent = handed(&world.give(&client.data(12, b" HTTP/1.0\r\n\r\n")));
    expect_stream(&sent, &client, b"GET /files/a HTTP/1.0\r\n\r\n");
}

#[test]
fn a_segment_that_acknowledges_something_else_is_no_part_of_a_held_head() {
    // The backend's kernel would not read it: the switch must not dispatch by it.
    let mut world = World::new();
    let client = connected(&mut world);
    expect_kept(&world.give(&client.data(0, b"GET /files/a")), true);
    for acked in [u32::MAX, 1] {
        let peer_isn = client.peer_isn.wrapping_add(acked);
        let stranger = Client { peer_isn, ..client.clone() };
        world.expect_drop(&stranger.data(12, b" HTTP/1.0\r\n\r\n"), DropReason::HeadAck);
    }
    let sent = handed(&world.give(&client.data(12, b"bc HTTP/1.0\r\n\r\n")));
    expect_stream(&sent, &client, b"GET /files/abc HTTP/1.0\r\n\r\n");
}

#[test]
fn damaged_and_empty_segments_of_a_held_head_change_nothing() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    let frames = cut(&client, &request, 30);
    expect_kept(&world.give(&frames[0]), true);
    let mut damaged = frames[1].clone();
    *damaged.last_mut().expect("not empty") ^= 1;
    world.expect_drop(&damaged, DropReason::TcpChecksum);
    assert_eq!(world.give(&client.ack(30)).verdict, Verdict::Absorb, "there is nothing to say");
    expect_stream(&handed(&world.give(&frames[1])), &client, &request);
}

#[test]
fn bytes_and_segments_of_a_held_head_are_bounded() {
    // As many bytes as there is room for, and not one less; as many segments, and not one more.
    let fits = HEAD_BYTES_MAX;
    let mut world = World::new();
    let client = connected(&mut world);
    let endless = long_request(2 * fits);
    let mut at = 0;
    for piece in endless[..fits - 1].chunks(1364) {
        expect_kept(&world.give(&client.data(at, piece)), at == 0);
        at += len(piece);
    }
    let outcome = world.give(&client.data(at, &endless[fits - 1..fits + 9]));
    outcome.expect_page(&client, u32::try_from(fits).expect("small"), TOO_LARGE);
    assert_eq!((world.counters.drops(DropReason::HeadTooLarge), world.event(Event::Errors431)), (1, 1));

    let mut world = World::new();
    let client = connected(&mut world);
    for at in 0..u32::from(SEGMENT_COUNT_MAX) {
        expect_kept(&world.give(&client.data(at, b"G")), at == 0);
    }
    let outcome = world.give(&client.data(u32::from(SEGMENT_COUNT_MAX), b"G"));
    outcome.expect_page(&client, u32::from(SEGMENT_COUNT_MAX), TOO_LARGE);
    assert_eq!(world.counters.drops(DropReason::HeadTooLarge), 1);

    let mut world = World::new();
    let client = connected(&mut world);
    let whole = [&endless[..fits - 4], b"\r\n\r\n"].concat();
    let sent = hold_and_send(&mut world, &cut(&client, &whole, 1364));
    expect_stream(&sent, &client, &whole);
}

#[test]
fn a_head_never_finished_ends_with_408() {
    let mut world = World::new();
    let client = connected(&mut world);
    expect_kept(&world.give(&client.data(0, b"GET /fil")), true);
    world.pass(Micros::from_millis(100)); // its acknowledgment
    assert!(world.pass(Micros::from_millis(9_800)).is_empty(), "ten seconds are its due");
    let sent = world.pass(Micros::from_millis(2_700));
    let frames = &sent[..1];
    let bytes = read_to_fin(frames, &client, 0, 8, tsval(&client));
    assert_eq!(bytes, page(UNFINISHED));
    assert_eq!(world.counters.drops(DropReason::RequestUnfinished), 1);
    assert_eq!((world.event(Event::Errors408), world.event(Event::ResetsSent)), (1, 0));
    assert_eq!(world.flow(client.tuple()).expect("closing").state, State::Answered);
}

#[test]
fn a_head_that_comes_drop_by_drop_gets_no_more_time_than_any_other() {
    let mut world = World::new();
    let client = connected(&mut world);
    for at in 0..16u32 {
        expect_kept(&world.give(&client.data(at, b"G")), at == 0);
        assert_eq!(world.flow(client.tuple()).expect("a flow").state, State::Holding);
        world.pass(Micros::from_millis(600));
    }
    let sent = world.pass(Micros::from_millis(12_500 - 16 * 600 + 100));
    let first = &sent[..1]; // the others repeat it
    assert_eq!(read_to_fin(first, &client, 0, 16, tsval(&client)), page(UNFINISHED));
    assert_eq!((world.event(Event::Errors408), world.counters.drops(DropReason::RequestUnfinished)), (1, 1));
}

#[test]
fn a_fin_in_the_middle_of_a_head_is_answered_with_400() {
    for payload in [&b""[..], b"le"] {
        let mut world = World::new();
        let client = connected(&mut world);
        expect_kept(&world.give(&client.data(0, b"GET /fi")), true);
        let outcome = world.give(&client.segment(7, FIN | ACK, payload).frame());
        outcome.expect_page(&client, 8 + len(payload), CUT_OFF);
        assert_eq!(world.counters.drops(DropReason::RequestMalformed), 1);
    }
}

#[test]
fn a_fin_at_the_end_of_a_head_is_handed_off_and_remembered() {
    let request = get("/files/a");
    for late in [false, true] {
        let mut world = World::new();
        let client = connected(&mut world);
        expect_kept(&world.give(&client.data(0, &request[..10])), true);
        let last = client.segment(20, FIN | PSH | ACK, &request[20..]).frame();
        let middle = client.data(10, &request[10..20]);
        let [first, second] = if late { [&last, &middle] } else { [&middle, &last] };
        expect_kept(&world.give(first), false);
        let sent = handed(&world.give(second));
        expect_stream(&sent, &client, &request);
        let flags: Vec<u8> = sent.iter().map(|message| inner_of(message).flags & FIN).collect();
        assert_eq!(flags, [FIN], "with the last byte");
        assert_eq!(world.flow(client.tuple()).expect("a flow").state, State::ClosingUnconfirmed);
    }
}

#[test]
fn a_client_that_resets_a_held_head_is_forgotten_if_it_is_the_client() {
    let mut world = World::new();
    let client = connected(&mut world);
    expect_kept(&world.give(&client.data(0, b"GET /fi")), true);
    for at in [6, 8] {
        world.give(&client.rst(at));
        assert_eq!(world.switch.flow_count(), 1, "a RST beside the point");
    }
    assert_eq!(world.event(Event::FinUnbelieved), 2);
    assert_eq!(world.give(&client.rst(7)).verdict, Verdict::Absorb);
    assert_eq!(world.switch.flow_count(), 0);
    assert!(world.pass(Micros::from_secs(20)).is_empty(), "nobody is told anything");
}

#[test]
fn places_for_heads_are_bounded_and_come_back() {
    let mut world = World::new();
    let mut clients: Vec<Client> = (1..=5).map(Client::at_port).collect();
    for client in &mut clients {
        world.connect(client);
    }
    for client in &clients[..4] {
        expect_kept(&world.give(&client.data(0, b"GET /files")), true);
    }
    world.expect_drop(&clients[4].data(0, b"GET /files"), DropReason::HoldsFull);
    assert_eq!(world.switch.flow_count(), 4);
    // One is confirmed by its backend, one by its client, one resets, one's page is taken: all four places are free.
    let sent = handed(&world.give(&clients[0].data(10, b"/ HTTP/1.0\r\n\r\n")));
    let outcome = world.give(&clients[1].data(10, b"\0\r\n\r\n"));
    outcome.expect_page(&clients[1], 15, MALFORMED);
    let read = len(&page(MALFORMED)) + 1;
    world.give(&Client { read, ..clients[1].clone() }.fin(15));
    assert_eq!(world.give(&clients[2].rst(10)).verdict, Verdict::Absorb);
    let confirming = Client { read: 1, ..clients[0].clone() };
    let ack = confirming.ack(24);
    world.give(&ack).expect_direct(&ack, backend_of(&sent[0]));
    assert_eq!(world.give(&clients[3].rst(10)).verdict, Verdict::Absorb);
    for port in 11..=14 {
        let mut client = Client::at_port(port);
        world.connect(&mut client);
        expect_kept(&world.give(&client.data(0, b"GET /files")), true);
    }
    let mut fifth = Client::at_port(15);
    world.connect(&mut fifth);
    world.expect_drop(&fifth.data(0, b"GET /files"), DropReason::HoldsFull);
}

#[test]
fn a_held_head_for_nobody_is_answered_with_503_when_it_is_whole() {
    for (path, reason, why) in
        [("/nowhere", DropReason::NoRule, NO_RULE), ("/dead/a", DropReason::NoBackend, NO_BACKEND)]
    {
        let mut world = World::new();
        let client = connected(&mut world);
        let request = get(path);
        let frames = cut(&client, &request, 30);
        expect_kept(&world.give(&frames[0]), true);
        world.give(&frames[1]).expect_page(&client, len(&request), why);
        assert_eq!((world.counters.drops(reason), world.event(Event::Errors503)), (1, 1));
    }
}

#[test]
fn without_buffers_the_switch_repeats_what_it_acknowledged_itself() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    let frames = cut(&client, &request, 20);
    for (place, frame) in frames[..frames.len() - 1].iter().enumerate() {
        expect_kept(&world.give(frame), place == 0);
    }
    let outcome = world.give_in(&frames[frames.len() - 1], 128, 128, true);
    assert_eq!((outcome.verdict, outcome.sent.frames.len()), (Verdict::Absorb, 0));
    assert_eq!(world.event(Event::TransmitFailed), 1);
    let sent = world.pass(Micros::from_millis(300));
    let (sent, _) = crate::common::backend::sort(&sent);
    expect_stream(&sent, &client, &request);
}
