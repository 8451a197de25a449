//! One world from its beginning to its end, and the verdict on it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use handoff_proto::Micros;

use crate::capture::SharedCapture;
use crate::client::Outcome;
use crate::oracle::{self, Finding};
use crate::scenario::{Counts, Scenario};
use crate::world::{START, World};

/// Within this much virtual time after the longest patience of a client, counted from the last fault, every connection must have
/// ended.
const CALM: Micros = Micros::from_secs(20);
/// How long after that timers may run: a backend's patience with a client that is gone, then 1.25 times the longest of the switch's.
const REST: Micros = Micros::from_secs(20 * 60);

thread_local! {
    /// Where this thread's world panicked, for its finding.
    static PANICKED_AT: Cell<String> = const { Cell::new(String::new()) };
}

/// Notes where a world panics. For `std::panic::set_hook`, so that many worlds do not print over each other.
pub fn note_panic(info: &PanicHookInfo<'_>) {
    PANICKED_AT.set(info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string));
}

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
}

/// Runs the world that `seed` makes in a scenario; `capture` gets every frame. The same seed gives the same world, frame by
/// frame.
pub fn run(scenario: &Scenario, seed: u64, capture: Option<SharedCapture>) -> Report {
    let world = catch_unwind(AssertUnwindSafe(|| live(scenario, seed, capture)));
    world.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "without a word".to_owned());
        let finding = Finding::Panic(format!("{text}, at {}", PANICKED_AT.take()));
        Report { findings: vec![finding], ..Report::default() }
    })
}

fn live(scenario: &Scenario, seed: u64, capture: Option<SharedCapture>) -> Report {
    let mut world = World::new(scenario.plan(seed), seed, capture);
    let_connections_end(&mut world);
    world.slow_down();
    let deadline = world.now.plus(REST);
    world.run_until(deadline, |world| !world.expects_anything() && world.is_at_rest());
    let mut findings = oracle::judge(&world, &scenario.tolerance);
    findings.extend(oracle::judge_rest(&world));
    let counts = world.counts();
    Report {
        evidence: scenario.evidence_in(&counts),
        findings,
        events: world.events,
        virtual_time: world.now.since(START),
        outcomes: world.clients.values().filter_map(|client| client.outcome).collect(),
        counts,
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
