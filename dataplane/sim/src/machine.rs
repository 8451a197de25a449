//! The switch's machine: the real [`Switch`] on each lcore, a NIC that spreads frames over them, and a mailbox between them.
//!
//! Nothing here decides anything about a frame: this is the third front of the core, beside DPDK and the benchmarks.

use std::collections::BTreeMap;
use std::sync::Arc;

use baton_core::policy::Load;
use baton_core::switch::{FlowView, Learned, Renewal, Update};
use baton_core::{
    Counters, DropReason, Entropy, Event, Frame, Lcore, Micros, Outbox, Settings, Snapshot, Switch, Verdict,
};
use smoltcp::wire::{IpProtocol, Ipv4Packet};

use crate::addresses::mac;
use crate::chances::Chances;
use crate::packet::{self, Bytes};

const HEADROOM: usize = 128;
const TAILROOM: usize = 128;
/// The stream of chances that a machine draws from.
const STREAM_MACHINE: u64 = 3;
/// How often a frame may be handed on before the machine calls it a circle.
const STEER_COUNT_MAX: usize = 16;

/// One run of the program, from its start to its end.
pub struct Machine {
    lcores: Vec<Seat>,
    /// Decides which lcore a flow is received by.
    hash_seed: u64,
    /// In how many calls in a thousand the core finds no buffer, and what decides in which.
    buffers_lacking: u64,
    chances: Chances,
    /// Frames that went from lcore to lcore without end.
    pub circles: u64,
}

struct Seat {
    switch: Switch,
    counters: Arc<Counters>,
}

/// What one call of the core sent and learned.
#[derive(Default)]
struct Out {
    frames: Vec<Bytes>,
    news: Vec<Learned>,
    /// Whether there are buffers.
    is_blocked: bool,
}

impl Outbox for Out {
    fn transmit(&mut self, frame: &[u8]) -> bool {
        if !self.is_blocked {
            self.frames.push(frame.to_vec());
        }
        !self.is_blocked
    }

    fn share(&mut self, news: Learned) {
        self.news.push(news);
    }
}

