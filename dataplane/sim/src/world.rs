//! A world: clients, a router, a fabric, the switch, backends, the cables between them, and what goes wrong, on one virtual clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use baton_core::{Network, Settings, Snapshot};
use baton_weather::Conditions;
use handoff_proto::{FourTuple, HANDOFF_PORT, Micros};

use crate::backend::socket::HostSettings;
use crate::backend::{Backend, Place};
use crate::capture::Capture;
use crate::chances::Chances;
use crate::client::Client;
use crate::client::script::Conversation;
use crate::control::{Control, REPORT_INTERVAL, Report, key_ring};
use crate::fault::{Fault, Timed};
use crate::link::{End, FabricPort, Link};
use crate::machine::Machine;
use crate::packet::{self, Bytes, Segment};
use crate::plan::{self, mac};
use crate::router::Router;

/// When worlds begin: well into the life of a cookie's key.
pub const START: Micros = Micros::from_secs(128 * 13_300_000 + 10);
/// How often the burst loop turns without a frame.
const TURN: Micros = Micros::from_millis(5);
/// How often it turns once nothing but timers is left.
const SLOW_TURN: Micros = Micros::from_millis(250);

/// What a world is made of; a seed and a scenario make one.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Lcores of the switch.
    pub lcores: u8,
    /// Entries of each lcore's flow table.
    pub flow_count_max: usize,
    /// Heads each lcore can hold.
    pub hold_count_max: usize,
    /// How long an established flow lives without a packet.
    pub established_timeout: Micros,
    /// Window shift the switch announces.
    pub window_scale: u8,
    /// Weather between clients and router.
    pub outside: Conditions,
    /// Weather of the backends' cables.
    pub at_backends: Conditions,
    /// Weather of the switch's cable and of the router's to the fabric.
    pub inside: Conditions,
    /// MTU of each client host's cable.
    pub client_mtus: Vec<u16>,
    /// What clients do.
    pub conversations: Vec<Conversation>,
    /// What goes wrong.
    pub faults: Vec<Timed>,
    /// How many frames between switch and backends come again, and from how long on to how long after they came first.
    pub replays: Option<Replays>,
    /// How long messages between agents and switch take.
    pub control_delay: Micros,
}

/// Frames that somebody keeps and sends again.
#[derive(Clone, Copy, Debug)]
pub struct Replays {
    /// How many in a thousand.
    pub per_mille: u64,
    /// How long after the first time, at most.
    pub latest: Micros,
}

/// What happens at a time of its own.
#[derive(Clone, Debug)]
enum Appointment {
    Opens(usize),
    Goes(Fault),
    AgentReports(usize),
    SwitchHears(Report),
    AgentHears(usize, Micros),
    KeysReach(usize, Vec<u8>),
    ComesAgain(End, Bytes),
}

/// The rules in force from a time on.
#[derive(Clone, Copy, Debug)]
pub struct InForce {
    /// Since when.
    pub since: Micros,
    /// Which of [`crate::control::rule_set`].
    pub rules: usize,
}

/// A RST of the switch that it had no right to send.
#[derive(Clone, Copy, Debug)]
pub struct WrongReset {
    /// Of which connection.
    pub tuple: FourTuple,
    /// When.
    pub at: Micros,
}

/// A world at work.
pub struct World {
    /// What time it is, on the clock nobody in the world can read.
    pub now: Micros,
    /// What it was made of.
    pub plan: Plan,
    agenda: BTreeMap<(Micros, u64), Appointment>,
    appointments: u64,
    links: Vec<Link>,
    /// Where each end's cable is: its number, and which of its ends.
    cables: BTreeMap<End, (usize, usize)>,
    router: Router,
    machine: Option<Machine>,
    control: Control,
    keys: Vec<u8>,
    clock_ahead: Micros,
    control_delay: Micros,
    agents: [bool; plan::BACKEND_COUNT],
    chances: Chances,
    next_turn: Micros,
    turn: Micros,
    /// Connections, in the order of the plan, once they are open.
    pub clients: BTreeMap<usize, Client>,
    /// The backends.
    pub backends: Vec<Backend>,
    /// Rules that were in force, in order.
    pub in_force: Vec<InForce>,
    /// What happened in the world itself.
    happened: BTreeMap<&'static str, u64>,
    /// What earlier lives of the switch counted.
    past_counts: BTreeMap<&'static str, u64>,
    /// RSTs that should not have been.
    pub wrong_resets: Vec<WrongReset>,
    /// Frames and appointments so far.
    pub events: u64,
    /// Every frame that arrived, if wanted.
    pub capture: Option<Capture>,
}

