//! One world from its beginning to its end, and the verdict on it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use handoff_proto::Micros;

use crate::capture::Capture;
use crate::client::Outcome;
use crate::oracle::{self, Finding};
use crate::scenario::{Counts, Scenario};
use crate::world::{START, World};

/// Within this much virtual time after the longest patience of a client, counted from the last fault, every connection must have
/// ended.
const CALM: Micros = Micros::from_secs(20);
/// How long after that timers may run: a backend's patience with a client that is gone, then 1.25 times the longest of the switch's.
const REST: Micros = Micros::from_secs(20 * 60);

/// What became of a world.
#[derive(Debug, Default)]
pub struct Report {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Of each piece of the scenario's evidence, whether it is there.
    pub evidence: Vec<bool>,
    /// Frames and appointments.
    pub events: u64,
    /// How long it took on its own clock.
    pub virtual_time: Micros,
    /// How its connections ended.
    pub outcomes: Vec<Outcome>,
    /// What was counted.
    pub counts: Counts,
    /// Every frame, if it was asked for.
    pub capture: Option<Capture>,
}

/// Runs the world that `seed` makes in a scenario. The same seed gives the same world, frame by frame.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64, captures: bool) -> Report {
    let world = catch_unwind(AssertUnwindSafe(|| live(scenario, seed, captures)));
    world.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let finding = Finding::Panic(text.unwrap_or_else(|| "without a word".to_owned()));
        Report { findings: vec![finding], ..Report::default() }
    })
}

fn live(scenario: &Scenario, seed: u64, captures: bool) -> Report {
    let mut world = World::new(scenario.plan(seed), seed, captures.then(Capture::default));
    let_connections_end(&mut world);
    let mut findings = oracle::judge(&world, &scenario.tolerance);
    world.slow_down();
    let deadline = world.now.plus(REST);
    if !world.run_until(deadline, |world| oracle::judge_rest(world).is_empty()) {
        findings.extend(oracle::judge_rest(&world));
    }
    let counts = world.counts();
    Report {
        evidence: scenario.evidence_in(&counts),
        findings,
        events: world.events,
        virtual_time: world.now.since(START),
        outcomes: world.clients.values().filter_map(|client| client.outcome).collect(),
        counts,
        capture: world.capture,
    }
}

/// Runs a world until all its connections have ended, or should have.
pub fn let_connections_end(world: &mut World) {
    let scripts = &world.plan.conversations;
    let count = scripts.len();
    let last_start = scripts.iter().map(|script| script.start).max().unwrap_or(Micros(0));
    let patience = scripts.iter().map(|script| script.patience).max().unwrap_or(Micros(0));
    let begin = world.calm_since().max(START.plus(last_start));
    world.run_until(begin.plus(patience).plus(CALM), |world| {
        world.now > begin
            && world.clients.len() == count
            && world.clients.values().all(|client| client.outcome.is_some())
    });
}