impl Machine {
    /// Starts the program on `count` lcores. `now` is what its own clock shows.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn start(
        count: u8,
        settings: &Settings,
        snapshot: &Arc<Snapshot>,
        chances: &mut Chances,
        now: Micros,
    ) -> Result<Self, baton_core::switch::SettingsError> {
        let mut lcores = Vec::new();
        for number in 0..count {
            let lcore = Lcore { number, count, mac: mac::SWITCH };
            let counters = Arc::new(Counters::default());
            let entropy = Entropy::from_seed(chances.bits());
            let switch = Switch::new(
                lcore,
                settings.clone(),
                Arc::clone(snapshot),
                Arc::clone(&counters),
                entropy,
                now,
            )?;
            lcores.push(Seat { switch, counters });
        }
        let hash_seed = chances.bits();
        let chances = Chances::new(hash_seed, STREAM_MACHINE);
        Ok(Self { lcores, hash_seed, buffers_lacking: 0, chances, circles: 0 })
    }

    /// Lets the core find no buffer for what it sends beside a frame, in so many calls in a thousand.
    #[must_use]
    pub fn lacking_buffers(mut self, per_mille: u64) -> Self {
        self.buffers_lacking = per_mille;
        self
    }

    fn out(&mut self) -> Out {
        let is_blocked = self.buffers_lacking > 0 && self.chances.between(0, 999) < self.buffers_lacking;
        Out { is_blocked, ..Out::default() }
    }

    /// Publishes a snapshot to all lcores.
    pub fn apply(&mut self, snapshot: &Arc<Snapshot>, now: Micros) {
        for seat in &mut self.lcores {
            let renewal = Renewal::between(seat.switch.snapshot(), snapshot);
            drop(seat.switch.apply(Update::new(Arc::clone(snapshot), renewal), now));
        }
    }

    /// Tells all lcores what backends report.
    pub fn take_loads(&mut self, loads: &Arc<[Option<Load>]>) {
        for seat in &mut self.lcores {
            seat.switch.take_loads(Arc::clone(loads));
        }
    }

    /// Returns how many connections the lcores count at backends.
    #[must_use]
    pub fn counted_connections(&self) -> u64 {
        let tallies = self.lcores.iter().flat_map(|seat| seat.switch.tallies());
        tallies.map(|tally| u64::from(tally.connections)).sum()
    }

    /// Gives a frame to the lcore whose queue it falls into, and on to whom that one names; returns what the machine sends.
    pub fn receive(&mut self, frame: Bytes, now: Micros) -> Vec<Bytes> {
        let mut sent = Vec::new();
        let mut next = Some((self.queue_of(&frame), frame));
        for _ in 0..STEER_COUNT_MAX {
            let Some((lcore, frame)) = next else { return sent };
            next = self.look_at(lcore, frame, now, &mut sent);
        }
        self.circles += 1;
        sent
    }

    /// Lets one lcore look at a frame; returns where it is to go on to, if another lcore's.
    fn look_at(
        &mut self,
        lcore: usize,
        frame: Bytes,
        now: Micros,
        sent: &mut Vec<Bytes>,
    ) -> Option<(usize, Bytes)> {
        let mut buffer = vec![0; HEADROOM + frame.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + frame.len()].copy_from_slice(&frame);
        let mut view = Frame::new(&mut buffer, HEADROOM, frame.len())?;
        let mut out = self.out();
        let verdict = self.lcores.get_mut(lcore)?.switch.receive(&mut view, now, &mut out);
        let after = view.bytes().to_vec();
        self.take_out(lcore, out, now, sent);
        match verdict {
            Verdict::Forward | Verdict::Reply => sent.push(after),
            Verdict::Absorb | Verdict::Drop(_) => {}
            Verdict::Steer(to) => return Some((usize::from(to), after)),
        }
        None
    }

    /// Lets every lcore do what time asks for.
    pub fn poll(&mut self, now: Micros) -> Vec<Bytes> {
        let mut sent = Vec::new();
        for lcore in 0..self.lcores.len() {
            let mut out = self.out();
            self.lcores[lcore].switch.poll(now, &mut out);
            self.take_out(lcore, out, now, &mut sent);
        }
        sent
    }

    fn take_out(&mut self, lcore: usize, out: Out, now: Micros, sent: &mut Vec<Bytes>) {
        sent.extend(out.frames);
        for news in out.news {
            let others = self.lcores.iter_mut().enumerate().filter(|(other, _)| *other != lcore);
            others.for_each(|(_, seat)| seat.switch.learn(news, now));
        }
    }

    /// Which lcore's queue the NIC puts a frame into: by the flow, whatever its direction says (RSS).
    fn queue_of(&self, frame: &[u8]) -> usize {
        let Some(ip) = packet::ipv4_of(frame) else { return 0 };
        let header = Ipv4Packet::new_unchecked(ip);
        let ports = match header.next_header() {
            IpProtocol::Tcp | IpProtocol::Udp => ip.get(20..24).unwrap_or_default(),
            _ => &[],
        };
        let addresses = ip.get(12..20).unwrap_or_default();
        let hash = addresses
            .iter()
            .chain(ports)
            .fold(self.hash_seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let count = u64::try_from(self.lcores.len()).unwrap_or(1);
        usize::try_from((hash >> 32) % count).unwrap_or(0)
    }

    /// Every flow of every lcore.
    pub fn flows(&self) -> impl Iterator<Item = FlowView> {
        self.lcores.iter().flat_map(|seat| seat.switch.flows())
    }

    /// Flows of all lcores.
    #[must_use]
    pub fn flow_count(&self) -> usize {
        self.lcores.iter().map(|seat| seat.switch.flow_count()).sum()
    }

    /// Heads and error pages that all lcores keep.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.lcores.iter().map(|seat| seat.switch.held_count()).sum()
    }

    /// Reads the counters of all lcores, those that are not 0.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for seat in &self.lcores {
            let events = Event::ALL.iter().map(|event| (event.name(), seat.counters.event(*event)));
            let drops = DropReason::ALL.iter().map(|reason| (reason.name(), seat.counters.drops(*reason)));
            for (name, count) in events.chain(drops).filter(|(_, count)| *count > 0) {
                *counts.entry(name).or_default() += count;
            }
        }
        counts
    }
}
