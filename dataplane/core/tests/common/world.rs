//! The switch with everything around it that a story needs: time, a network that answers ARP, and an account of all
//! that happened, compared with the counters frame by frame.

use std::sync::Arc;

use baton_core::ids::{BackendIndex, PoolIndex};
use baton_core::policy::{Conditions, PathMatch, Pool, Rule, Rules};
use baton_core::switch::{Backend, FlowView, Learned, Renewal, Service, Update};
use baton_core::{
    Counters, DropReason, Entropy, Event, Frame, Lcore, Micros, Network, Outbox, Settings, Snapshot, Switch,
    Verdict,
};
use handoff_proto::keys::Key;
use handoff_proto::{FourTuple, KeyId, KeyRing, Tag, TagKey, Vip};
use smoltcp::wire::EthernetAddress;

use super::client::Client;
use super::packets::{
    ACK, Ip, Mac, Message, RST, TcpFrame, arp, ethernet, ipv4, read_message, read_tcp, udp,
};

pub(crate) const SWITCH_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(crate) const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 254];
pub(crate) const BROADCAST: Mac = [0xff; 6];
pub(crate) const SWITCH: Ip = [10, 60, 0, 1];
pub(crate) const GATEWAY: Ip = [10, 60, 0, 254];
pub(crate) const VIP: Ip = [10, 60, 0, 100];
pub(crate) const OTHER_VIP: Ip = [10, 60, 0, 101];
/// Backends: two of the pool "files", one behind the router, one that is never usable.
pub(crate) const BACKENDS: [Ip; 4] = [[10, 60, 0, 11], [10, 60, 0, 12], [10, 61, 0, 11], [10, 60, 0, 14]];
pub(crate) const BACKEND_MACS: [Mac; 4] =
    [[2, 0, 0, 0, 1, 11], [2, 0, 0, 0, 1, 12], ROUTER_MAC, [2, 0, 0, 0, 1, 14]];
pub(crate) const SECRET: [u8; 32] = [0x5a; 32];
pub(crate) const KEY_ID: u8 = 3;

/// Ten seconds into a cookie epoch of 128 s.
pub(crate) const START: Micros = Micros::from_secs(128 * 13_300_000 + 10);

/// Ports from here on belong to clients that tests of arbitrary frames start with.
pub(crate) const STARTED_PORTS: u16 = 50_000;

const HEADROOM: usize = 128;
const TAILROOM: usize = 128;
/// What spare bytes of a buffer hold, so that one read or sent by mistake is seen.
const GARBAGE: u8 = 0xee;
/// How often the world polls while time passes.
const TURN: Micros = Micros::from_millis(100);

/// What the switch sent beside its verdicts.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) shared: Vec<Learned>,
    /// There are no buffers.
    pub(crate) blocked: bool,
}

impl Outbox for Sent {
    fn transmit(&mut self, frame: &[u8]) -> bool {
        if !self.blocked {
            self.frames.push(frame.to_vec());
        }
        !self.blocked
    }

    fn share(&mut self, news: Learned) {
        self.shared.push(news);
    }
}

/// What became of one frame.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
    pub(crate) sent: Sent,
}

impl Outcome {
    pub(crate) fn reply(&self) -> TcpFrame {
        assert_eq!(self.verdict, Verdict::Reply);
        read_tcp(&self.frame)
    }

    /// The frame as a tunnelled one.
    pub(crate) fn message(&self) -> Message {
        assert_eq!(self.verdict, Verdict::Forward);
        read_message(&self.frame)
    }

    /// Insists that `client` was reset, at the sequence number it expects next.
    pub(crate) fn expect_reset(&self, client: &Client) {
        let reset = self.reply();
        assert_eq!((reset.to, reset.from), (client.mac, SWITCH_MAC));
        assert_eq!((reset.source, reset.destination), (client.vip, client.address));
        assert_eq!((reset.source_port, reset.destination_port), (client.vip_port, client.port));
        assert_eq!(reset.flags & (RST | ACK), RST);
        assert_eq!(reset.seq, client.peer_isn.wrapping_add(1), "what the client expects next");
        assert!(reset.payload.is_empty());
    }

