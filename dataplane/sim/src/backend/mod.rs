//! A backend: the agent's programs at its interface, the kernel's sockets behind them, and a web server in front of these.
//!
//! [`rules`] decides what a message is good for, [`socket`] is what the kernel makes of a handoff, [`server`] answers
//! requests. This file is the interface: it reads messages and writes answers as `docs/PROTOCOL.md` says; `handoffs` does what
//! the rules say, and remembers.

mod handoffs;
mod message;
pub mod rules;
pub mod server;
pub mod socket;

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use handoff_proto::header::{Detail, LCORE_ANY};
use handoff_proto::tcp::Negotiated;
use handoff_proto::{
    FRESHNESS_FUTURE, FRESHNESS_PAST, FourTuple, Generation, HANDOFF_PORT, Header, KeyRing, MessageType,
    Micros,
};
use smoltcp::wire::{ArpOperation, ArpRepr, EthernetAddress};

use crate::backend::message::{Message, Ways};
use crate::backend::rules::{Fate, Record};
use crate::backend::server::Server;
use crate::backend::socket::{HandedOff, HostSettings, sequence};
use crate::packet::{self, Bytes, Segment};

/// How much of an inner packet a GONE brings back.
const GONE_INNER_BYTES: usize = 40;
/// How far its memory must reach back for a backend to take handoffs.
const MEMORY_AGE: Micros = Micros::from_secs(1);

/// Where a backend stands in its network.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its hardware address.
    pub mac: EthernetAddress,
    /// Through whom its answers go to clients.
    pub gateway_mac: EthernetAddress,
    /// The switch's address.
    pub switch: Ipv4Addr,
    /// The VIP that its server listens at.
    pub vip: (Ipv4Addr, u16),
}

/// What a socket that is no more has left behind.
pub struct Ended {
    /// Whose it was.
    pub tuple: FourTuple,
    /// When it was made.
    pub created: Micros,
    /// What its server did.
    pub server: Server,
}

/// A backend.
pub struct Backend {
    place: Place,
    host: HostSettings,
    keys: KeyRing,
    /// Nothing listens at the VIP if not.
    pub listens: bool,
    /// The listener's accept queue is full.
    pub is_crowded: bool,
    /// The agent has declared it ready.
    pub is_ready: bool,
    /// The switch's clock minus ours, once the agent has heard of it.
    clock_ahead: Option<i64>,
    /// When it began to remember generations, by the switch's clock.
    remembers_since: Option<Micros>,
    records: BTreeMap<FourTuple, Record>,
    sockets: BTreeMap<FourTuple, HandedOff>,
    waiting: Vec<(Micros, Bytes)>,
    /// Sockets that are no more.
    pub ended: Vec<Ended>,
    /// What happened, by name.
    pub counts: BTreeMap<&'static str, u64>,
    seed: u64,
}

impl Backend {
    /// Makes one that listens and whose agent has not heard of the switch.
    #[must_use]
    pub fn new(place: Place, host: HostSettings, keys: KeyRing, seed: u64) -> Self {
        Self {
            place,
            host,
            keys,
            listens: true,
            is_crowded: false,
            is_ready: false,
            clock_ahead: None,
            remembers_since: None,
            records: BTreeMap::new(),
            sockets: BTreeMap::new(),
            waiting: Vec::new(),
            ended: Vec::new(),
            counts: BTreeMap::new(),
            seed,
        }
    }

    /// The agent learned what the switch's clock shows.
    pub fn hear_time(&mut self, switch_time: Micros, now: Micros) {
        self.clock_ahead = Some(switch_time.0.cast_signed().wrapping_sub(now.0.cast_signed()));
        self.remembers_since.get_or_insert(switch_time);
    }

    /// Says whether the agent may declare the backend ready: it knows the switch's clock, and what it remembers reaches back
    /// far enough.
    #[must_use]
    pub fn may_be_ready(&self, now: Micros) -> bool {
        let since = self.remembers_since.map(|since| since.plus(MEMORY_AGE));
        self.switch_time(now).zip(since).is_some_and(|(time, since)| time > since)
    }

    /// The agent takes other keys.
    pub fn set_keys(&mut self, keys: KeyRing) {
        self.keys = keys;
    }