impl World {
    /// Makes a world of a plan.
    ///
    /// # Panics
    /// The plan names settings the switch refuses: a scenario's fault.
    #[must_use]
    pub fn new(plan: Plan, seed: u64, capture: Option<Capture>) -> Self {
        let mut chances = Chances::new(seed, STREAM_WORLD);
        let keys = vec![3];
        let mut backends = Vec::new();
        for number in 0..plan::BACKEND_COUNT {
            let place = Place {
                address: plan::backend(number),
                mac: mac::backend(number),
                gateway_mac: mac::ROUTER,
                switch: plan::SWITCH,
                vip: plan::VIP,
            };
            let host = HostSettings { mtu_bytes: 1500, receive_bytes: 128 * 1024, send_bytes: 128 * 1024 };
            backends.push(Backend::new(place, host, key_ring(&keys), chances.bits()));
        }
        let mut world = Self {
            now: START,
            agenda: BTreeMap::new(),
            appointments: 0,
            links: Vec::new(),
            cables: BTreeMap::new(),
            router: Router::default(),
            machine: None,
            control: Control::new(0, key_ring(&keys)),
            keys,
            clock_ahead: Micros(0),
            control_delay: plan.control_delay,
            agents: [true; plan::BACKEND_COUNT],
            chances,
            next_turn: START,
            turn: TURN,
            clients: BTreeMap::new(),
            backends,
            in_force: vec![InForce { since: START, rules: 0 }],
            happened: BTreeMap::new(),
            past_counts: BTreeMap::new(),
            wrong_resets: Vec::new(),
            events: 0,
            capture,
            plan,
        };
        world.lay_cables(seed);
        world.start_switch();
        for backend in 0..plan::BACKEND_COUNT {
            world.make(world.now, Appointment::AgentReports(backend));
        }
        let starts: Vec<Micros> = world.plan.conversations.iter().map(|script| script.start).collect();
        for (number, start) in starts.into_iter().enumerate() {
            world.make(START.plus(start), Appointment::Opens(number));
        }
        for Timed { at, fault } in world.plan.faults.clone() {
            world.make(START.plus(at), Appointment::Goes(fault));
        }
        world
    }

    fn lay_cables(&mut self, seed: u64) {
        let mut cables: Vec<([End; 2], Conditions, u16)> = Vec::new();
        let inside = self.plan.inside.clone();
        for (host, mtu) in self.plan.client_mtus.iter().enumerate() {
            cables.push(([End::Client(host), End::RouterToClient(host)], self.plan.outside.clone(), *mtu));
        }
        for (end, port) in [(End::Switch, FabricPort::Switch), (End::RouterToFabric, FabricPort::Router)] {
            cables.push(([end, End::Fabric(port)], inside.clone(), plan::FABRIC_MTU));
        }
        for number in 0..plan::BACKEND_COUNT {
            let other = if number == plan::ROUTED_BACKEND {
                End::RouterToBackend(number)
            } else {
                End::Fabric(FabricPort::Backend(number))
            };
            let conditions = self.plan.at_backends.clone();
            cables.push(([End::Backend(number), other], conditions, plan::FABRIC_MTU));
        }
        for (number, (ends, conditions, mtu)) in (0..).zip(cables) {
            let link = Link::new(ends, &conditions, usize::from(mtu), seed, number);
            for (position, end) in ends.into_iter().enumerate() {
                self.cables.insert(end, (self.links.len(), position));
            }
            self.links.push(link);
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            network: Network {
                address: plan::SWITCH,
                prefix_bits: plan::PREFIX_BITS,
                gateway: Some(plan::ROUTER),
            },
            mtu_bytes: plan::FABRIC_MTU,
            flow_count_max: self.plan.flow_count_max,
            hold_count_max: self.plan.hold_count_max,
            hold_timeout: Micros::from_secs(10),
            unconfirmed_timeout: Micros::from_secs(30),
            established_timeout: self.plan.established_timeout,
            closing_timeout: Micros::from_secs(10),
            window_scale: self.plan.window_scale,
        }
    }

