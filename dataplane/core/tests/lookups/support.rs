//! What these tests need beside the common world: questions and the answers of backends.

use baton_core::{DropReason, Micros, Verdict};

use crate::common::client::{Client, len};
use crate::common::packets::{ACK, Message, PSH, TcpFrame, ethernet, read_message, read_tcp};
use crate::common::world::{Answer, BACKENDS, KEY_ID, SECRET, SWITCH, SWITCH_MAC, World, settings, snapshot};

pub(crate) const HANDOFF: u8 = 1;
pub(crate) const FORWARD: u8 = 2;
pub(crate) const GONE: u8 = 6;
pub(crate) const WHO_HAS: u8 = 8;
pub(crate) const MINE: u8 = 9;

/// The wire values of socket states.
pub(crate) const ESTABLISHED: u8 = 1;
pub(crate) const TIME_WAIT: u8 = 6;

/// The generation a backend's socket has, handed off by a switch in a former life.
pub(crate) const BEFORE: u64 = 0x0006_4000_0000_0000;

pub(crate) const INTERVAL: Micros = Micros::from_millis(100);

/// A client in the middle of a connection the switch knows nothing about, whose numbers wrap in both directions: it
/// acknowledges 0.
pub(crate) fn stranger() -> Client {
    Client { peer_isn: u32::MAX, echo: 77, ..Client::new() }
}

/// A switch that has just started, and knows its next hops.
pub(crate) fn learning_world() -> World {
    let mut world = World::just_started(0, settings(), snapshot());
    world.pass(INTERVAL);
    assert!(world.switch.next_hops().all(|(_, mac)| mac.is_some()));
    world
}

/// Reads frames that are questions and nothing else.
pub(crate) fn questions(frames: &[Vec<u8>]) -> Vec<Message> {
    let messages: Vec<_> = frames.iter().map(|frame| read_message(frame)).collect();
    assert!(messages.iter().all(|message| message.kind == WHO_HAS), "{messages:?}");
    messages
}

/// Gives a segment of a connection nobody knows; returns the questions about it, one per backend.
pub(crate) fn ask(world: &mut World, frame: &[u8]) -> Vec<Message> {
    let outcome = world.give(frame);
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::UnknownFlow));
    let asked = questions(&outcome.sent.frames);
    assert_eq!(asked.len(), BACKENDS.len());
    asked
}

/// Gives the first segment of a request during learning; returns the questions.
pub(crate) fn ask_held(world: &mut World, frame: &[u8]) -> Vec<Message> {
    let outcome = world.give(frame);
    assert_eq!(outcome.verdict, Verdict::Absorb);
    let asked = questions(&outcome.sent.frames);
    assert_eq!(asked.len(), BACKENDS.len());
    asked
}

/// The TCP segment inside a message.
pub(crate) fn inner(message: &Message) -> TcpFrame {
    read_tcp(&ethernet([0; 6], [0; 6], 0x0800, &message.inner))
}

/// What a backend's socket says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    pub(crate) rcv_nxt: u32,
    pub(crate) snd_nxt: u32,
    pub(crate) generation: u64,
    pub(crate) state: u8,
}

impl Socket {
    /// One that has everything its client has sent and had acknowledged everything it has sent.
    pub(crate) fn of(question: &Message) -> Self {
        let quote = inner(question);
        Self { rcv_nxt: quote.seq, snd_nxt: quote.ack, generation: BEFORE, state: ESTABLISHED }
    }

    pub(crate) fn mine(self, question: &Message) -> Answer {
        let mut answer = Answer::of(question, MINE);
        answer.covered[12..16].copy_from_slice(&self.rcv_nxt.to_be_bytes());
        answer.covered[16..20].copy_from_slice(&self.snd_nxt.to_be_bytes());
        answer.covered[28..30].copy_from_slice(&[0, self.state]);
        answer.covered[32..40].copy_from_slice(&self.generation.to_be_bytes());
        answer
    }
}

/// A backend's denial: the message turned round, its packet cut off behind 40 bytes.
pub(crate) fn denial(message: &Message) -> Answer {
    let mut answer = Answer::of(message, GONE);
    answer.covered[28..30].copy_from_slice(&[0, 8]); // no socket
    answer.inner.truncate(40);
    answer
}

/// All who were asked these questions deny.
pub(crate) fn deny(world: &mut World, asked: &[Message]) {
    for question in asked {
        assert_eq!(world.give(&denial(question).frame()).verdict, Verdict::Absorb);
    }
}

/// A denial that names another generation than the message's.
pub(crate) fn denial_at(message: &Message, generation: u64) -> Answer {
    let mut answer = denial(message);
    answer.covered[32..40].copy_from_slice(&generation.to_be_bytes());
    answer
}

/// What a backend reports of a packet that came without a header.
pub(crate) fn report(backend: usize, frame: &[u8], generation: u64, now: Micros) -> Answer {
    let segment = &frame[34..];
    let mut covered = [0; 48];
    covered[..6].copy_from_slice(b"BTON\x01\x06");
    covered[9] = KEY_ID;
    covered[12..20].copy_from_slice(&segment[4..12]);
    covered[28..30].copy_from_slice(&[0, 8]);
    covered[30] = 255;
    covered[32..40].copy_from_slice(&generation.to_be_bytes());
    covered[40..48].copy_from_slice(&now.0.to_be_bytes());
    Answer {
        covered,
        outer_source: BACKENDS[backend],
        source_port: 33_333,
        inner: frame[14..54].to_vec(),
        secret: SECRET,
        flip: 0,
    }
}

/// Insists that a frame resets `client` with `seq`, and says nothing else.
pub(crate) fn expect_reset_at(frame: &[u8], client: &Client, seq: u32) {
    let reset = read_tcp(frame);
    assert_eq!((reset.to, reset.from), (client.mac, SWITCH_MAC));
    assert_eq!((reset.source, reset.destination), (client.vip, client.address));
    assert_eq!((reset.source_port, reset.destination_port), (client.vip_port, client.port));
    assert_eq!((reset.flags, reset.seq, reset.payload.len()), (0x04, seq, 0));
}

/// Insists that messages carry `bytes` of a client's stream, in order from its first byte, to one backend.
pub(crate) fn expect_head(frames: &[Vec<u8>], client: &Client, kind: u8, backend: usize, bytes: &[u8]) {
    let mut at = 0;
    for frame in frames {
        let message = read_message(frame);
        assert_eq!((message.kind, message.outer.destination), (kind, BACKENDS[backend]));
        assert_eq!(message.outer.source, SWITCH);
        let segment = inner(&message);
        assert_eq!(segment.seq, client.isn.wrapping_add(1).wrapping_add(at));
        assert_eq!(segment.flags & (ACK | PSH), ACK | PSH);
        let end = usize::try_from(at).expect("short") + segment.payload.len();
        assert_eq!(segment.payload, bytes[usize::try_from(at).expect("short")..end]);
        at += len(&segment.payload);
    }
    assert_eq!(at, len(bytes), "all of it");
}
