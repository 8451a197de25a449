//! Scenarios: how a seed makes a plan, what must have happened for the scenario to have been one, and what may become of connections.

mod traffic;
mod troubles;

use std::collections::BTreeMap;
use std::time::Duration;

use baton_core::policy::balance::PolicySettings;
use baton_weather::{Chance, Conditions};
use handoff_proto::Micros;

use crate::chances::Chances;
use crate::oracle::{SETTLING, Tolerance};
use crate::world::Plan;

/// The stream of chances that plans are drawn from.
const STREAM_PLAN: u64 = 2;

/// Counters by name, as [`crate::world::World::counts`] tells them.
pub type Counts = BTreeMap<String, u64>;

/// A scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Adds what makes it one to an ordinary plan.
    shape: fn(&mut Plan, &mut Chances),
    /// Counters that show what it is about to have had an effect, each with in how many worlds of a hundred it must have moved, at
    /// least. A world in which none has does not count as one of the scenario.
    pub evidence: &'static [(&'static str, u64)],
    /// What may become of a connection.
    pub tolerance: Tolerance,
    /// How many connections of a batch, in a hundred, must have been answered whole all the same.
    pub complete_percent: u64,
}

/// All scenarios.
pub const ALL: &[Scenario] = troubles::ALL;

/// Finds a scenario by its name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// The plan that a seed makes.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        let mut chances = Chances::new(seed, STREAM_PLAN);
        let mut plan = ordinary(&mut chances);
        (self.shape)(&mut plan, &mut chances);
        if !self.tolerance.lasts && !plan.faults.is_empty() {
            afterwards(&mut plan, &mut chances);
        }
        plan
    }

    /// Says of each piece of evidence whether it is there.
    #[must_use]
    pub fn evidence_in(&self, counts: &Counts) -> Vec<bool> {
        self.evidence.iter().map(|(name, _)| counts.get(*name).is_some_and(|count| *count > 0)).collect()
    }
}

/// Adds connections that are opened when all faults are over, and must find everything as it was.
fn afterwards(plan: &mut Plan, chances: &mut Chances) {
    let last = plan.faults.iter().map(|timed| timed.at).max().unwrap_or(Micros(0));
    let (first, hosts) = (plan.conversations.len() as u64, plan.client_mtus.len());
    for number in first..first + chances.between(2, 3) {
        let mut script = traffic::conversation(number, hosts, chances);
        // Later than the oracle begins to count it among those.
        script.start = last.plus(SETTLING).plus(chances.span(Micros(1), Micros::from_secs(2)));
        plan.conversations.push(script);
    }
}

/// A plan in which nothing goes wrong: some clients, mixed requests, cables with a delay.
fn ordinary(chances: &mut Chances) -> Plan {
    let hosts = usize::try_from(chances.between(2, 4)).unwrap_or(2);
    let client_mtus = (0..hosts).map(|_| chances.pick(&[1500, 1500, 1500, 1400, 1280, 600])).collect();
    let outside = Conditions {
        delay: Duration::from_micros(chances.between(100, 40_000)),
        jitter: Duration::from_micros(chances.between(0, 2_000)),
        ..Conditions::default()
    };
    let inside =
        Conditions { delay: Duration::from_micros(chances.between(5, 500)), ..Conditions::default() };
    let count = chances.between(4, 14);
    Plan {
        lcores: u8::try_from(chances.between(1, 4)).unwrap_or(1),
        policy: PolicySettings::default(),
        flow_count_max: 1024,
        hold_count_max: 64,
        established_timeout: Micros::from_secs(120),
        window_scale: u8::try_from(chances.between(0, 10)).unwrap_or(7),
        outside,
        at_backends: inside.clone(),
        inside,
        conversations: traffic::conversations(count, hosts, chances),
        client_mtus,
        faults: Vec::new(),
        replays: None,
        forgeries: 0,
        buffers_lacking: 0,
        control_delay: Micros(chances.between(50, 2_000)),
    }
}

fn chance(per_mille: u64) -> Chance {
    // Below 2^53: exact.
    Chance::percent(per_mille as f64 / 10.0).unwrap_or(Chance::NEVER)
}
