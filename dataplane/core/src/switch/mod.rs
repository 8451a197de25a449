//! The switch itself: composes the other rooms, decides for every frame.
//!
//! One [`Switch`] per lcore, sharing nothing. Its parts, by what a frame is:
//! `reach` (ARP), `icmp` (pings and errors), `handshake` (SYN and clients without a request), `request` (first data), `decide` and
//! `dispatch` (which backend gets it), `held` and `hold` (heads in several segments), `error_page` (requests the switch answers itself), `forward` (packets of known
//! flows, the tunnel), `ask` and `reprieve` (connections nobody here knows), `answers` (what backends say).

mod allowance;
mod answers;
mod ask;
mod decide;
mod dispatch;
mod emit;
mod error_page;
mod forward;
mod fullness;
mod handshake;
mod held;
mod hold;
mod icmp;
mod outbox;
mod reach;
mod renewal;
mod reprieve;
mod request;
mod settings;

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use handoff_proto::{FourTuple, KeyId, Micros, TagKey};
use thiserror::Error;

pub use decide::Explanation;
pub use dispatch::Why;
pub use hold::{HEAD_BYTES_MAX, SEGMENT_COUNT_MAX};
pub use outbox::{Learned, Outbox};
pub use renewal::{Renewal, Retired, Update};
pub use settings::{Backend, Inspect, Lcore, Network, Service, Settings, Snapshot};

use crate::cookie::CookieJar;
use crate::entropy::Entropy;
use crate::flow::{FlowSettings, FlowTable, State};
use crate::frame::Frame;
use crate::ids::{BackendIndex, VipIndex};
use crate::metrics::{Counters, DropReason, Event};
use crate::neighbor::{HopIndex, Neighbors};
use crate::policy::Load;
use crate::policy::balance::Tally;
use crate::switch::allowance::Allowance;
use crate::switch::ask::{ASK_INTERVAL, LEARNING, QUESTIONS_PER_SECOND, UNCLAIMED_TIMEOUT};
use crate::switch::dispatch::Dispatcher;
use crate::switch::error_page::ANSWERED_TIMEOUT;
use crate::switch::hold::HoldPool;
use crate::switch::icmp::ROUNDS_PER_SECOND;
use crate::switch::reach::Announcements;
use crate::switch::reprieve::Reprieves;
use crate::tls;
use crate::verdict::Verdict;
use crate::wire::{Carries, ETHERNET_BYTES, Ethernet, Fault, Ipv4, MacAddress, Protocol, Segment};

/// The smallest MTU that leaves room for the tunnel and the smallest MSS.
pub const MTU_BYTES_MIN: u16 = 84 + 40 + handoff_proto::tcp::MSS_MIN;

/// How many flows `poll` looks at for their timers.
const EXPIRY_LOOKS_MAX: usize = 64;

/// The switch of one lcore.
#[derive(Debug)]
pub struct Switch {
    lcore: Lcore,
    settings: Settings,
    snapshot: Arc<Snapshot>,
    counters: Arc<Counters>,
    cookies: CookieJar,
    flows: FlowTable,
    holds: HoldPool,
    reprieves: Reprieves,
    neighbors: Neighbors,
    /// Per backend of the snapshot: where to send its packets.
    paths: Vec<Path>,
    dispatcher: Dispatcher,
    tag_keys: Vec<(KeyId, TagKey)>,
    announcements: Announcements,
    /// The last stranger that claimed one of our addresses.
    conflict: Option<Learned>,
    /// When one of our addresses was last defended.
    defended: Option<Micros>,
    /// Until when connections may turn up that were handed off before this switch started.
    learning_until: Micros,
    questions: Allowance,
    held_questions: Allowance,
    icmp_rounds: Allowance,
    digest_key: [u8; 16],
    /// Room for one frame to be built beside the one being looked at.
    scratch: Box<[u8]>,
    /// Room for the answer of a rule.
    page: Box<[u8]>,
    /// Room for a ClientHello to be put together in.
    hello: Box<tls::Scratch>,
}

