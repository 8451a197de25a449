//! The flow table against a plain map, and against what `docs/ARCHITECTURE.md` says of its timers.

use std::collections::BTreeMap;

use baton_core::flow::{Base, Event, Flow, FlowId, FlowSettings, FlowTable, Full, State};
use baton_core::ids::{BackendIndex, HoldIndex};
use baton_core::{Entropy, Micros};
use handoff_proto::{FourTuple, Generation, Negotiated, Seq};
use proptest::prelude::*;
use smoltcp::wire::EthernetAddress;

const START: Micros = Micros::from_secs(1_000);
/// Between two looks at what is over; the burst loop looks far more often.
const TICK: Micros = Micros::from_millis(100);
/// More looks than any of these tables has flows.
const LOOKS: usize = 100;

/// Timeouts over and under what a flow must have been quiet for to be given up early, some not divisible by four.
const SETTINGS: [FlowSettings; 2] = [
    FlowSettings {
        count_max: 0,
        asking: Micros::from_millis(1_000),
        holding: Micros::from_millis(4_000),
        unconfirmed: Micros::from_millis(8_000),
        established: Micros::from_millis(20_000),
        closing: Micros::from_millis(12_000),
        answered: Micros::from_millis(6_000),
        unclaimed: Micros::from_millis(3_000),
    },
    FlowSettings {
        count_max: 0,
        asking: Micros(300_001),
        holding: Micros(1_500_002),
        unconfirmed: Micros(12_000_003),
        established: Micros(5_000_001),
        closing: Micros(700_003),
        answered: Micros(2_000_001),
        unclaimed: Micros(900_001),
    },
];

/// What happens at every tick besides removing what is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    /// What is over is renewed, not removed.
    Renewals,
    /// Room is needed at every tick.
    Evictions,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u8, State),
    /// A segment of the client or an answer of a backend says something about the flow.
    Happen(u8, Event),
    /// A packet comes.
    Touch(u8),
    Renew(u8),
    Remove(u8),
    /// Bytes of a flow are kept, or no more.
    Keep(u8, bool),
    /// Room is needed.
    Evict,
    /// So many ticks go by.
    Wait(u8, Meanwhile),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..16_u8;
    let state = prop::sample::select(&State::ALL[..]);
    let event = prop::sample::select(&Event::ALL[..]);
    let meanwhile = prop_oneof![
        6 => Just(Meanwhile::Nothing),
        1 => Just(Meanwhile::Renewals),
        1 => Just(Meanwhile::Evictions),
    ];
    prop_oneof![
        6 => (who.clone(), state).prop_map(|(who, state)| Step::Insert(who, state)),
        4 => (who.clone(), event).prop_map(|(who, event)| Step::Happen(who, event)),
        3 => who.clone().prop_map(Step::Touch),
        1 => who.clone().prop_map(Step::Renew),
        2 => who.clone().prop_map(Step::Remove),
        1 => (who, any::<bool>()).prop_map(|(who, kept)| Step::Keep(who, kept)),
        3 => Just(Step::Evict),
        4 => (1..40_u8, meanwhile).prop_map(|(ticks, meanwhile)| Step::Wait(ticks, meanwhile)),
    ]
}

/// Sixteen connections, each of which differs from four others in one field alone.
fn tuple(who: u8) -> FourTuple {
    let bit = |at: u8| who >> at & 1;
    FourTuple {
        client: [10, 50, 0, 11 + bit(0)].into(),
        client_port: 33_333 + u16::from(bit(1)),
        vip: [10, 60, 0, 100 + bit(2)].into(),
        vip_port: 80 + u16::from(bit(3)),
    }
}

/// A flow of `who`; `serial` tells it from any other of the same connection.
fn flow(who: u8, serial: u64, now: Micros) -> Flow {
    let negotiated = Negotiated { mss: 1460, wscale: None, sack: true, timestamps: false, ecn: false };
    let base = Base { negotiated, seq: Seq(1), ack: Seq(2), tsval: 0, tsecr: 0 };
    let mut flow = Flow::new(tuple(who), base, Seq(1), EthernetAddress([2; 6]), Generation(serial), now);
    flow.backend = BackendIndex(u16::from(who));
    flow
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: FlowId,
    serial: u64,
    state: State,
    last_seen: Micros,
    /// When its timer last began to run because of what it is, not of a packet.
    begun: Micros,
    is_kept: bool,
}

