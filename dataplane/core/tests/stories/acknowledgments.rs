//! What a client is told while its request head grows.

use baton_core::switch::HEAD_BYTES_MAX;
use baton_core::{DropReason, Event, Micros, Settings, Verdict};

use super::heads::{expect_kept, expect_stream, handed, long_request};
use crate::common::backend::sort;
use crate::common::client::{BARE, Client, Offer, USUAL, get, len};
use crate::common::packets::{ACK, be16, read_tcp};
use crate::common::page::{expect_to_client, tsval};
use crate::common::world::{World, settings, snapshot};

const MILLISECOND: Micros = Micros::from_millis(1);
/// What the SYN-ACK promised: so many bytes from the first one on.
const PROMISED: u32 = 65_535;

/// The client with its clock `by` ticks on.
fn later(client: &Client, by: u32) -> Client {
    Client { clock: client.clock.wrapping_add(by), ..client.clone() }
}

/// Insists that a frame acknowledges `taken` bytes of a head, and that its window reaches at least as far as was
/// promised, and not one unit of scale further.
fn expect_ack(frame: &[u8], client: &Client, taken: u32, tsval: u32) {
    let segment = read_tcp(frame);
    expect_to_client(&segment, client, ACK, taken, tsval);
    assert_eq!(segment.seq, client.peer_isn.wrapping_add(1), "nothing was sent");
    assert!(segment.payload.is_empty());
    let shift = if client.offer.wscale.is_some() { 7 } else { 0 };
    let reach = taken + (u32::from(be16(frame, 14 + 20 + 14)) << shift);
    assert!((PROMISED..PROMISED + (1 << shift)).contains(&reach), "the window ends at {reach}");
}

#[test]
fn a_client_that_types_byte_by_byte_is_acknowledged_and_served() {
    // One byte, and the next only when the last was acknowledged: Nagle's algorithm (RFC 9293, section 3.7.4).
    for offer in [USUAL, BARE, Offer { wscale: None, ..USUAL }] {
        let mut world = World::new();
        let mut client = Client::with(offer);
        world.connect(&mut client);
        let request = b"GET /files/ HTTP/1.0\r\n\r\n";
        let (last, bytes) = request.split_last().expect("not empty");
        for (at, byte) in (0..).zip(bytes) {
            let client = later(&client, at * 300);
            let outcome = world.give(&client.data(at, &[*byte]));
            expect_kept(&outcome, at == 0);
            if at == 0 {
                assert!(world.pass_by(Micros::from_millis(39), MILLISECOND).is_empty(), "not at once");
                let acks = world.pass_by(MILLISECOND, MILLISECOND);
                assert_eq!(acks.len(), 1, "after 40 ms");
                expect_ack(&acks[0], &client, 1, tsval(&client));
                assert!(world.pass_by(Micros::from_millis(260), MILLISECOND).is_empty(), "once");
            } else {
                expect_ack(&outcome.frame, &client, at + 1, tsval(&client));
                assert!(world.pass_by(Micros::from_millis(300), MILLISECOND).is_empty(), "once");
            }
        }
        let client = later(&client, len(request) * 300);
        let sent = handed(&world.give(&client.data(len(bytes), &[*last])));
        assert_eq!(sent[0].inner[40 + if offer.timestamps { 12 } else { 0 }..], request[..]);
        assert_eq!(world.event(Event::HeadAcks), u64::try_from(bytes.len()).expect("few"));
    }
}

#[test]
fn a_second_segment_within_the_delay_is_acknowledged_at_once_and_with_the_first() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    expect_kept(&world.give(&client.data(0, b"GET /fi")), true);
    world.pass_by(Micros::from_millis(10), MILLISECOND);
    let outcome = world.give(&client.data(7, b"les/a HTTP"));
    expect_ack(&outcome.frame, &client, 17, tsval(&client));
    assert!(world.pass_by(Micros::from_millis(500), MILLISECOND).is_empty(), "the first needs no other");
}

#[test]
fn a_head_that_is_whole_within_the_delay_is_not_acknowledged_by_the_switch() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = get("/files/a");
    expect_kept(&world.give(&client.data(0, &request[..9])), true);
    let sent = handed(&world.give(&client.data(9, &request[9..])));
    expect_stream(&sent, &client, &request);
    let (packets, _) = sort(&world.pass_by(Micros::from_millis(100), MILLISECOND));
    assert!(packets.is_empty(), "the backend acknowledges");
    assert_eq!(world.event(Event::HeadAcks), 0);
}

