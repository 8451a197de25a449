//! A world: clients, a router, a fabric, the switch, backends, the cables between them, and what goes wrong, on one virtual clock.

mod account;
mod forgery;
mod network;
mod plan;
mod suffering;

use std::collections::{BTreeMap, VecDeque};

use baton_core::{Network, Settings};
use handoff_proto::{FourTuple, Micros};

pub use self::plan::{Plan, Replays};

use crate::addresses::{self, mac};
use crate::backend::socket::HostSettings;
use crate::backend::{Backend, Place};
use crate::capture::SharedCapture;
use crate::chances::Chances;
use crate::client::Client;
use crate::control::{Control, REPORT_INTERVAL, Report, key_ring};
use crate::fault::{Fault, Timed};
use crate::link::{End, Link};
use crate::machine::Machine;
use crate::packet::{self, Bytes};
use crate::router::Router;

/// When worlds begin: well into the life of a cookie's key.
pub const START: Micros = Micros::from_secs(128 * 13_300_000 + 10);
/// How often the burst loop turns without a frame.
const TURN: Micros = Micros::from_millis(5);
/// How often it turns once nothing but timers is left.
const SLOW_TURN: Micros = Micros::from_millis(250);

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
    SomebodyForges,
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
    /// Until when the switch does nothing, and the frames that wait for it meanwhile.
    stalled_until: Micros,
    backlog: VecDeque<Bytes>,
    control: Control,
    keys: Vec<u8>,
    clock_ahead: Micros,
    control_delay: Micros,
    agents: [bool; addresses::BACKEND_COUNT],
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
    past_circles: u64,
    /// RSTs that should not have been.
    pub wrong_resets: Vec<WrongReset>,
    /// Frames and appointments so far.
    pub events: u64,
    /// Every frame that arrived, if wanted.
    capture: Option<SharedCapture>,
}

impl World {
    /// Makes a world of a plan.
    ///
    /// # Panics
    /// The plan names settings the switch refuses: a scenario's fault.
    #[must_use]
    pub fn new(plan: Plan, seed: u64, capture: Option<SharedCapture>) -> Self {
        let mut chances = Chances::new(seed, STREAM_WORLD);
        let keys = vec![3];
        let mut backends = Vec::new();
        for number in 0..addresses::BACKEND_COUNT {
            let place = Place {
                address: addresses::backend(number),
                mac: mac::backend(number),
                gateway_mac: mac::ROUTER,
                switch: addresses::SWITCH,
                vip: addresses::VIP,
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
            stalled_until: Micros(0),
            backlog: VecDeque::new(),
            control: Control::new(0, plan.policy.clone(), key_ring(&keys)),
            keys,
            clock_ahead: Micros(0),
            control_delay: plan.control_delay,
            agents: [true; addresses::BACKEND_COUNT],
            chances,
            next_turn: START,
            turn: TURN,
            clients: BTreeMap::new(),
            backends,
            in_force: vec![InForce { since: START, rules: 0 }],
            happened: BTreeMap::new(),
            past_counts: BTreeMap::new(),
            past_circles: 0,
            wrong_resets: Vec::new(),
            events: 0,
            capture,
            plan,
        };
        world.lay_cables(seed);
        world.start_switch();
        for backend in 0..addresses::BACKEND_COUNT {
            world.make(world.now, Appointment::AgentReports(backend));
        }
        let starts: Vec<Micros> = world.plan.conversations.iter().map(|script| script.start).collect();
        for (number, start) in starts.into_iter().enumerate() {
            world.make(START.plus(start), Appointment::Opens(number));
        }
        world.plan_forgeries();
        for Timed { at, fault } in world.plan.faults.clone() {
            world.make(START.plus(at), Appointment::Goes(fault));
        }
        world
    }

    fn settings(&self) -> Settings {
        Settings {
            network: Network {
                address: addresses::SWITCH,
                prefix_bits: addresses::PREFIX_BITS,
                gateway: Some(addresses::ROUTER),
            },
            mtu_bytes: addresses::FABRIC_MTU,
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
            Ok(machine) => self.machine = Some(machine.lacking_buffers(self.plan.buffers_lacking)),
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
                    let connections = u32::try_from(host.sockets().count()).unwrap_or(u32::MAX);
                    let (is_ready, is_healthy) = (host.is_ready, host.listens);
                    let report = Report { backend, is_ready, is_healthy, connections };
                    self.make(now.plus(self.control_delay), Appointment::SwitchHears(report));
                }
            }
            Appointment::SwitchHears(report) => {
                let clock = self.switch_clock();
                if self.machine.is_some() && report.is_healthy != self.backends[report.backend].listens {
                    self.count("reports_outdated");
                }
                if let Some(machine) = &mut self.machine {
                    self.control.hear(report, now, clock);
                    machine.take_loads(&self.control.loads());
                    self.make(now.plus(self.control_delay), Appointment::AgentHears(report.backend, clock));
                }
            }
            Appointment::AgentHears(backend, clock) => {
                if self.agents[backend] {
                    self.backends[backend].hear_time(clock, now);
                }
            }
            Appointment::SomebodyForges => self.forge(),
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
            addresses::client(self.plan.conversations[number].host),
            addresses::VIP,
            mtu,
            seed,
            self.now,
        );
        self.clients.insert(number, client);
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
        while let Some(frame) = self.backlog.pop_front() {
            self.switch_takes(frame);
        }
        self.next_turn = self.now.plus(self.turn);
        if let Some(snapshot) = self.control.changed(self.now) {
            if self.control.has_lost_a_backend() {
                self.count("usability_lost");
            }
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
}

/// The stream of chances that the world itself draws from.
const STREAM_WORLD: u64 = 1;
