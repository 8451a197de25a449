//! Whatever happens to a request head between client, switch and backend: the server reads what the client wrote.

use baton_core::flow::State;
use baton_core::{Event, Micros, Verdict};
use proptest::prelude::*;
use proptest::sample::Index;

use super::heads::long_request;
use crate::common::backend::{FORWARD, HANDOFF, Socket, WHO_HAS};
use crate::common::client::{BARE, Client, USUAL, len};
use crate::common::packets::{ACK, FIN, PSH, TcpFrame, be16, read_message, read_tcp};
use crate::common::world::World;

/// How long the way to the backend is foul. The switch tries twice more after that.
const FOUL: Micros = Micros::from_secs(4);

/// One way between the switch and a backend, in one direction: what becomes of each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    IsLost,
    ArrivesTwice,
    /// Comes behind the frame after it.
    IsOvertaken,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Arrives),
        3 => Just(Fate::IsLost),
        1 => Just(Fate::ArrivesTwice),
        1 => Just(Fate::IsOvertaken),
    ]
}

/// What the client does: sends a piece of its request again or for the first time, or lets time pass.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// From this byte on so many.
    Piece(Index, u16),
    /// What comes next in order, so many bytes.
    Next(u16),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<Index>(), 1..1300_u16).prop_map(|(at, bytes)| Step::Piece(at, bytes)),
        6 => (1..1300_u16).prop_map(Step::Next),
        1 => (1..60_u8).prop_map(Step::Wait),
    ]
}

/// A client, the switch, and the backend a head is handed to.
struct Scene {
    world: World,
    client: Client,
    request: Vec<u8>,
    fin: bool,
    /// How far the client has sent in order.
    sent: usize,
    /// How far the switch has acknowledged.
    acked: u32,
    socket: Socket,
    /// What becomes of the next frames to the backend.
    fates: Vec<Fate>,
    waiting: Option<Vec<u8>>,
    /// When the first frame went to the backend.
    handed_off: Option<Micros>,
    /// How many frames to the backend were lost.
    lost: usize,
}

impl Scene {
    fn send(&mut self, from: usize, bytes: usize) {
        let end = self.request.len().min(from + bytes);
        let fin = if self.fin && end == self.request.len() { FIN } else { 0 };
        let clock = self
            .client
            .clock
            .wrapping_add(u32::try_from(self.world.now.0 / 1000 % (1 << 30)).expect("small"));
        let now = Client { clock, ..self.client.clone() };
        let piece = self.request[from..end].to_vec();
        let frame =
            TcpFrame { payload: piece, ..now.segment(len(&self.request[..from]), PSH | ACK | fin, b"") };
        let outcome = self.world.give(&frame.frame());
        if end > self.sent && from <= self.sent {
            self.sent = end;
        }
        match outcome.verdict {
            Verdict::Reply => self.hear(&outcome.frame),
            Verdict::Forward => self.carry(outcome.frame),
            Verdict::Absorb | Verdict::Drop(_) | Verdict::Steer(_) => {}
        }
        outcome.sent.frames.into_iter().for_each(|frame| self.route(frame));
    }

    fn route(&mut self, frame: Vec<u8>) {
        if frame[23] == 6 { self.hear(&frame) } else { self.carry(frame) }
    }

    /// The switch says something to the client: only acknowledgments are expected.
    fn hear(&mut self, frame: &[u8]) {
        let segment = read_tcp(frame);
        assert_eq!((segment.flags, segment.payload.len()), (ACK, 0), "{} frames lost", self.lost);
        let acked = segment.ack.wrapping_sub(self.client.isn.wrapping_add(1));
        assert!(acked >= self.acked, "never less than before: {acked} after {}", self.acked);
        assert!(usize::try_from(acked).expect("small") <= self.request.len());
        self.acked = acked;
        assert_ne!(be16(frame, 14 + 20 + 14), 0, "the window stays open");
    }

