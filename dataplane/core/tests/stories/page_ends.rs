//! How a connection ends whose request the switch answered itself.

use std::sync::Arc;

use baton_core::flow::State;
use baton_core::http::{ErrorBody, ErrorPages};
use baton_core::{Event, Micros, Snapshot, Verdict};

use crate::common::client::{BARE, Client, USUAL, get, len};
use crate::common::packets::{ACK, FIN, PSH, RST, TcpFrame, read_tcp};
use crate::common::page::{NO_RULE, expect_to_client, head_of, page, read_to_fin, tsval};
use crate::common::world::{World, backend_of, settings, snapshot};

const MILLISECOND: Micros = Micros::from_millis(1);

fn request() -> Vec<u8> {
    get("/nowhere")
}

/// Bytes of the page, the FIN not counted.
fn page_bytes() -> u32 {
    len(&page(NO_RULE))
}

/// A client that was told, and has not acknowledged yet.
fn told(world: &mut World, mut client: Client) -> Client {
    world.connect(&mut client);
    world.give(&client.data(0, &request())).expect_page(&client, len(&request()), NO_RULE);
    client
}

/// A client that has read so many bytes of the page.
fn having_read(client: &Client, read: u32) -> Client {
    Client { read, ..client.clone() }
}

/// What was sent, with the milliseconds since.
fn watch(world: &mut World, millis: u64) -> Vec<(u64, Vec<u8>)> {
    (1..=millis)
        .flat_map(|at| {
            world
                .pass_by(MILLISECOND, MILLISECOND)
                .into_iter()
                .map(move |frame| (at, frame))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Insists that an answer to the client acknowledges `acked` bytes and says nothing else.
fn expect_ack(answer: &TcpFrame, client: &Client, acked: u32) {
    expect_to_client(answer, client, ACK, acked, tsval(client));
    assert_eq!(answer.seq, client.peer_isn.wrapping_add(1 + page_bytes() + 1), "behind the FIN");
    assert!(answer.payload.is_empty());
}

#[test]
fn an_unacknowledged_page_is_repeated_with_longer_and_longer_pauses() {
    let mut world = World::new();
    let client = told(&mut world, Client::new());
    let frames = watch(&mut world, 4_999);
    let times: Vec<u64> = frames.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [200, 600, 1400, 3000]);
    for (_, frame) in &frames {
        let again = read_to_fin(std::slice::from_ref(frame), &client, 0, len(&request()), tsval(&client));
        assert_eq!(again, page(NO_RULE));
    }
    assert_eq!((world.event(Event::PagesRepeated), world.event(Event::PageSegments)), (4, 1));
    // Nobody heard: the end comes where the client would believe it.
    let frames = watch(&mut world, 1_260);
    let reset = read_tcp(&frames[0].1);
    assert_eq!((frames.len(), reset.flags & RST), (1, RST));
    assert_eq!(reset.seq, client.peer_isn.wrapping_add(1));
    assert_eq!(world.switch.flow_count(), 0);
}

#[test]
fn a_client_that_finishes_properly_hears_no_more_and_is_forgotten() {
    for offer in [USUAL, BARE] {
        let mut world = World::new();
        let client = told(&mut world, Client::with(offer));
        let sent = len(&request());
        let client = having_read(&client, page_bytes() + 1);
        assert_eq!(world.give(&client.ack(sent)).verdict, Verdict::Absorb);
        assert!(watch(&mut world, 500).is_empty(), "it has the page");
        expect_ack(&world.give(&client.fin(sent)).reply(), &client, sent + 1);
        assert!(watch(&mut world, 500).is_empty());
        // The acknowledgment of its FIN got lost.
        expect_ack(&world.give(&client.fin(sent)).reply(), &client, sent + 1);
        assert_eq!(world.give(&client.ack(sent + 1)).verdict, Verdict::Absorb);
        assert!(watch(&mut world, 3_900).is_empty());
        assert_eq!(world.flow(client.tuple()).expect("for 5 s").state, State::Answered);
        assert!(watch(&mut world, 1_400).is_empty());
        assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
    }
}

#[test]
fn the_clients_fin_may_come_with_its_acknowledgment_before_it_or_with_the_request() {
    let sent = len(&request());
    for order in 0..3 {
        let mut world = World::new();
        let mut client = Client::new();
        world.connect(&mut client);
        let fin = if order == 2 { FIN } else { 0 };
        let outcome = world.give(&client.segment(0, PSH | ACK | fin, &request()).frame());
        outcome.expect_page(&client, sent + u32::from(fin), NO_RULE);
        let reader = having_read(&client, page_bytes() + 1);
        match order {
            0 => expect_ack(&world.give(&reader.fin(sent)).reply(), &client, sent + 1),
            1 => {
                expect_ack(&world.give(&client.fin(sent)).reply(), &client, sent + 1);
                assert_eq!(watch(&mut world, 250).len(), 1, "the page is still not there");
                assert_eq!(world.give(&reader.ack(sent + 1)).verdict, Verdict::Absorb);
            }
            _ => assert_eq!(world.give(&reader.ack(sent + 1)).verdict, Verdict::Absorb),
        }
        assert!(watch(&mut world, 6_300).is_empty(), "order {order}");
        assert_eq!(world.switch.flow_count(), 0);
    }
}

#[test]
fn of_a_page_that_arrived_in_part_the_rest_is_repeated() {
    let body = vec![b'x'; 4000];
    let expected = [head_of(NO_RULE.0, "text/html", body.len()), body.clone()].concat();
    let pages = ErrorPages {
        bodies: [None, None, None, Some(ErrorBody { content_type: "text/html".into(), bytes: body })],
    };
    let mut world = World::with(settings(), Snapshot { error_pages: Arc::new(pages), ..snapshot() });
    let mut client = Client::new();
    world.connect(&mut client);
    let sent = len(&request());
    let outcome = world.give(&client.data(0, &request()));
    assert_eq!(outcome.sent.frames.len(), 4);
    for (read, at) in [(1364, 200), (2728, 400), (1364, 800)] {
        assert_eq!(world.give(&having_read(&client, read).ack(sent)).verdict, Verdict::Absorb);
        let from = read.max(if at == 800 { 2728 } else { 0 }); // what was acknowledged stays so
        let frames = watch(&mut world, at);
        assert!(frames.iter().all(|(millis, _)| *millis == at));
        let frames: Vec<Vec<u8>> = frames.into_iter().map(|(_, frame)| frame).collect();
        let rest = read_to_fin(&frames, &client, from, sent, tsval(&client));
        assert_eq!(rest, expected[usize::try_from(from).expect("small")..]);
    }
    // All but the FIN: the last byte comes again with it.
    let end = len(&expected);
    world.give(&having_read(&client, end).ack(sent));
    let frames = watch(&mut world, 1_600);
    let last = read_to_fin(&[frames[0].1.clone()], &client, end - 1, sent, tsval(&client));
    assert_eq!((frames.len(), &last[..]), (1, &b"x"[..]));
    world.give(&having_read(&client, end + 1).ack(sent));
    assert!(watch(&mut world, 1_000).is_empty());
}

#[test]
fn a_client_that_goes_on_sending_is_acknowledged_and_in_the_end_reset() {
    let mut world = World::new();
    let client = told(&mut world, Client::new());
    let reader = having_read(&client, page_bytes() + 1);
    let mut sent = len(&request());
    for _ in 0..48 {
        let outcome = world.give(&reader.segment(sent, ACK, &[b'x'; 1364]).frame());
        sent += 1364;
        expect_ack(&outcome.reply(), &client, sent);
        assert!(watch(&mut world, 100).is_empty());
    }
    assert_eq!(world.event(Event::InputDiscarded), 48);
    // What has a gap before it is not acknowledged, and what came before is once more.
    expect_ack(&world.give(&reader.data(sent + 9, b"ahead")).reply(), &client, sent);
    expect_ack(&world.give(&reader.fin(sent + 9)).reply(), &client, sent);
    expect_ack(&world.give(&reader.data(sent - 1364, b"again")).reply(), &client, sent);
    let frames = watch(&mut world, 1_500);
    let reset = read_tcp(&frames[0].1);
    assert_eq!((frames.len(), reset.flags & RST), (1, RST));
    assert_eq!(reset.seq, client.peer_isn.wrapping_add(1 + page_bytes() + 1), "what the client expects next");
    let at = 4_800 + frames[0].0;
    assert!((5_000..=6_250).contains(&at), "after {at} ms");
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 1));
}