#[test]
fn gaps_repeats_and_probes_are_acknowledged_with_what_is_there_without_a_gap() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    expect_kept(&world.give(&client.data(0, b"GET /files/a")), true);
    let ahead = world.give(&client.data(21, b"\r\nHost: a"));
    expect_ack(&ahead.frame, &client, 12, tsval(&client));
    let again = later(&client, 250);
    let repeated = world.give(&again.data(0, b"GET /files/a"));
    expect_ack(&repeated.frame, &again, 12, tsval(&again));
    // Keepalive probes: the number of the last byte once more, or of the SYN.
    let probing = later(&client, 60_000);
    for at in [11, u32::MAX] {
        let answer = world.give(&probing.segment(at, ACK, b"").frame());
        assert_eq!(answer.verdict, Verdict::Reply);
        expect_ack(&answer.frame, &probing, 12, tsval(&probing));
    }
    let filled = world.give(&probing.data(12, b" HTTP/1."));
    expect_ack(&filled.frame, &probing, 20, tsval(&probing));
    let filled = world.give(&probing.data(20, b"0"));
    expect_ack(&filled.frame, &probing, 30, tsval(&probing));
}

#[test]
fn a_segment_that_was_overtaken_does_not_turn_the_clients_clock_back() {
    // The backend would drop what comes with a TSval older than that of the base segment (RFC 7323, section 5).
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = long_request(1_200);
    let base = later(&client, 1_000);
    expect_kept(&world.give(&base.data(0, &request[..100])), true);
    let overtaken = world.give(&client.data(100, &request[100..200]));
    expect_ack(&overtaken.frame, &client, 200, tsval(&base));
    let sent = handed(&world.give(&client.data(200, &request[200..])));
    for message in &sent {
        let stamps = crate::common::backend::inner_of(message).stamps.expect("stamps");
        assert_eq!(stamps, (tsval(&base), client.echo), "none older than the base segment's");
    }
    // A clock that wraps goes forward all the same.
    let mut world = World::new();
    let mut client = Client { clock: u32::MAX - 10, ..Client::new() };
    world.connect(&mut client);
    expect_kept(&world.give(&client.data(0, b"GET /")), true);
    let wrapped = later(&client, 100);
    expect_ack(&world.give(&wrapped.data(5, b"f")).frame, &client, 6, tsval(&wrapped));
}

#[test]
fn the_window_keeps_the_promise_of_the_syn_ack_to_the_last_byte() {
    for offer in [USUAL, BARE] {
        let mut world = World::new();
        let mut client = Client::with(offer);
        world.connect(&mut client);
        let request = long_request(2 * HEAD_BYTES_MAX);
        let mut at = 0;
        for piece in request[..HEAD_BYTES_MAX - 1].chunks(1363) {
            let outcome = world.give(&client.data(at, piece));
            expect_kept(&outcome, at == 0);
            at += len(piece);
            if at > 1363 {
                expect_ack(&outcome.frame, &client, at, tsval(&client));
            }
        }
    }
}

#[test]
fn what_lies_beyond_the_room_for_a_head_is_acknowledged_up_to_the_gap() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    expect_kept(&world.give(&client.data(0, b"GET /files/a")), true);
    let beyond = world.give(&client.data(u32::try_from(HEAD_BYTES_MAX).expect("small"), b"x"));
    expect_ack(&beyond.frame, &client, 12, tsval(&client));
    assert_eq!(world.counters.drops(DropReason::HoldGap), 1);
}

#[test]
fn acknowledgments_of_many_heads_are_spread_over_turns_and_none_is_forgotten() {
    let many = Settings { hold_count_max: 100, flow_count_max: 200, ..settings() };
    let mut world = World::with(many, snapshot());
    for port in 1..=100 {
        let mut client = Client::at_port(port);
        world.connect(&mut client);
        expect_kept(&world.give(&client.data(0, b"GET /files/a")), true);
    }
    world.now = world.now.plus(Micros::from_millis(40));
    let turns: Vec<usize> = (0..5).map(|_| world.poll().frames.len()).collect();
    assert_eq!(turns, [32, 32, 32, 4, 0]);
}