    fn start_switch(&mut self) {
        let snapshot = self.control.snapshot(self.now);
        let (settings, clock) = (self.settings(), self.switch_clock());
        match Machine::start(self.plan.lcores, &settings, &snapshot, &mut self.chances, clock) {
            Ok(machine) => self.machine = Some(machine),
            Err(error) => panic!("a plan's settings work: {error}"),
        }
        self.next_turn = self.now;
    }

    /// What the switch's clock shows.
    fn switch_clock(&self) -> Micros {
        self.now.plus(self.clock_ahead)
    }

    fn make(&mut self, at: Micros, appointment: Appointment) {
        self.appointments += 1;
        self.agenda.insert((at, self.appointments), appointment);
    }

    /// Lets the world go on until everything has been said and done, or until `deadline`.
    pub fn run_until(&mut self, deadline: Micros, is_done: impl Fn(&Self) -> bool) -> bool {
        while self.now < deadline {
            if is_done(self) {
                return true;
            }
            self.step(deadline);
        }
        is_done(self)
    }

    /// From now on only timers matter: the burst loop turns slowly.
    pub fn slow_down(&mut self) {
        self.turn = SLOW_TURN;
    }

    fn step(&mut self, deadline: Micros) {
        let next = self.next_time().min(deadline);
        self.now = self.now.max(next);
        self.keep_appointments();
        self.deliver();
        self.poll_hosts();
        self.turn_switch();
    }

    fn next_time(&self) -> Micros {
        let appointment = self.agenda.keys().next().map(|(at, _)| *at);
        let links = self.links.iter().filter_map(Link::next_due);
        let clients = self.clients.values().filter_map(Client::next_poll);
        let backends = self.backends.iter().filter_map(Backend::next_poll);
        let turn = self.machine.is_some().then_some(self.next_turn);
        let all = links.chain(clients).chain(backends).chain(appointment).chain(turn);
        all.min().unwrap_or(self.now.plus(SLOW_TURN))
    }