    /// Its connections.
    pub fn sockets(&self) -> impl Iterator<Item = (&FourTuple, &HandedOff)> {
        self.sockets.iter()
    }

    /// The socket of a connection.
    #[must_use]
    pub fn socket(&self, tuple: &FourTuple) -> Option<&HandedOff> {
        self.sockets.get(tuple)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What the switch's clock shows, as far as the agent knows.
    fn switch_time(&self, now: Micros) -> Option<Micros> {
        self.clock_ahead.map(|ahead| Micros(now.0.wrapping_add_signed(ahead)))
    }

    /// Takes a frame off the wire.
    pub fn receive(&mut self, frame: &[u8], now: Micros, out: &mut Vec<Bytes>) {
        let Some((destination, _)) = packet::addresses(frame) else { return };
        if let Some(question) = packet::read_arp(frame) {
            self.answer_arp(&question, out);
            return;
        }
        if destination != self.place.mac {
            return;
        }
        self.look_at(frame, now, None, out);
    }

    /// When it wants to be polled.
    #[must_use]
    pub fn next_poll(&self) -> Option<Micros> {
        let sockets = self.sockets.values().filter_map(HandedOff::next_poll);
        sockets.chain(self.waiting.iter().map(|(due, _)| *due)).min()
    }

    /// Does what time asks for.
    pub fn poll(&mut self, now: Micros, out: &mut Vec<Bytes>) {
        let due: Vec<(Micros, Bytes)> = self.waiting.extract_if(.., |(due, _)| *due <= now).collect();
        for (due, frame) in due {
            self.look_at(&frame, now, Some(due), out);
        }
        let tuples: Vec<FourTuple> = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.next_poll().is_some_and(|next| next <= now))
            .map(|(tuple, _)| *tuple)
            .collect();
        tuples.iter().for_each(|tuple| self.run(tuple, now, out));
    }

    /// Ends every connection, as a host does that loses power.
    pub fn lose_power(&mut self, now: Micros) {
        for (tuple, mut socket) in std::mem::take(&mut self.sockets) {
            socket.vanish(now);
            self.ended.push(Ended { tuple, created: socket.created(), server: socket.into_server() });
        }
        self.records.clear();
        self.waiting.clear();
        self.clock_ahead = None;
        self.remembers_since = None;
        self.is_ready = false;
    }

    fn run(&mut self, tuple: &FourTuple, now: Micros, out: &mut Vec<Bytes>) {
        let Some(socket) = self.sockets.get_mut(tuple) else { return };
        let packets = socket.poll(now);
        if let Some(record) = self.records.get_mut(tuple)
            && !packets.is_empty()
            && record.fate == Fate::Assigned
        {
            record.fate = Fate::Born;
        }
        let is_over = self.sockets.get(tuple).is_some_and(|socket| socket.state().is_none());
        out.extend(
            packets.iter().map(|packet| packet::ethernet(self.place.mac, self.place.gateway_mac, packet)),
        );
        if is_over {
            self.end(tuple);
        }
    }

    fn end(&mut self, tuple: &FourTuple) {
        if let Some(socket) = self.sockets.remove(tuple) {
            let created = socket.created();
            self.ended.push(Ended { tuple: *tuple, created, server: socket.into_server() });
        }
    }

    fn answer_arp(&self, question: &ArpRepr, out: &mut Vec<Bytes>) {
        let ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = question
        else {
            return;
        };
        if *target_protocol_addr == self.place.address {
            out.push(packet::arp(
                ArpOperation::Reply,
                (self.place.address, self.place.mac),
                (*source_protocol_addr, *source_hardware_addr),
            ));
        }
    }

    fn look_at(&mut self, frame: &[u8], now: Micros, requeued: Option<Micros>, out: &mut Vec<Bytes>) {
        let Some(ip) = packet::ipv4_of(frame) else {
            self.count("unsound");
            return;
        };
        if let Some((source, port, payload)) = packet::read_udp(ip, HANDOFF_PORT) {
            let Some(message) = Message::read(frame, (source, port), payload) else {
                self.count("malformed");
                return;
            };
            self.message(&message, now, requeued, out);
        } else {
            self.plain(frame, ip, now, out);
        }
    }