/// How packets get to a backend.
#[derive(Clone, Copy, Debug)]
struct Path {
    address: Ipv4Addr,
    hop: HopIndex,
    /// On the data network, so that confirmed flows need no tunnel.
    on_link: bool,
}

/// Why a switch cannot be made as told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// The MTU leaves no room.
    #[error("an MTU of {0} bytes leaves no room for the tunnel; at least {MTU_BYTES_MIN} are needed")]
    MtuTooSmall(u16),
    /// No flow could ever be kept.
    #[error("the flow table and the number of held heads must be at least 1")]
    NoCapacity,
    /// More held heads than can be numbered.
    #[error("{0} held heads; at most 65,535 are possible")]
    TooManyHolds(usize),
}

/// A flow as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// Whose connection it is.
    pub tuple: FourTuple,
    /// Which backend has it; meaningless while holding.
    pub backend: BackendIndex,
    /// Where it stands.
    pub state: State,
    /// When its first byte came.
    pub created: Micros,
    /// When its client's last packet came; while holding, when its first byte came.
    pub last_seen: Micros,
}

impl Switch {
    /// Allocates everything one lcore needs.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(
        lcore: Lcore,
        settings: Settings,
        snapshot: Arc<Snapshot>,
        counters: Arc<Counters>,
        mut entropy: Entropy,
        now: Micros,
    ) -> Result<Self, SettingsError> {
        if settings.mtu_bytes < MTU_BYTES_MIN {
            return Err(SettingsError::MtuTooSmall(settings.mtu_bytes));
        }
        if settings.flow_count_max == 0 || settings.hold_count_max == 0 {
            return Err(SettingsError::NoCapacity);
        }
        let hold_count = u16::try_from(settings.hold_count_max)
            .map_err(|_| SettingsError::TooManyHolds(settings.hold_count_max))?;
        let flow_settings = FlowSettings {
            count_max: settings.flow_count_max,
            asking: ASK_INTERVAL,
            holding: settings.hold_timeout,
            unconfirmed: settings.unconfirmed_timeout,
            established: settings.established_timeout,
            closing: settings.closing_timeout,
            answered: ANSWERED_TIMEOUT,
            unclaimed: UNCLAIMED_TIMEOUT,
        };
        let mut switch = Self {
            cookies: CookieJar::new(&snapshot.keys, settings.window_scale, now),
            flows: FlowTable::new(&flow_settings, &mut entropy),
            holds: HoldPool::new(hold_count),
            reprieves: Reprieves::default(),
            neighbors: Neighbors::default(),
            paths: Vec::new(),
            dispatcher: Dispatcher::new(lcore.count, &mut entropy),
            tag_keys: Vec::new(),
            announcements: Announcements::new(now),
            conflict: None,
            defended: None,
            learning_until: now.plus(LEARNING),
            questions: Allowance::new(QUESTIONS_PER_SECOND),
            held_questions: Allowance::new(QUESTIONS_PER_SECOND),
            icmp_rounds: Allowance::new(ROUNDS_PER_SECOND),
            digest_key: entropy.key(),
            scratch: vec![0; SCRATCH_HEADROOM + ETHERNET_BYTES + usize::from(settings.mtu_bytes)].into(),
            page: vec![0; HEAD_BYTES_MAX].into(),
            hello: Box::new([0; tls::HELLO_BYTES_MAX]),
            snapshot: Arc::new(Snapshot::bare(snapshot.keys.clone())),
            counters,
            lcore,
            settings,
        };
        let renewal = Renewal::between(&switch.snapshot, &snapshot);
        drop(switch.take_snapshot(Update::new(snapshot, renewal), now));
        Ok(switch)
    }

    /// Takes what control published. Returns what is needed no more.
    pub fn apply(&mut self, update: Update, now: Micros) -> Retired {
        self.cookies.set_keys(&update.snapshot.keys);
        self.take_snapshot(update, now)
    }

    /// Returns what control published last.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    fn take_snapshot(&mut self, update: Update, now: Micros) -> Retired {
        let Update { snapshot, renewal } = update;
        let network = self.settings.network;
        self.paths = snapshot
            .backends
            .iter()
            .enumerate()
            .map(|(position, backend)| {
                let address = match backend.address {
                    IpAddr::V4(address) => address,
                    // The configuration refuses IPv6 addresses; such a backend is never usable.
                    IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
                };
                // Mostly only what is usable has changed: no search among all next hops for every backend then.
                if let Some(path) = self.paths.get(position).filter(|path| path.address == address) {
                    return *path;
                }
                let on_link = network.contains(address);
                let via = if on_link { address } else { network.gateway.unwrap_or(address) };
                Path { address, hop: self.neighbors.entry(via, now), on_link }
            })
            .collect();
        let policies = self.dispatcher.renew(&snapshot, renewal);
        self.tag_keys = snapshot.keys.iter().map(|key| (key.id(), key.tag_key())).collect();
        Retired { snapshot: core::mem::replace(&mut self.snapshot, snapshot), policies }
    }

    /// Takes what the switch of another lcore learned.
    pub fn learn(&mut self, news: Learned, now: Micros) {
        self.neighbors.learn(news.address, news.mac, now);
    }

    /// Takes what agents report of their backends, by `BackendIndex`.
    pub fn take_loads(&mut self, loads: Arc<[Option<Load>]>) {
        self.dispatcher.take_loads(loads);
    }

    /// Takes what an agent has learned: that its backend has made a TLS session.
    pub fn learn_session(&mut self, id: &[u8], backend: BackendIndex, now: Micros) {
        self.counters.count(Event::SessionsLearned);
        self.dispatcher.learn_session(id, backend, now);
    }

    /// Returns what this lcore has given each backend, by `BackendIndex`.
    pub fn tallies(&self) -> &[Tally] {
        self.dispatcher.tallies()
    }

    /// Returns how many requests each rule took since the rules are in force.
    pub fn rule_hits(&self) -> &[u64] {
        self.dispatcher.rule_hits()
    }

    /// Lists the flows, at a cost that goes by how many are taken.
    pub fn flows(&self) -> impl Iterator<Item = FlowView> {
        self.flows.iter().map(|(flow, state)| FlowView {
            tuple: flow.tuple,
            backend: flow.backend,
            state,
            created: flow.created,
            last_seen: flow.last_seen,
        })
    }

    /// Returns how many flows there are.
    pub const fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// Returns how many unfinished or unconfirmed heads and error pages are kept.
    pub const fn held_count(&self) -> usize {
        self.holds.in_use()
    }

    /// Lists the next hops and their hardware addresses, as far as known.
    pub fn next_hops(&self) -> impl Iterator<Item = (Ipv4Addr, Option<MacAddress>)> {
        self.neighbors.iter()
    }

    /// Returns who was last seen to claim a VIP or the switch's own address (RFC 5227, section 2.4: we go on defending it by
    /// answering those who ask).
    pub const fn conflict(&self) -> Option<Learned> {
        self.conflict
    }

    /// Returns the next hop towards a backend.
    pub fn next_hop_of(&self, backend: BackendIndex) -> Option<MacAddress> {
        self.neighbors.mac(self.paths.get(usize::from(backend.0))?.hop)
    }

    /// Decides about one frame. The verdict is counted already; `frame` tells where the bytes to send are.
    pub fn receive(&mut self, frame: &mut Frame<'_>, now: Micros, out: &mut impl Outbox) -> Verdict {
        self.counters.count(Event::RxFrames);
        self.counters.add(Event::RxBytes, u64::try_from(frame.len()).unwrap_or(0));
        let verdict = self.decide(frame, now, out).unwrap_or_else(Verdict::Drop);
        if let Verdict::Drop(reason) = verdict {
            self.counters.count_drop(reason);
        }
        self.publish_flow_count();
        verdict
    }

    /// Does what time asks for: announcements, questions for next hops, timers of flows. A bounded amount per call; to be
    /// called once per turn of the burst loop.
    pub fn poll(&mut self, now: Micros, out: &mut impl Outbox) {
        self.cookies.turn(now);
        if self.lcore.number == 0 {
            self.announce(now, out);
        }
        self.ask_for_next_hops(now, out);
        self.tend_holds(now, out);
        self.end_reprieves(now, out);
        self.expire_flows(now, out);
        self.publish_flow_count();
    }

    fn decide(
        &mut self,
        frame: &mut Frame<'_>,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let ethernet = Ethernet::parse(frame.bytes())?;
        if ethernet.destination != self.lcore.mac && !ethernet.destination.is_broadcast() {
            return Err(DropReason::NotForUs);
        }
        match ethernet.carries {
            Carries::Arp => return self.arp(frame, now, out),
            Carries::Other => return Err(DropReason::NotForUs),
            Carries::Ipv4 => {}
        }
        if ethernet.destination.is_broadcast() {
            return Err(DropReason::NotForUs);
        }
        let ip = Ipv4::parse(frame.bytes())?;
        if ip.total_bytes > usize::from(self.settings.mtu_bytes) {
            return Err(DropReason::TooLong);
        }
        // Short packets are padded on the wire: what lies behind the packet is not part of it.
        frame.resize(ETHERNET_BYTES + ip.total_bytes).map_err(|_| DropReason::Malformed)?;
        match ip.protocol {
            Protocol::Tcp => self.tcp(frame, &ethernet, &ip, now, out),
            Protocol::Icmp => self.icmp(frame, &ip, now),
            Protocol::Udp if ip.destination == self.settings.network.address => {
                self.answer(frame, ip.source, now, out)
            }
            Protocol::Udp | Protocol::Other => Err(DropReason::NotVip),
        }
    }

    fn tcp(
        &mut self,
        frame: &mut Frame<'_>,
        ethernet: &Ethernet,
        ip: &Ipv4,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let segment = Segment::parse(frame.bytes(), ip)?;
        let vip = self.vip_of(&segment).ok_or(DropReason::NotVip)?;
        let arrival = Arrival { segment, vip, client_mac: ethernet.source, ip: *ip, now };
        if segment.flags.syn {
            return self.syn(frame, &arrival);
        }
        match self.flows.find(&segment.tuple) {
            Some(id) => self.known(frame, &arrival, id, out),
            None => self.unknown(frame, &arrival, None, out),
        }
    }

    fn vip_of(&self, segment: &Segment) -> Option<VipIndex> {
        let service = segment.tuple.service();
        let position = self.snapshot.vips.iter().position(|known| known.vip == service)?;
        u16::try_from(position).ok().map(VipIndex)
    }

    fn publish_flow_count(&self) {
        self.counters.set_flows(u64::try_from(self.flows.len()).unwrap_or(u64::MAX));
    }
}

/// Headroom of the scratch buffer: what the tunnel puts in front.
const SCRATCH_HEADROOM: usize = 128;

/// A segment to a VIP, with what is known of how it came.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    segment: Segment,
    vip: VipIndex,
    client_mac: MacAddress,
    ip: Ipv4,
    now: Micros,
}

impl Arrival {
    /// Insists on a good TCP checksum: what the switch believes or parses must be what the backend's kernel will accept.
    fn verify(&self, frame: &Frame<'_>) -> Result<(), DropReason> {
        if Segment::checksum_holds(frame.bytes(), &self.ip) { Ok(()) } else { Err(DropReason::TcpChecksum) }
    }
}

impl From<Fault> for DropReason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed => Self::Malformed,
            Fault::IpChecksum => Self::IpChecksum,
            Fault::IpFragment => Self::IpFragment,
            Fault::IpOptions => Self::IpOptions,
            Fault::SourceInvalid => Self::SourceInvalid,
            Fault::TcpFlags => Self::TcpFlags,
            Fault::TcpOptions => Self::TcpOptions,
        }
    }
}