    fn keep_appointments(&mut self) {
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let appointment = entry.remove();
            self.events += 1;
            self.keep(appointment);
        }
    }

    fn keep(&mut self, appointment: Appointment) {
        let now = self.now;
        match appointment {
            Appointment::Opens(number) => self.open(number),
            Appointment::Goes(fault) => self.suffer(fault),
            Appointment::AgentReports(backend) => {
                self.make(now.plus(REPORT_INTERVAL), Appointment::AgentReports(backend));
                if self.agents[backend] {
                    let host = &mut self.backends[backend];
                    host.is_ready = host.may_be_ready(now);
                    let report = Report { backend, is_ready: host.is_ready, is_healthy: host.listens };
                    self.make(now.plus(self.control_delay), Appointment::SwitchHears(report));
                }
            }
            Appointment::SwitchHears(report) => {
                if self.machine.is_some() {
                    self.control.hear(report, now);
                    let clock = self.switch_clock();
                    self.make(now.plus(self.control_delay), Appointment::AgentHears(report.backend, clock));
                }
            }
            Appointment::AgentHears(backend, clock) => {
                if self.agents[backend] {
                    self.backends[backend].hear_time(clock, now);
                }
            }
            Appointment::ComesAgain(end, frame) => {
                self.count("frames_replayed");
                self.arrive(end, frame);
            }
            Appointment::KeysReach(backend, keys) => self.backends[backend].set_keys(key_ring(&keys)),
        }
    }

    fn open(&mut self, number: usize) {
        let mut script = self.plan.conversations[number].clone();
        script.start = self.now;
        // A port that is used again: its earlier connection no longer hears anything.
        let mtu = usize::from(self.plan.client_mtus[script.host]);
        let seed = self.chances.bits();
        let client = Client::open(
            script,
            plan::client(self.plan.conversations[number].host),
            plan::VIP,
            mtu,
            seed,
            self.now,
        );
        self.clients.insert(number, client);
    }

    fn suffer(&mut self, fault: Fault) {
        self.count("faults");
        if self.has_open_connections() {
            self.count(fault.name());
        }
        match fault {
            Fault::AgentGone(backend) => self.agents[backend] = false,
            Fault::AgentBack(backend) => self.agents[backend] = true,
            Fault::BackendCut(backend) => self.cable_of(backend).set_cut(true),
            Fault::BackendMended(backend) => self.cable_of(backend).set_cut(false),
            Fault::PowerLost(backend) => self.backends[backend].lose_power(self.now),
            Fault::ListenerGone(backend) => self.backends[backend].listens = false,
            Fault::ListenerBack(backend) => self.backends[backend].listens = true,
            Fault::QueueFull(backend) => self.backends[backend].is_crowded = true,
            Fault::QueueDrained(backend) => self.backends[backend].is_crowded = false,
            Fault::SwitchKilled => self.kill_switch(),
            Fault::SwitchStarted(jump) => {
                self.clock_ahead = self.clock_ahead.plus(jump);
                self.control = Control::new(self.control.rules(), key_ring(&self.keys));
                self.start_switch();
            }
            Fault::RulesChanged(rules) => {
                self.control.set_rules(rules);
                self.in_force.push(InForce { since: self.now, rules });
                self.publish();
            }
            Fault::KeyAdded => self.turn_keys(vec![3, 4]),
            Fault::KeyPromoted => self.turn_keys(vec![4, 3]),
            Fault::KeyRetired => self.turn_keys(vec![4]),
            Fault::ControlDelayed(delay) => self.control_delay = delay,
            Fault::ClockMisread(backend, by) => {
                let wrong = Micros(self.switch_clock().0.wrapping_add_signed(by));
                self.backends[backend].hear_time(wrong, self.now);
            }
        }
    }

    fn cable_of(&mut self, backend: usize) -> &mut Link {
        let (link, _) = self.cables[&End::Backend(backend)];
        &mut self.links[link]
    }

    fn turn_keys(&mut self, keys: Vec<u8>) {
        self.control.set_keys(key_ring(&keys));
        for backend in 0..plan::BACKEND_COUNT {
            let at = self.now.plus(self.control_delay);
            self.make(at, Appointment::KeysReach(backend, keys.clone()));
        }
        self.keys = keys;
        self.publish();
    }

    fn publish(&mut self) {
        let snapshot = self.control.snapshot(self.now);
        self.apply(&snapshot);
    }

    fn apply(&mut self, snapshot: &Arc<Snapshot>) {
        let clock = self.switch_clock();
        if let Some(machine) = &mut self.machine {
            machine.apply(snapshot, clock);
        }
    }

    fn kill_switch(&mut self) {
        if let Some(machine) = self.machine.take() {
            for (name, count) in machine.counts() {
                *self.past_counts.entry(name).or_default() += count;
            }
        }
    }

    fn deliver(&mut self) {
        for link in 0..self.links.len() {
            while let Some((end, frame, copies)) = self.links[link].deliver(self.now) {
                for _ in 0..copies {
                    self.events += 1;
                    self.replay_later(end, &frame);
                    self.arrive(end, frame.clone());
                }
            }
        }
    }

    /// Keeps a frame between switch and backends, to let it come again much later than any link would.
    fn replay_later(&mut self, end: End, frame: &Bytes) {
        let Some(Replays { per_mille, latest }) = self.plan.replays else { return };
        let is_message = packet::ipv4_of(frame).and_then(|ip| packet::read_udp(ip, HANDOFF_PORT)).is_some();
        let is_at_an_end = matches!(end, End::Switch | End::Backend(_));
        if is_message && is_at_an_end && self.chances.between(0, 999) < per_mille {
            let at = self.now.plus(self.chances.span(Micros(100), latest));
            self.make(at, Appointment::ComesAgain(end, frame.clone()));
        }
    }

    /// Counts something that happened in the world itself.
    fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    fn has_open_connections(&self) -> bool {
        self.clients.values().any(|client| client.outcome.is_none())
    }

    fn arrive(&mut self, end: End, frame: Bytes) {
        if let (Some(capture), false) = (&mut self.capture, matches!(end, End::Fabric(_))) {
            capture.add(self.now, &frame);
        }
        match end {
            End::Fabric(port) => self.bridge(port, frame),
            End::Switch => {
                let clock = self.switch_clock();
                if let Some(machine) = &mut self.machine {
                    let sent = machine.receive(frame, clock);
                    self.switch_sends(sent);
                }
            }
            End::Backend(number) => {
                let mut out = Vec::new();
                self.backends[number].receive(&frame, self.now, &mut out);
                out.into_iter().for_each(|frame| self.send(End::Backend(number), frame));
            }
            End::Client(host) => self.client_hears(host, &frame),
            End::RouterToFabric | End::RouterToClient(_) | End::RouterToBackend(_) => {
                let mut out = Vec::new();
                self.router.receive(&frame, self.now, &mut out);
                out.into_iter().for_each(|(end, frame)| self.send(end, frame));
            }
        }
    }

    fn send(&mut self, from: End, frame: Bytes) {
        if let Some((link, position)) = self.cables.get(&from).copied() {
            self.links[link].send(position, frame, self.now);
        }
    }

    fn bridge(&mut self, from: FabricPort, frame: Bytes) {
        let Some((destination, _)) = packet::addresses(&frame) else { return };
        let ports = [
            (FabricPort::Switch, mac::SWITCH),
            (FabricPort::Router, mac::ROUTER),
            (FabricPort::Backend(0), mac::backend(0)),
            (FabricPort::Backend(1), mac::backend(1)),
        ];
        for (port, mac) in ports {
            if port != from && (destination == mac || destination.is_broadcast()) {
                self.send(End::Fabric(port), frame.clone());
            }
        }
    }

    fn client_hears(&mut self, host: usize, frame: &[u8]) {
        let Some(ip) = packet::ipv4_of(frame) else { return };
        let Some(segment) = Segment::read(ip) else { return };
        let port = segment.destination.1;
        // The connection that opened last has the port.
        let latest = self
            .clients
            .iter_mut()
            .filter(|(_, client)| client.script.host == host && client.script.port == port)
            .max_by_key(|(_, client)| client.script.start);
        if let Some((_, client)) = latest {
            client.take(ip.to_vec());
        }
    }

    fn poll_hosts(&mut self) {
        let due: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| client.next_poll().is_some_and(|next| next <= self.now))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            let Some(client) = self.clients.get_mut(&number) else { continue };
            let host = client.script.host;
            for ip in client.poll(self.now) {
                let frame = packet::ethernet(mac::client(host), mac::ROUTER, &ip);
                self.send(End::Client(host), frame);
            }
        }
        for number in 0..self.backends.len() {
            if self.backends[number].next_poll().is_some_and(|next| next <= self.now) {
                let mut out = Vec::new();
                self.backends[number].poll(self.now, &mut out);
                out.into_iter().for_each(|frame| self.send(End::Backend(number), frame));
            }
        }
    }

    fn turn_switch(&mut self) {
        if self.now < self.next_turn {
            return;
        }
        self.next_turn = self.now.plus(self.turn);
        if let Some(snapshot) = self.control.changed(self.now) {
            self.count("usability_changed");
            self.apply(&snapshot);
        }
        let clock = self.switch_clock();
        if let Some(machine) = &mut self.machine {
            let sent = machine.poll(clock);
            self.switch_sends(sent);
        }
    }

    fn switch_sends(&mut self, frames: Vec<Bytes>) {
        for frame in frames {
            self.judge_reset(&frame);
            self.send(End::Switch, frame);
        }
    }

    /// A connection whose client has read bytes of a server that still has it is none of the switch's to end.
    fn judge_reset(&mut self, frame: &[u8]) {
        let Some(segment) = packet::ipv4_of(frame).and_then(Segment::read) else { return };
        if !segment.tcp.rst() || segment.source != plan::VIP {
            return;
        }
        let tuple = segment.tuple_from_vip();
        let is_served = self.backends.iter().enumerate().any(|(number, backend)| {
            !self.has_had_fatal_fault(number)
                && backend.socket(&tuple).is_some_and(|socket| !socket.server().written.is_empty())
        });
        let host = plan::client_of(segment.destination.0);
        let is_read = self.clients.values().any(|client| {
            Some(client.script.host) == host
                && client.script.port == segment.destination.1
                && client.outcome.is_none()
                && !client.read.is_empty()
        });
        if is_served && is_read {
            self.wrong_resets.push(WrongReset { tuple, at: self.now });
        }
    }

    /// Says whether a fault that ends connections has met a backend by now.
    #[must_use]
    pub fn has_had_fatal_fault(&self, backend: usize) -> bool {
        self.plan.faults.iter().any(|timed| {
            timed.fault.backend() == Some(backend)
                && timed.fault.may_end_connections()
                && START.plus(timed.at) <= self.now
        })
    }

    /// Says whether any fault has met a backend by now.
    #[must_use]
    pub fn has_had_fault(&self, backend: usize) -> bool {
        let faults = &self.plan.faults;
        faults.iter().any(|timed| timed.fault.backend() == Some(backend) && START.plus(timed.at) <= self.now)
    }

    /// When the last fault is over.
    #[must_use]
    pub fn calm_since(&self) -> Micros {
        START.plus(self.plan.faults.iter().map(|timed| timed.at).max().unwrap_or(Micros(0)))
    }

    /// Flows of the switch.
    #[must_use]
    pub fn flow_count(&self) -> usize {
        self.machine.as_ref().map_or(0, Machine::flow_count)
    }

    /// Heads and error pages that the switch keeps.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.machine.as_ref().map_or(0, Machine::held_count)
    }

    /// The switch's flows, as text.
    #[must_use]
    pub fn flows_told(&self) -> String {
        let flows = self.machine.iter().flat_map(Machine::flows);
        flows.map(|flow| format!("{} {:?}", flow.tuple, flow.state)).collect::<Vec<_>>().join(", ")
    }

    /// Frames that went round the lcores without end.
    #[must_use]
    pub fn circles(&self) -> u64 {
        self.machine.as_ref().map_or(0, |machine| machine.circles)
    }

    /// What all lives of the switch, the backends and the cables counted, by name.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        let present = self.machine.iter().flat_map(Machine::counts);
        let past = self.past_counts.iter().map(|(name, count)| (*name, *count));
        for (name, count) in present.chain(past) {
            *counts.entry(format!("switch_{name}")).or_default() += count;
        }
        for (name, count) in &self.happened {
            *counts.entry(format!("world_{name}")).or_default() += count;
        }
        for backend in &self.backends {
            for (name, count) in &backend.counts {
                *counts.entry(format!("backend_{name}")).or_default() += count;
            }
        }
        for link in &self.links {
            let weather = link.counters();
            let told = [
                ("received", weather.received),
                ("lost", weather.lost),
                ("duplicated", weather.duplicated),
                ("reordered", weather.reordered),
                ("corrupted", weather.corrupted),
                ("overflowed", weather.overflowed),
                ("too_long", link.too_long),
                ("cut", link.cut),
            ];
            for (name, count) in told {
                *counts.entry(format!("link_{name}")).or_default() += count;
            }
        }
        counts
    }
}

/// The stream of chances that the world itself draws from.
const STREAM_WORLD: u64 = 1;