#[test]
fn an_answered_clients_probe_is_answered() {
    let mut world = World::new();
    let client = told(&mut world, Client::new());
    let reader = having_read(&client, page_bytes() + 1);
    let sent = len(&request());
    assert_eq!(world.give(&reader.ack(sent)).verdict, Verdict::Absorb);
    for garbage in [&b""[..], b"\0"] {
        expect_ack(&world.give(&reader.segment(sent - 1, ACK, garbage).frame()).reply(), &client, sent);
    }
}

#[test]
fn a_client_that_resets_is_forgotten_at_once_if_it_is_the_client() {
    let mut world = World::new();
    let client = told(&mut world, Client::new());
    let sent = len(&request());
    for at in [sent - 1, sent + 1] {
        assert_eq!(world.give(&client.rst(at)).verdict, Verdict::Absorb);
        assert_eq!(world.switch.flow_count(), 1, "a RST beside the point");
    }
    assert_eq!(world.event(Event::FinUnbelieved), 2);
    assert_eq!(world.give(&client.rst(sent)).verdict, Verdict::Absorb);
    assert_eq!(world.switch.flow_count(), 0);
    assert!(watch(&mut world, 7_000).is_empty());
}

#[test]
fn a_damaged_segment_ends_nothing() {
    let mut world = World::new();
    let client = told(&mut world, Client::new());
    let mut damaged = having_read(&client, page_bytes() + 1).ack(len(&request()));
    damaged[14 + 20 + 8] ^= 1;
    world.expect_drop(&damaged, baton_core::DropReason::TcpChecksum);
    assert_eq!(watch(&mut world, 200).len(), 1, "the page comes again");
}

