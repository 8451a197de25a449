//! Error pages: what a client is told whose request cannot be served, byte for byte.

use std::sync::Arc;

use baton_core::flow::State;
use baton_core::http::{ErrorBody, ErrorPages};
use baton_core::{DropReason, Event, Micros, Settings, Snapshot, Verdict};

use super::heads::{expect_kept, handed};
use crate::common::client::{BARE, Client, Offer, USUAL, get, len};
use crate::common::packets::{ACK, CLIENT_WINDOW, FIN, PSH, RST, be16, read_tcp};
use crate::common::page::{MALFORMED, NO_RULE, REFUSED_BY_ALL, TOO_LARGE, UNFINISHED};
use crate::common::page::{expect_to_client, head_of, page, read_to_fin, tsval};
use crate::common::world::{Answer, Outcome, World, settings, snapshot};

const MILLISECOND: Micros = Micros::from_millis(1);

/// A world whose operator gave bodies for 400, 408, 431, 503.
fn with_bodies(bodies: [Option<ErrorBody>; 4]) -> World {
    World::with(settings(), Snapshot { error_pages: Arc::new(ErrorPages { bodies }), ..snapshot() })
}

fn html(bytes: &[u8]) -> Option<ErrorBody> {
    Some(ErrorBody { content_type: "text/html".into(), bytes: bytes.to_vec() })
}

/// Connects a client that sends `bytes`.
fn ask(world: &mut World, mut client: Client, bytes: &[u8]) -> (Client, Outcome) {
    world.connect(&mut client);
    let outcome = world.give(&client.data(0, bytes));
    (client, outcome)
}

#[test]
fn a_page_is_a_response_with_its_length_that_closes_the_connection() {
    for offer in [USUAL, BARE, Offer { ecn: true, ..USUAL }] {
        let mut world = World::new();
        let request = get("/nowhere");
        let (client, outcome) = ask(&mut world, Client::with(offer), &request);
        outcome.expect_page(&client, len(&request), NO_RULE);
        assert_eq!(outcome.sent.frames.len(), 1, "in one segment, with the FIN");
        assert_ne!(be16(&outcome.sent.frames[0], 14 + 20 + 14), 0, "the client may go on sending");
        let text = String::from_utf8(read_tcp(&outcome.sent.frames[0]).payload).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        assert!(head.contains("\r\nConnection: close\r\n"));
        assert_eq!((world.event(Event::PageSegments), world.event(Event::ResetsSent)), (1, 0));
    }
}

#[test]
fn the_answer_to_head_has_no_body() {
    let (status, line) = NO_RULE;
    let expected = head_of(status, "text/plain; charset=utf-8", line.len());
    let request = b"HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n";
    // In one segment, after an empty line, and in several.
    for (bytes, cut) in [(request.to_vec(), 0), ([&b"\r\n"[..], request].concat(), 0), (request.to_vec(), 3)]
    {
        let mut world = World::new();
        let mut client = Client::new();
        world.connect(&mut client);
        if cut > 0 {
            expect_kept(&world.give(&client.data(0, &bytes[..cut])), true);
        }
        let outcome = world.give(&client.data(len(&bytes[..cut]), &bytes[cut..]));
        let told = read_to_fin(&outcome.sent.frames, &client, 0, len(&bytes), tsval(&client));
        assert_eq!(String::from_utf8_lossy(&told), String::from_utf8_lossy(&expected));
    }
    // Refused by all, in one segment: the request is known from what came back.
    let mut world = World::new();
    let request = b"HEAD /routed/a HTTP/1.1\r\nHost: a\r\n\r\n";
    let (client, outcome) = ask(&mut world, Client::new(), request);
    let outcome = world.give(&Answer::refused(&outcome.message()).frame());
    let told = read_to_fin(&outcome.sent.frames, &client, 0, len(request), tsval(&client));
    assert_eq!(told, head_of(REFUSED_BY_ALL.0, "text/plain; charset=utf-8", REFUSED_BY_ALL.1.len()));
}

#[test]
fn an_operators_bodies_are_sent_in_segments_the_client_takes() {
    let body: Vec<u8> = (0..6000_u16).map(|at| b'a' + u8::try_from(at % 26).expect("small")).collect();
    let expected = [head_of(NO_RULE.0, "text/html", body.len()), body.clone()].concat();
    for (offer, size) in [
        (Offer { mss: Some(536), ..USUAL }, 524),
        (BARE, 536), // without an MSS: the default of RFC 9293, section 3.7.1
        (Offer { timestamps: false, ..USUAL }, 1376),
        (USUAL, 1364),
    ] {
        let mut world = with_bodies([None, None, None, html(&body)]);
        let request = get("/nowhere");
        let (client, outcome) = ask(&mut world, Client::with(offer), &request);
        let mut frames = outcome.sent.frames;
        let (window, mut acked) = (usize::from(CLIENT_WINDOW) << offer.wscale.unwrap_or(0), 0);
        loop {
            let sizes: Vec<usize> = frames.iter().map(|frame| read_tcp(frame).payload.len()).collect();
            let (last, full) = sizes.split_last().expect("several");
            assert!(full.iter().all(|bytes| *bytes == size) && *last <= size, "{offer:?}: {sizes:?}");
            let sent: usize = sizes.iter().sum();
            assert!(sent - acked <= window.max(size), "as much as the window takes: {offer:?}: {sizes:?}");
            if sent == expected.len() {
                break;
            }
            acked = sent;
            let reader = Client { read: u32::try_from(sent).expect("small"), ..client.clone() };
            let more = world.give(&reader.ack(len(&request))).sent.frames;
            assert!(!more.is_empty(), "{offer:?}: after {sent}");
            frames.extend(more);
        }
        assert_eq!(read_to_fin(&frames, &client, 0, len(&request), tsval(&client)), expected);
    }
}