    /// A client's packet that came without a tunnel.
    fn plain(&mut self, frame: &[u8], ip: &[u8], now: Micros, out: &mut Vec<Bytes>) {
        let Some(segment) = Segment::read(ip) else {
            self.count("unsound");
            return;
        };
        if segment.destination != self.place.vip {
            return;
        }
        let tuple = segment.tuple_to_vip();
        if self.deliver(&tuple, ip, now, out) {
            return;
        }
        self.count("plain_unowned");
        if segment.tcp.syn() || segment.tcp.rst() {
            return;
        }
        let (Some(issued), Some((own, peer))) = (self.switch_time(now), packet::addresses(frame)) else {
            return;
        };
        let header = Header {
            kind: MessageType::Gone,
            negotiated: Negotiated { mss: 0, wscale: None, sack: false, timestamps: false, ecn: false },
            key_id: self.keys.current().id(),
            base_seq: sequence(segment.tcp.seq_number()),
            base_ack: sequence(segment.tcp.ack_number()),
            tsval: 0,
            tsecr: 0,
            detail: Detail::NoSocket,
            lcore: LCORE_ANY,
            generation: self.records.get(&tuple).map_or(Generation(0), |record| record.generation),
            issued,
        };
        let inner = ip.get(..GONE_INNER_BYTES).unwrap_or(ip).to_vec();
        let ways = Ways { own, peer, switch: self.place.switch, port: tuple.client_port };
        self.send(&header, &tuple, &inner, &ways, out);
    }

    fn message(
        &mut self,
        message: &Message<'_>,
        now: Micros,
        requeued: Option<Micros>,
        out: &mut Vec<Bytes>,
    ) {
        let Some(key) = self.keys.iter().find(|key| key.id() == message.header.key_id) else {
            self.count("unknown_key");
            return;
        };
        if !message.is_authentic(&key.tag_key()) {
            self.count("forged");
            return;
        }
        let kind = message.header.kind;
        let Some(switch_time) = self.switch_time(now) else {
            self.count("clock_unknown");
            if kind == MessageType::Handoff {
                self.answer(message, MessageType::Refused, Detail::NotReady, out);
            }
            return;
        };
        let issued = message.header.issued;
        if switch_time.since(issued) > FRESHNESS_PAST {
            self.count("stale");
            return;
        }
        if issued.since(switch_time) > FRESHNESS_FUTURE {
            self.count("future");
            return;
        }
        match kind {
            MessageType::Handoff => self.handoff(message, now, requeued, out),
            MessageType::Forward => {
                if !self.deliver(&message.tuple, message.inner, now, out) {
                    self.answer(message, MessageType::Gone, Detail::NoSocket, out);
                }
            }
            MessageType::WhoHas => self.who_has(message, now, out),
            _ => self.count("unsupported"),
        }
    }

    /// Gives a packet to its socket; says whether there is one.
    fn deliver(&mut self, tuple: &FourTuple, inner: &[u8], now: Micros, out: &mut Vec<Bytes>) -> bool {
        if self.state_of(tuple).is_none() {
            return false;
        }
        if let Some(socket) = self.sockets.get_mut(tuple) {
            socket.take(inner);
        }
        self.run(tuple, now, out);
        true
    }

    /// Sends a message back.
    fn answer(&self, message: &Message<'_>, kind: MessageType, detail: Detail, out: &mut Vec<Bytes>) {
        let mut header = Header { kind, detail, ..message.header };
        let mut inner = message.inner;
        if kind == MessageType::Gone {
            inner = inner.get(..GONE_INNER_BYTES).unwrap_or(inner);
            header.generation =
                self.records.get(&message.tuple).map_or(Generation(0), |record| record.generation);
        }
        self.send(&header, &message.tuple, inner, &message.ways, out);
    }

    fn send(&self, header: &Header, tuple: &FourTuple, inner: &[u8], ways: &Ways, out: &mut Vec<Bytes>) {
        let Some(key) = self.keys.iter().find(|key| key.id() == header.key_id) else { return };
        let message = [&header.emit(tuple, &key.tag_key())[..], inner].concat();
        let packet = packet::udp((self.place.address, ways.port), (ways.switch, HANDOFF_PORT), &message);
        out.push(packet::ethernet(ways.own, ways.peer, &packet));
    }
}