#[test]
fn an_acknowledgment_of_what_was_never_sent_ends_nothing() {
    let mut world = World::new();
    let client = told(&mut world, Client::new());
    for read in [page_bytes() + 2, 1 << 30, u32::MAX] {
        world.give(&having_read(&client, read).ack(len(&request())));
    }
    let frames = watch(&mut world, 200);
    let again = read_to_fin(&[frames[0].1.clone()], &client, 0, len(&request()), tsval(&client));
    assert_eq!(again, page(NO_RULE));
}

#[test]
fn the_4_tuple_of_an_answered_connection_can_be_used_again_at_once() {
    for finished in [false, true] {
        let mut world = World::new();
        let old = told(&mut world, Client::new());
        let sent = len(&request());
        if finished {
            world.give(&having_read(&old, page_bytes() + 1).fin(sent));
        }
        let again = Client { isn: old.isn.wrapping_add(0x0100_0000), clock: old.clock + 5000, ..old.clone() };
        let (new, outcome) = world.request(again, "/files/a");
        assert_eq!(backend_of(&outcome.message()), 0);
        assert_eq!((world.event(Event::FlowsReplaced), world.switch.flow_count()), (1, 1));
        assert_eq!(world.flow(new.tuple()).expect("a flow").state, State::Unconfirmed);
        assert!(watch(&mut world, 7_000).is_empty(), "nothing is left of the old one");
        // All four places for heads and pages are free.
        for port in 1..=4 {
            told(&mut world, Client::at_port(port));
        }
    }
}

#[test]
fn a_request_repeated_because_the_page_got_lost_is_acknowledged_and_not_served() {
    let mut world = World::new();
    let client = told(&mut world, Client::new());
    expect_ack(&world.give(&client.data(0, &request())).reply(), &client, len(&request()));
    assert_eq!((world.event(Event::Errors503), world.event(Event::Handoffs)), (1, 0));
}