    /// Insists that `original` went to the backend by rewriting hardware addresses and nothing else.
    pub(crate) fn expect_direct(&self, original: &[u8], backend: usize) {
        assert_eq!(self.verdict, Verdict::Forward);
        assert_eq!(self.frame[..6], BACKEND_MACS[backend]);
        assert_eq!(self.frame[6..12], SWITCH_MAC);
        assert_eq!(self.frame[12..], original[12..], "everything behind the addresses is untouched");
    }
}

/// Verdicts seen, to be compared with the counters.
#[derive(Debug, Default)]
struct Account {
    frames: u64,
    bytes: u64,
    forward: u64,
    reply: u64,
    absorb: u64,
    drop: u64,
    steer: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Reading {
    events: Vec<u64>,
    drops: Vec<u64>,
}

/// The events that count a frame each that the switch sends.
const SENDING: &[Event] = &[
    Event::ArpAnnouncements,
    Event::ArpRequestsAnswered,
    Event::ArpRequestsSent,
    Event::ForwardedDirect,
    Event::ForwardedTunnel,
    Event::HandoffPackets,
    Event::HeadAcks,
    Event::HeldRepeated,
    Event::IcmpErrorsForwarded,
    Event::IdleFinsAnswered,
    Event::IdleProbesAnswered,
    Event::InputDiscarded,
    Event::PageSegments,
    Event::PagesRepeated,
    Event::PingsAnswered,
    Event::QuestionsSent,
    Event::ResetsSent,
    Event::SynAcks,
];

pub(crate) struct World {
    pub(crate) switch: Switch,
    pub(crate) counters: Arc<Counters>,
    pub(crate) now: Micros,
    /// Hosts that no longer answer ARP.
    pub(crate) silent: Vec<Ip>,
    account: Account,
}

pub(crate) const fn lcore(number: u8) -> Lcore {
    Lcore { number, count: 1, mac: EthernetAddress(SWITCH_MAC) }
}

pub(crate) fn settings() -> Settings {
    Settings {
        network: Network { address: SWITCH.into(), prefix_bits: 24, gateway: Some(GATEWAY.into()) },
        mtu_bytes: 1500,
        flow_count_max: 64,
        hold_count_max: 4,
        hold_timeout: Micros::from_secs(10),
        unconfirmed_timeout: Micros::from_secs(30),
        established_timeout: Micros::from_secs(900),
        closing_timeout: Micros::from_secs(10),
        window_scale: 7,
    }
}

/// `/files/` is served by backends 0 and 1, `/routed/` by 2, `/dead/` by 3, which is not usable; nothing else is served.
pub(crate) fn snapshot() -> Snapshot {
    let rule = |prefix: &str, pool| {
        let path = Some(PathMatch::Prefix(prefix.into()));
        Rule::to_pool(Conditions { path, ..Conditions::default() }, PoolIndex(pool))
    };
    let members = |list: &[u16]| Pool::of(list.iter().copied().map(BackendIndex));
    Snapshot {
        vips: [VIP, OTHER_VIP].map(|address| Service::http(Vip { address: address.into(), port: 80 })).into(),
        backends: (0..)
            .zip(BACKENDS)
            .map(|(at, address)| Backend { usable: at != 3, ..Backend::at(address.into()) })
            .collect(),
        pools: vec![members(&[0, 1]), members(&[2]), members(&[3])],
        rules: Rules::new(vec![rule("/files/", 0), rule("/routed/", 1), rule("/dead/", 2)]),
        ..Snapshot::bare(ring(&[(KEY_ID, SECRET)]))
    }
}

pub(crate) fn ring(keys: &[(u8, [u8; 32])]) -> KeyRing {
    let keys = keys.iter().map(|(id, secret)| Key::new(KeyId(*id), *secret)).collect();
    KeyRing::new(keys).expect("a good ring")
}

pub(crate) fn tag_key(secret: [u8; 32]) -> TagKey {
    Key::new(KeyId(0), secret).tag_key()
}

impl World {
    /// A switch that knows all its next hops.
    pub(crate) fn new() -> Self {
        Self::with(settings(), snapshot())
    }