    fn carry(&mut self, frame: Vec<u8>) {
        let handed_off = *self.handed_off.get_or_insert(self.world.now);
        if self.world.now.since(handed_off) > FOUL {
            self.fates.clear();
        }
        match self.fates.pop().unwrap_or(Fate::Arrives) {
            Fate::IsLost => self.lost += 1,
            Fate::IsOvertaken if self.waiting.is_none() => return self.waiting = Some(frame),
            Fate::Arrives | Fate::IsOvertaken => self.arrive(&frame),
            Fate::ArrivesTwice => {
                self.arrive(&frame);
                self.arrive(&frame);
            }
        }
        if let Some(frame) = self.waiting.take() {
            self.arrive(&frame);
        }
    }

    fn arrive(&mut self, frame: &[u8]) {
        let message = read_message(frame);
        match message.kind {
            HANDOFF | FORWARD => self.socket.take(&message),
            WHO_HAS => {
                if let Some(answer) = self.socket.answer(&message) {
                    if self.fates.pop() == Some(Fate::IsLost) {
                        return self.lost += 1;
                    }
                    let outcome = self.world.give(&answer);
                    assert_eq!(outcome.verdict, Verdict::Absorb);
                    outcome.sent.frames.into_iter().for_each(|frame| self.route(frame));
                }
            }
            other => panic!("type {other}"),
        }
    }

    fn wait(&mut self, millis: u64) {
        for _ in 0..millis.div_ceil(10) {
            let sent = self.world.pass_by(Micros::from_millis(10), Micros::from_millis(10));
            sent.into_iter().for_each(|frame| self.route(frame));
            if let Some(late) = self.waiting.take() {
                self.arrive(&late); // nothing came to overtake it
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_server_reads_what_the_client_wrote_whatever_is_lost_repeated_or_shuffled(
        cookie_bytes in prop_oneof![2 => 0..3_000_usize, 1 => 0..29_900_usize],
        steps in prop::collection::vec(step(), 1..60),
        fates in prop::collection::vec(fate(), 0..60),
        stamped: bool,
        fin: bool,
    ) {
        let mut world = World::new();
        let mut client = Client::with(if stamped { USUAL } else { BARE });
        world.connect(&mut client);
        let request = long_request(cookie_bytes);
        let mut scene = Scene {
            world,
            client,
            request,
            fin,
            sent: 0,
            acked: 0,
            socket: Socket::default(),
            fates,
            waiting: None,
            handed_off: None,
            lost: 0,
        };
        scene.send(0, 1); // the first segment is the first byte's, or no cookie fits
        for step in steps {
            match step {
                Step::Piece(at, bytes) => scene.send(at.index(scene.request.len()), usize::from(bytes)),
                Step::Next(bytes) => scene.send(scene.sent.min(scene.request.len() - 1), usize::from(bytes)),
                Step::Wait(millis) => scene.wait(u64::from(millis)),
            }
        }
        // The client sends the rest, and never again what was acknowledged.
        while scene.world.flow(scene.client.tuple()).is_some_and(|flow| flow.state == State::Holding) {
            let from = usize::try_from(scene.acked).expect("small").min(scene.request.len() - 1);
            scene.send(from, 1300);
        }
        prop_assert_eq!(scene.world.event(Event::Handoffs), 1);
        // What it was not told of it repeats now and then, as a client does: the switch may have nothing to repeat.
        let stream = loop {
            scene.wait(250);
            let stream = scene.socket.stream();
            let heard = usize::try_from(scene.acked).expect("small").max(stream.len());
            if heard == scene.request.len() && stream.len() == heard && scene.socket.is_finished() == fin {
                break stream;
            }
            prop_assert!(scene.world.flow(scene.client.tuple()).is_some(), "given up after {} losses", scene.lost);
            if heard < scene.request.len() || fin && !scene.socket.is_finished() {
                scene.send(heard.min(scene.request.len() - 1), 1300);
            }
        };
        prop_assert_eq!(String::from_utf8_lossy(&stream), String::from_utf8_lossy(&scene.request));
        prop_assert_eq!((scene.world.event(Event::HeadsLost), scene.world.event(Event::ResetsSent)), (0, 0));
        // In the end the switch is at rest.
        scene.wait(13_000);
        let repeated = scene.world.event(Event::HeldRepeated);
        scene.wait(7_000);
        prop_assert_eq!(scene.world.event(Event::HeldRepeated), repeated);
    }
}
