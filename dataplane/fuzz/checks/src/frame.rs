//! A whole switch in its world: clients, backends and strangers send what the input says, and time passes.
//!
//! The input is a list of steps, one byte for what and then what that takes; `dataplane/fuzz/seeds.py` writes the same
//! form. Checksums, cookies and tags are right unless a step makes them wrong, because the fuzzer cannot guess them.

mod judge;
mod steps;

use std::sync::Arc;

use baton_core::switch::Learned;
use baton_core::{Entropy, Event, Lcore, Micros, Settings, Switch};
use smoltcp::wire::EthernetAddress;

use crate::common::client::Client;
use crate::common::packets::Message;
use crate::common::world::{
    BACKEND_MACS, BACKENDS, GATEWAY, ROUTER_MAC, START, World, lcore, settings, snapshot,
};
use crate::input::Input;

/// Steps of one input.
const STEP_COUNT_MAX: usize = 80;
/// Messages to backends that can still be answered.
const MESSAGE_COUNT_MAX: usize = 16;
/// In the end, so long with nobody saying anything: more than one and a quarter of every timeout.
const SILENCE: Micros = Micros::from_secs(1800);

/// The world, and what the steps refer to.
struct Scene {
    world: World,
    settings: Settings,
    lcore: Lcore,
    players: Vec<Player>,
    /// Messages to backends, newest last.
    messages: Vec<Message>,
    /// The frame given last.
    last: Vec<u8>,
    buffers: Buffers,
    /// When the frames judged now were made, at the earliest.
    since: Micros,
    /// Connections handed off before the frame judged now.
    handoffs: u64,
}

/// A client, and how far it has sent.
struct Player {
    client: Client,
    sent: u32,
}

/// The room around frames, and whether there are buffers for further ones.
#[derive(Clone, Copy)]
struct Buffers {
    headroom: usize,
    tailroom: usize,
    blocked: bool,
}

/// Gives a switch all that the input says.
///
/// # Panics
/// A frame that is not counted once, a frame sent with a wrong checksum or tag or beyond the MTU, a table beyond its bound, a
/// flow that does not end when all fall silent; and whatever panics in the core.
pub fn frame(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut scene = Scene::new(input.byte());
    for _ in 0..STEP_COUNT_MAX {
        if input.is_empty() {
            break;
        }
        scene.step(&mut input);
        scene.expect_bounds();
    }
    scene.fall_silent();
}

impl Scene {
    /// Each bit of `kind` makes something different from the usual.
    fn new(kind: u8) -> Self {
        let bit = |at: u8| kind >> at & 1 == 1;
        let mut settings = settings();
        if bit(0) {
            settings.flow_count_max = 2;
        }
        if bit(1) {
            settings.hold_count_max = 1;
        }
        if bit(2) {
            settings.mtu_bytes = baton_core::switch::MTU_BYTES_MIN;
        }
        let is_learning = bit(3);
        let (number, count) = if bit(4) { (u8::from(bit(5)), 2) } else { (0, 1) };
        let mut world = if is_learning {
            World::just_started(0, settings.clone(), snapshot())
        } else {
            World::with(settings.clone(), snapshot())
        };
        let lcore = Lcore { number, count, ..lcore(number) };
        if count > 1 {
            // One of two lcores: what is not its own, it passes on.
            let (counters, entropy) = (Arc::clone(&world.counters), Entropy::from_seed(1));
            world.switch =
                Switch::new(lcore, settings.clone(), Arc::new(snapshot()), counters, entropy, START)
                    .expect("settings that work");
            for (address, mac) in BACKENDS.into_iter().zip(BACKEND_MACS).chain([(GATEWAY, ROUTER_MAC)]) {
                let news = Learned { address: address.into(), mac: EthernetAddress(mac) };
                world.switch.learn(news, world.now);
            }
        }
        let players = (0..3).map(|at| Player { client: Client::at_port(30_000 + at), sent: 0 }).collect();
        let buffers = Buffers { headroom: 128, tailroom: 128, blocked: false };
        let since = world.now;
        Self {
            world,
            settings,
            lcore,
            players,
            messages: Vec::new(),
            last: Vec::new(),
            buffers,
            since,
            handoffs: 0,
        }
    }

    /// Gives the switch a frame; judges and takes in what comes of it.
    fn give(&mut self, frame: Vec<u8>) {
        let Buffers { headroom, tailroom, blocked } = self.buffers;
        self.handoffs = self.world.event(Event::Handoffs);
        let outcome = self.world.give_in(&frame, headroom, tailroom, blocked);
        self.judge(&frame, &outcome);
        self.take_in(&outcome);
        self.last = frame;
    }

    fn remember(&mut self, message: Message) {
        if self.messages.len() == MESSAGE_COUNT_MAX {
            self.messages.remove(0);
        }
        self.messages.push(message);
    }

    /// Lets time pass in so many turns of the burst loop.
    fn pass(&mut self, span: Micros, turn: Micros) {
        for frame in self.world.pass_by(span, turn) {
            self.judge_aside(&frame);
        }
        self.since = self.world.now;
    }

    fn fall_silent(&mut self) {
        self.world.silent = BACKENDS.into_iter().chain([GATEWAY]).collect();
        self.pass(SILENCE, Micros::from_secs(60));
        let left: Vec<_> = self.world.switch.flows().collect();
        assert!(left.is_empty(), "flows that do not end: {left:?}");
    }
}