    pub(crate) fn with(settings: Settings, snapshot: Snapshot) -> Self {
        let mut world = Self::just_started(0, settings, snapshot);
        world.pass(Micros::from_secs(3)); // announcements are over, next hops known
        assert!(world.switch.next_hops().all(|(_, mac)| mac.is_some()));
        world
    }

    /// A switch that knows nobody yet.
    pub(crate) fn just_started(number: u8, settings: Settings, snapshot: Snapshot) -> Self {
        let counters = Arc::new(Counters::default());
        let entropy = Entropy::from_seed(1);
        let switch =
            Switch::new(lcore(number), settings, Arc::new(snapshot), Arc::clone(&counters), entropy, START)
                .expect("settings that work");
        Self { switch, counters, now: START, silent: Vec::new(), account: Account::default() }
    }

    pub(crate) fn apply(&mut self, snapshot: Snapshot) {
        let renewal = Renewal::between(self.switch.snapshot(), &snapshot);
        drop(self.switch.apply(Update::new(Arc::new(snapshot), renewal), self.now));
    }

    pub(crate) fn event(&self, event: Event) -> u64 {
        self.counters.event(event)
    }

    fn reading(&self) -> Reading {
        Reading {
            events: Event::ALL.iter().map(|event| self.counters.event(*event)).collect(),
            drops: DropReason::ALL.iter().map(|reason| self.counters.drops(*reason)).collect(),
        }
    }

    /// Gives the switch a frame and checks that what it counted fits what it did.
    pub(crate) fn give(&mut self, frame: &[u8]) -> Outcome {
        self.give_in(frame, HEADROOM, TAILROOM, false)
    }

    pub(crate) fn give_in(
        &mut self,
        frame: &[u8],
        headroom: usize,
        tailroom: usize,
        blocked: bool,
    ) -> Outcome {
        let mut buffer = vec![GARBAGE; headroom + frame.len() + tailroom];
        buffer[headroom..headroom + frame.len()].copy_from_slice(frame);
        let before = self.reading();
        let mut sent = Sent { blocked, ..Sent::default() };
        let mut view = Frame::new(&mut buffer, headroom, frame.len()).expect("inside");
        let verdict = self.switch.receive(&mut view, self.now, &mut sent);
        let frame_after = view.bytes().to_vec();
        self.account.frames += 1;
        self.account.bytes += u64::try_from(frame.len()).expect("short");
        let outcome = Outcome { verdict, frame: frame_after, sent };
        self.check_counted(&before, frame.len(), &outcome);
        outcome
    }

