//! The decision table for segments of unknown flows.

use baton_core::{DropReason, Event, Verdict};

use crate::common::client::{Client, get};
use crate::common::packets::{ACK, FIN, PSH, RST, TcpFrame};
use crate::common::world::{
    BACKEND_MACS, BACKENDS, KEY_ID, ROUTER_MAC, SECRET, SWITCH, SWITCH_MAC, World, is_authentic,
};
use crate::support::{HANDOFF, WHO_HAS, ask, inner, questions, stranger};

/// What comes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Answered by the switch.
    Answered(Event),
    /// Handed off.
    HandedOff,
    /// Taken note of.
    Noted(Event),
    /// Dropped, and its owner asked for.
    AskedFor,
    /// Dropped, and nothing else.
    Dropped(DropReason),
}

fn corrupt(segment: &TcpFrame) -> Vec<u8> {
    let mut frame = segment.frame();
    frame[51] ^= 1; // the checksum's second byte
    frame
}

#[test]
fn the_decision_table_for_segments_of_unknown_flows() {
    use Fate::{Answered, AskedFor, Dropped, HandedOff, Noted};
    type Make = fn(&Client) -> Vec<u8>;
    let rows: [(&str, bool, Make, Fate); 22] = [
        ("SYN", true, |c| c.syn().frame(), Answered(Event::SynAcks)),
        ("data behind the SYN", true, |c| c.data(0, &get("/files/a")), HandedOff),
        ("probe without a byte", true, |c| c.ack(u32::MAX), Answered(Event::IdleProbesAnswered)),
        ("probe with a byte", true, |c| c.data(u32::MAX, b"x"), Answered(Event::IdleProbesAnswered)),
        ("FIN of an idle client", true, |c| c.fin(0), Answered(Event::IdleFinsAnswered)),
        ("end of the handshake", true, |c| c.ack(0), Noted(Event::IdleAcks)),
        (
            "RST of an idle client",
            true,
            |c| c.segment(0, RST | ACK, b"").frame(),
            Dropped(DropReason::UnknownFlow),
        ),
        ("bare ACK", false, |c| c.ack(0), AskedFor),
        ("data", false, |c| c.data(0, &get("/files/a")), AskedFor),
        ("a byte", false, |c| c.data(0, b"x"), AskedFor),
        ("FIN", false, |c| c.fin(0), AskedFor),
        ("FIN with data", false, |c| c.segment(0, FIN | PSH | ACK, b"x").frame(), AskedFor),
        ("RST", false, |c| c.rst(0), AskedFor),
        ("RST with ACK", false, |c| c.segment(0, RST | ACK, b"").frame(), AskedFor),
        ("data further on", true, |c| c.data(1, &get("/files/a")), AskedFor),
        ("FIN further on", true, |c| c.fin(1), AskedFor),
        ("FIN with data and a cookie", true, |c| c.segment(1, FIN | ACK, b"x").frame(), AskedFor),
        ("data without ACK", true, |c| c.segment(0, PSH, b"x").frame(), Dropped(DropReason::TcpFlags)),
        ("FIN without ACK", false, |c| c.segment(0, FIN, b"").frame(), Dropped(DropReason::TcpFlags)),
        (
            "data with a bad checksum",
            false,
            |c| corrupt(&c.segment(0, PSH | ACK, b"x")),
            Dropped(DropReason::TcpChecksum),
        ),
        (
            "RST with a bad checksum",
            false,
            |c| corrupt(&c.segment(0, RST, b"")),
            Dropped(DropReason::TcpChecksum),
        ),
        (
            "data behind the SYN with a bad checksum",
            true,
            |c| corrupt(&c.segment(0, PSH | ACK, &get("/files/a"))),
            Dropped(DropReason::TcpChecksum),
        ),
    ];
    for (name, has_cookie, make, fate) in rows {
        let mut world = World::new();
        let mut client = Client::new();
        world.connect(&mut client);
        if !has_cookie {
            client.peer_isn ^= 1 << 31;
        }
        let before = match fate {
            Answered(event) | Noted(event) => world.event(event),
            _ => 0,
        };
        let outcome = world.give(&make(&client));
        let asked = questions(&outcome.sent.frames).len();
        let (verdict, flows, asked_for) = match fate {
            Answered(_) => (Verdict::Reply, 0, 0),
            HandedOff => (Verdict::Forward, 1, 0),
            Noted(_) => (Verdict::Absorb, 0, 0),
            AskedFor => (Verdict::Drop(DropReason::UnknownFlow), 1, 1),
            Dropped(reason) => (Verdict::Drop(reason), 0, 0),
        };
        assert_eq!(outcome.verdict, verdict, "{name}");
        assert_eq!(world.switch.flow_count(), flows, "{name}");
        assert_eq!(world.event(Event::OwnersSought), asked_for, "{name}");
        assert_eq!(asked, BACKENDS.len() * usize::try_from(asked_for).expect("few"), "{name}");
        match fate {
            Answered(event) | Noted(event) => assert_eq!(world.event(event), before + 1, "{name}"),
            HandedOff => assert_eq!(outcome.message().kind, HANDOFF),
            AskedFor | Dropped(_) => {}
        }
    }
}

#[test]
fn a_question_says_all_that_a_backend_needs() {
    let mut world = World::new();
    let client = stranger();
    let asked = ask(&mut world, &client.data(1000, b"some bytes"));
    for (at, question) in asked.iter().enumerate() {
        assert_eq!((question.outer.from, question.outer.to), (SWITCH_MAC, BACKEND_MACS[at]));
        assert_eq!((question.outer.source, question.outer.destination), (SWITCH, BACKENDS[at]));
        assert_eq!(
            (question.kind, question.detail, question.key_id, question.lcore),
            (WHO_HAS, 0, KEY_ID, 0)
        );
        assert_eq!((question.generation, question.issued), (0, world.now.0));
        assert!(is_authentic(question, SECRET));
        let (seq, ack) = (client.isn.wrapping_add(1001), client.peer_isn.wrapping_add(1));
        assert_eq!((question.base_seq, question.base_ack), (seq, ack));
        assert_eq!(question.inner.len(), 40, "headers without options");
        let quote = inner(question);
        assert_eq!((quote.source, quote.destination), (client.address, client.vip));
        assert_eq!((quote.source_port, quote.destination_port), (client.port, client.vip_port));
        assert_eq!((quote.seq, quote.ack, quote.flags), (seq, ack, ACK));
    }
    assert_eq!(asked[2].outer.to, ROUTER_MAC, "behind the router");
    assert_eq!(world.event(Event::QuestionsSent), 4);
}