/// The table and what it should be.
struct World {
    settings: FlowSettings,
    table: FlowTable,
    model: BTreeMap<u8, Known>,
    /// Every id the table has ever given out.
    ids: Vec<FlowId>,
    now: Micros,
    serial: u64,
}

impl World {
    fn new(settings: FlowSettings, seed: u64) -> Self {
        let table = FlowTable::new(&settings, &mut Entropy::from_seed(seed));
        Self { settings, table, model: BTreeMap::new(), ids: Vec::new(), now: START, serial: 0 }
    }

    const fn timeout(&self, state: State) -> Micros {
        match state {
            State::Asking => self.settings.asking,
            State::Holding => self.settings.holding,
            State::Unconfirmed => self.settings.unconfirmed,
            State::Established => self.settings.established,
            State::ClosingUnconfirmed | State::Closing => self.settings.closing,
            State::Answered => self.settings.answered,
            State::Unclaimed => self.settings.unclaimed,
        }
    }

    /// The place in line of a flow that may be given up now: the lowest goes first.
    fn rank(&self, known: &Known) -> Option<u8> {
        let (rank, quiet_s) = match known.state {
            State::Unclaimed => (0, 0),
            State::Asking => (1, 0),
            State::Closing | State::ClosingUnconfirmed => (2, 1),
            State::Established => (3, 10),
            State::Unconfirmed => (4, 10),
            State::Holding | State::Answered => return None,
        };
        let quiet = Micros::from_secs(quiet_s).min(self.timeout(known.state));
        (self.now.since(known.last_seen) >= quiet && !known.is_kept).then_some(rank)
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Insert(who, state) => self.insert(who, state)?,
            Step::Happen(who, event) => {
                let Some(known) = self.model.get_mut(&who) else { return Ok(()) };
                match known.state.after(event) {
                    Some(state) => {
                        self.table.set_state(known.id, state, self.now);
                        if state != known.state {
                            (known.state, known.begun) = (state, self.now);
                        }
                    }
                    None => self.remove(who)?,
                }
            }
            Step::Touch(who) => {
                let Some(known) = self.model.get_mut(&who) else { return Ok(()) };
                self.table.get_mut(known.id).expect("in the model").last_seen = self.now;
                known.last_seen = self.now;
            }
            Step::Renew(who) => {
                let Some(known) = self.model.get_mut(&who) else { return Ok(()) };
                self.table.renew(known.id, self.now);
                (known.last_seen, known.begun) = (self.now, self.now);
            }
            Step::Remove(who) => self.remove(who)?,
            Step::Keep(who, is_kept) => {
                let Some(known) = self.model.get_mut(&who) else { return Ok(()) };
                let hold = is_kept.then_some(HoldIndex(u16::from(who)));
                self.table.get_mut(known.id).expect("in the model").hold = hold;
                known.is_kept = is_kept;
            }
            Step::Evict => self.evict()?,
            Step::Wait(ticks, meanwhile) => {
                for _ in 0..ticks {
                    self.tick(meanwhile)?;
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, who: u8, state: State) -> Result<(), TestCaseError> {
        if self.model.contains_key(&who) {
            return Ok(());
        }
        self.serial += 1;
        let (now, serial) = (self.now, self.serial);
        let inserted = self.table.insert(flow(who, serial, now), state);
        prop_assert_eq!(
            inserted.is_err(),
            self.model.len() == self.settings.count_max,
            "full, and only then"
        );
        if let Ok(id) = inserted {
            prop_assert!(self.model.values().all(|known| known.id != id), "an id names one flow");
            if !self.ids.contains(&id) {
                self.ids.push(id);
            }
            let known = Known { id, serial, state, last_seen: now, begun: now, is_kept: false };
            self.model.insert(who, known);
        }
        Ok(())
    }

    fn remove(&mut self, who: u8) -> Result<(), TestCaseError> {
        let Some(known) = self.model.remove(&who) else {
            prop_assert_eq!(self.table.find(&tuple(who)), None);
            return Ok(());
        };
        let removed = self.table.remove(known.id).expect("in the model");
        prop_assert_eq!((removed.tuple, removed.generation), (tuple(who), Generation(known.serial)));
        prop_assert_eq!(self.table.remove(known.id), None, "removed once");
        Ok(())
    }

    fn who(&self, id: FlowId) -> u8 {
        let (who, _) = self.model.iter().find(|(_, known)| known.id == id).expect("a flow that is there");
        *who
    }

    /// One of those gives way whose turn it is.
    fn evict(&mut self) -> Result<(), TestCaseError> {
        let first = self.model.values().filter_map(|known| self.rank(known)).min();
        let victim = self.table.evict(self.now).map(|id| self.who(id));
        prop_assert_eq!(victim.and_then(|who| self.rank(&self.model[&who])), first);
        victim.map_or(Ok(()), |who| self.remove(who))
    }

    fn tick(&mut self, meanwhile: Meanwhile) -> Result<(), TestCaseError> {
        self.now = self.now.plus(TICK);
        let now = self.now;
        if meanwhile == Meanwhile::Evictions {
            self.evict()?;
        }
        let mut looks = LOOKS;
        while let Some(id) = self.table.expired(now, &mut looks) {
            let who = self.who(id);
            let known = self.model[&who];
            prop_assert!(
                now.since(known.last_seen) >= self.timeout(known.state),
                "early: {known:?}, {now:?}"
            );
            match meanwhile {
                Meanwhile::Renewals => self.apply(Step::Renew(who))?,
                Meanwhile::Nothing | Meanwhile::Evictions => self.remove(who)?,
            }
        }
        prop_assert!(looks > 0, "the bound was not what ended it");
        for known in self.model.values() {
            let timeout = self.timeout(known.state);
            let quarter = Micros(timeout.0.div_ceil(4));
            let latest = known.last_seen.plus(timeout).max(known.begun).plus(quarter);
            prop_assert!(now < latest.plus(TICK), "late: {known:?}, {now:?}");
        }
        Ok(())
    }

    /// All that the table says of flows, against the model.
    fn compare(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.table.len(), self.model.len());
        prop_assert_eq!(self.table.is_empty(), self.model.is_empty());
        for who in 0..16 {
            prop_assert_eq!(self.table.find(&tuple(who)), self.model.get(&who).map(|known| known.id));
        }
        for id in &self.ids {
            let reached = self.table.get(*id).map(|(flow, state)| (flow.tuple, flow.generation, state));
            let owner = self.model.iter().find(|(_, known)| known.id == *id);
            let expected = owner.map(|(who, known)| (tuple(*who), Generation(known.serial), known.state));
            prop_assert_eq!(reached, expected, "{:?} reaches whom it names now, or nobody", id);
        }
        let mut listed: Vec<u64> = self.table.iter().map(|(flow, _)| flow.generation.0).collect();
        listed.sort_unstable();
        let mut expected: Vec<u64> = self.model.values().map(|known| known.serial).collect();
        expected.sort_unstable();
        prop_assert_eq!(listed, expected);
        Ok(())
    }
}

proptest! {
    /// Tables of one to eight entries, so that they are full most of the time and probes run into each other.
    #[test]
    fn the_table_does_what_a_map_with_timers_does_and_loses_no_entry(
        settings in prop::sample::select(&SETTINGS[..]),
        count_max in 1..=8_usize,
        seed: u64,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(FlowSettings { count_max, ..settings }, seed);
        for step in steps {
            world.apply(step)?;
            world.compare()?;
        }
        // Everything ends by itself, and leaves all the room there was.
        for _ in 0..260 {
            world.tick(Meanwhile::Nothing)?;
        }
        prop_assert!(world.table.is_empty());
        world.compare()?;
        for who in 0..16 {
            let inserted = world.table.insert(flow(who, 0, world.now), State::Established);
            prop_assert_eq!(inserted.err(), (usize::from(who) >= count_max).then_some(Full));
        }
    }
}