    /// Every frame is counted once as received, and once for what became of it.
    fn check_counted(&mut self, before: &Reading, bytes: usize, outcome: &Outcome) {
        let after = self.reading();
        let event = |kind: Event| after.events[kind as usize] - before.events[kind as usize];
        let any = |kinds: &[Event]| kinds.iter().map(|kind| event(*kind)).sum::<u64>();
        let dropped: Vec<DropReason> = DropReason::ALL
            .iter()
            .filter(|reason| after.drops[**reason as usize] != before.drops[**reason as usize])
            .copied()
            .collect();
        let drops: u64 = after.drops.iter().sum::<u64>() - before.drops.iter().sum::<u64>();
        assert_eq!(event(Event::RxFrames), 1);
        assert_eq!(event(Event::RxBytes), u64::try_from(bytes).expect("short"));
        assert_eq!(event(Event::Steered), u64::from(matches!(outcome.verdict, Verdict::Steer(_))));
        let aside = u64::try_from(outcome.sent.frames.len()).expect("few");
        let itself = u64::from(matches!(outcome.verdict, Verdict::Forward | Verdict::Reply));
        assert_eq!(any(SENDING), aside + itself, "every frame sent is counted by what it is");
        match outcome.verdict {
            Verdict::Drop(reason) => assert_eq!((&dropped[..], drops), (&[reason][..], 1)),
            // A request that is refused is counted by why, also where its client gets an answer.
            Verdict::Absorb | Verdict::Reply => assert!(drops <= 1, "one reason: {dropped:?}"),
            Verdict::Forward | Verdict::Steer(_) => assert_eq!(drops, 0, "{dropped:?}"),
        }
        let account = &mut self.account;
        *match outcome.verdict {
            Verdict::Forward => &mut account.forward,
            Verdict::Reply => &mut account.reply,
            Verdict::Absorb => &mut account.absorb,
            Verdict::Drop(_) => &mut account.drop,
            Verdict::Steer(_) => &mut account.steer,
        } += 1;
        assert_eq!(self.counters.flows(), u64::try_from(self.switch.flow_count()).expect("few"));
        assert_eq!(self.switch.flows().count(), self.switch.flow_count());
        self.check_tallies();
    }

    /// Each open connection is counted at its backend, and nothing else is.
    fn check_tallies(&self) {
        let mut open = vec![0; self.switch.tallies().len()];
        for flow in self.switch.flows().filter(|flow| flow.state.is_open()) {
            open[usize::from(flow.backend.0)] += 1;
        }
        let counted: Vec<u32> = self.switch.tallies().iter().map(|tally| tally.connections).collect();
        assert_eq!(counted, open);
    }

    /// Insists that a frame is dropped for a reason.
    pub(crate) fn expect_drop(&mut self, frame: &[u8], reason: DropReason) {
        assert_eq!(self.give(frame).verdict, Verdict::Drop(reason));
    }

    /// Lets the switch do once what time asks for; returns what it sent.
    pub(crate) fn poll(&mut self) -> Sent {
        let mut sent = Sent::default();
        self.switch.poll(self.now, &mut sent);
        sent
    }

    /// Lets time pass while the burst loop turns and hosts answer ARP; returns everything else the switch sent.
    pub(crate) fn pass(&mut self, span: Micros) -> Vec<Vec<u8>> {
        self.pass_by(span, TURN)
    }

    /// The same with a burst loop that turns once per `turn`.
    pub(crate) fn pass_by(&mut self, span: Micros, turn: Micros) -> Vec<Vec<u8>> {
        let until = self.now.plus(span);
        let mut others = Vec::new();
        loop {
            for frame in self.poll().frames {
                if !self.answer_arp(&frame) {
                    others.push(frame);
                }
            }
            if self.now == until {
                return others;
            }
            self.now = self.now.plus(turn).min(until);
        }
    }

    fn answer_arp(&mut self, frame: &[u8]) -> bool {
        if frame[12..14] != [0x08, 0x06] {
            return false;
        }
        let hosts = BACKENDS.into_iter().zip(BACKEND_MACS).chain([(GATEWAY, ROUTER_MAC)]);
        for (address, mac) in hosts {
            if frame[38..42] == address && !self.silent.contains(&address) {
                let reply = arp(2, (address, mac), (SWITCH, SWITCH_MAC), SWITCH_MAC);
                assert_eq!(self.give(&reply).verdict, Verdict::Absorb);
            }
        }
        true
    }

    /// Shakes hands with a client.
    pub(crate) fn connect(&mut self, client: &mut Client) {
        let answer = self.give(&client.syn().frame()).reply();
        client.take_syn_ack(&answer);
        assert_eq!(self.give(&client.ack(0)).verdict, Verdict::Absorb);
    }