#[test]
fn an_operators_body_stands_for_its_status_and_no_other() {
    let bodies = || [html(b"<p>400</p>"), html(b"<p>408</p>"), html(b"<p>431</p>"), html(b"<p>503</p>")];
    let told = |status: &str, body: &[u8]| [head_of(status, "text/html", body.len()), body.to_vec()].concat();
    let mut world = with_bodies(bodies());
    let large = format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(129)).into_bytes();
    for (port, (bytes, why)) in
        (1..).zip([(b"\0".to_vec(), MALFORMED), (large, TOO_LARGE), (get("/nowhere"), NO_RULE)])
    {
        let (client, outcome) = ask(&mut world, Client::at_port(port), &bytes);
        let got = read_to_fin(&outcome.sent.frames, &client, 0, len(&bytes), tsval(&client));
        assert_eq!(got, told(why.0, format!("<p>{}</p>", &why.0[..3]).as_bytes()));
    }
    let mut world = with_bodies(bodies());
    let (client, _) = ask(&mut world, Client::at_port(9), b"GET");
    world.pass(Micros::from_millis(9_900));
    let sent = world.pass_by(Micros::from_millis(200), MILLISECOND);
    let got = read_to_fin(&sent, &client, 0, 3, tsval(&client));
    assert_eq!(got, told(UNFINISHED.0, b"<p>408</p>"));
    // New pages hold for the next request.
    world.apply(snapshot());
    let (client, outcome) = ask(&mut world, Client::at_port(10), &get("/nowhere"));
    outcome.expect_page(&client, len(&get("/nowhere")), NO_RULE);
}

#[test]
fn refused_by_all_a_head_of_several_segments_is_told_the_same() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = get("/routed/a");
    expect_kept(&world.give(&client.data(0, &request[..10])), true);
    let sent = handed(&world.give(&client.data(10, &request[10..])));
    let outcome = world.give(&Answer::refused(&sent[0]).frame());
    outcome.expect_page(&client, len(&request), REFUSED_BY_ALL);
    assert_eq!(world.flow(client.tuple()).expect("closing").state, State::Answered);
}

#[test]
fn what_was_sent_behind_a_refused_request_is_acknowledged_with_it() {
    let mut world = World::new();
    let (client, outcome) = world.request(Client::new(), "/routed/a");
    let first = outcome.message();
    let sent = len(&get("/routed/a"));
    world.give(&client.data(sent, b"body"));
    world.give(&Answer::refused(&first).frame()).expect_page(&client, sent + 4, REFUSED_BY_ALL);
}

#[test]
fn without_a_place_for_the_page_the_client_is_reset() {
    let mut world = World::with(Settings { hold_count_max: 1, ..settings() }, snapshot());
    let (_, outcome) = ask(&mut world, Client::at_port(1), b"GET");
    expect_kept(&outcome, true);
    let (client, outcome) = ask(&mut world, Client::at_port(2), &get("/nowhere"));
    assert_eq!((outcome.verdict, outcome.sent.frames.len()), (Verdict::Absorb, 1));
    let reset = read_tcp(&outcome.sent.frames[0]);
    assert_eq!((reset.flags, reset.seq), (RST, client.peer_isn.wrapping_add(1)), "what it expects next");
    assert_eq!((world.counters.drops(DropReason::HoldsFull), world.event(Event::ResetsSent)), (1, 1));
    assert_eq!((world.event(Event::Errors503), world.event(Event::PageSegments)), (0, 0));
    assert!(world.flow(client.tuple()).is_none());
    // A head that is held has a place already.
    let mut world = World::with(Settings { hold_count_max: 1, ..settings() }, snapshot());
    let (client, _) = ask(&mut world, Client::at_port(1), b"GET ");
    world.give(&client.data(4, b"\0\r\n")).expect_page(&client, 7, MALFORMED);
}

#[test]
fn a_page_that_could_not_be_sent_is_repeated() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = get("/nowhere");
    let outcome = world.give_in(&client.data(0, &request), 128, 128, true);
    assert_eq!((outcome.verdict, outcome.sent.frames.len()), (Verdict::Absorb, 0));
    assert_eq!((world.event(Event::TransmitFailed), world.event(Event::PageSegments)), (1, 0));
    let sent = world.pass_by(Micros::from_millis(200), MILLISECOND);
    assert_eq!(read_to_fin(&sent, &client, 0, len(&request), tsval(&client)), page(NO_RULE));
}

#[test]
fn a_page_echoes_the_newest_clock_of_its_client() {
    let mut world = World::new();
    let (client, _) = ask(&mut world, Client::new(), b"GET /nowhere HTTP/1.0\r\n");
    let later = Client { clock: client.clock + 500, ..client.clone() };
    let outcome = world.give(&later.data(23, b"\r\n"));
    read_to_fin(&outcome.sent.frames, &client, 0, 25, tsval(&later));
    // So does its repetition, and a segment that was overtaken does not turn it back.
    let still_later = Client { clock: client.clock + 900, ..client.clone() };
    for (clock, newest) in [(&still_later, &still_later), (&client, &still_later)] {
        let acknowledged = world.give(&clock.segment(25, PSH | ACK, b"more").frame());
        expect_to_client(&acknowledged.reply(), &client, ACK, 29, tsval(newest));
    }
    let sent = world.pass_by(Micros::from_millis(200), MILLISECOND);
    let told = read_to_fin(&sent, &client, 0, 29, tsval(&still_later));
    assert_eq!(told, page(NO_RULE));
    assert_eq!(read_tcp(&sent[0]).flags, FIN | ACK);
}