    /// Connects a client, which sends a request; returns it and the handoff.
    pub(crate) fn request(&mut self, mut client: Client, path: &str) -> (Client, Outcome) {
        self.connect(&mut client);
        let outcome = self.give(&client.data(0, &super::client::get(path)));
        (client, outcome)
    }

    /// Connects a client that asks for a file and acknowledges the first bytes of the answer; returns it, how many bytes
    /// it has sent, and its backend.
    pub(crate) fn established(&mut self, client: Client, path: &str) -> (Client, u32, usize) {
        let (mut client, outcome) = self.request(client, path);
        let backend = backend_of(&outcome.message());
        client.read = 100;
        let sent = super::client::len(&super::client::get(path));
        assert_eq!(self.give(&client.ack(sent)).verdict, Verdict::Forward);
        self.now = self.now.plus(Micros(1)); // what is said of it from now on is not said of what was before it
        (client, sent, backend)
    }

    pub(crate) fn flow(&self, tuple: FourTuple) -> Option<FlowView> {
        self.switch.flows().find(|flow| flow.tuple == tuple)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let Account { frames, bytes, forward, reply, absorb, drop, steer } = self.account;
        assert_eq!(self.counters.event(Event::RxFrames), frames);
        assert_eq!(self.counters.event(Event::RxBytes), bytes);
        assert_eq!(frames, forward + reply + absorb + drop + steer);
    }
}

/// Says which backend a message went to, and insists that all addresses fit that.
pub(crate) fn backend_of(message: &Message) -> usize {
    let outer = message.outer;
    assert_eq!((outer.from, outer.source), (SWITCH_MAC, SWITCH));
    let backend = BACKENDS.iter().position(|backend| *backend == outer.destination).expect("a backend");
    assert_eq!(outer.to, BACKEND_MACS[backend]);
    assert!(message.source_port >= 0xc000, "in the dynamic range");
    backend
}

/// The 4-tuple of the client's packet inside a message.
pub(crate) fn inner_tuple(inner: &[u8]) -> FourTuple {
    let ip = |at: usize| Ip::try_from(&inner[at..at + 4]).expect("four bytes").into();
    let port = |at| super::packets::be16(inner, at);
    FourTuple { client: ip(12), client_port: port(20), vip: ip(16), vip_port: port(22) }
}

/// Says whether the tag of a message is right.
pub(crate) fn is_authentic(message: &Message, secret: [u8; 32]) -> bool {
    Tag::from_bytes(message.tag).verify(&tag_key(secret), &message.covered, &inner_tuple(&message.inner))
}

/// What a backend says of a message it got: the same, turned round, with another type and a tag of its own.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) covered: [u8; 48],
    pub(crate) outer_source: Ip,
    pub(crate) source_port: u16,
    pub(crate) inner: Vec<u8>,
    pub(crate) secret: [u8; 32],
    /// Changes to the tag.
    pub(crate) flip: u64,
}

impl Answer {
    pub(crate) fn refused(message: &Message) -> Self {
        Self::of(message, 7)
    }

    pub(crate) fn of(message: &Message, kind: u8) -> Self {
        let mut covered = message.covered;
        covered[5] = kind;
        covered[29] = 1; // no listener
        Self {
            covered,
            outer_source: message.outer.destination,
            source_port: message.source_port,
            inner: message.inner.clone(),
            secret: SECRET,
            flip: 0,
        }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let tuple = inner_tuple(&self.inner);
        let tag = Tag::of(&tag_key(self.secret), &self.covered, &tuple).to_bytes();
        let tag = (u64::from_be_bytes(tag) ^ self.flip).to_be_bytes();
        let datagram = udp(self.source_port, 7171, &[&self.covered[..], &tag, &self.inner].concat());
        ethernet(SWITCH_MAC, BACKEND_MACS[0], 0x0800, &ipv4(self.outer_source, SWITCH, 17, &datagram))
    }
}
