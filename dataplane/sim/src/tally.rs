//! What was run and found of a scenario, over many seeds; and what is wrong with all of them together.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::client::Outcome;
use crate::run::Report;
use crate::scenario::Scenario;

/// From so many worlds of a scenario on, they are judged together, too.
pub const BATCH_SEEDS: u64 = 50;
/// Where connections may time out for a fault of smoltcp's, more than one in so many is a finding.
const STOPPED_ONE_IN: u64 = 500;

/// An account of many worlds of a scenario.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Worlds that were run.
    pub seeds: u64,
    /// Worlds in which what the scenario is about has happened.
    pub fired: u64,
    /// In how many worlds each piece of evidence for that was seen.
    pub evidence: BTreeMap<String, u64>,
    /// Frames and appointments of all of them.
    pub events: u64,
    /// How long they took on their own clocks, in seconds.
    pub virtual_s: f64,
    /// Connections of all of them.
    pub connections: u64,
    /// How many of these ended how.
    pub outcomes: BTreeMap<String, u64>,
    /// What is wrong.
    pub findings: Vec<String>,
    /// Seeds with which something is wrong.
    pub failed: Vec<u64>,
    /// Seeds in which a connection timed out, which may be smoltcp's fault.
    pub timed_out: Vec<u64>,
    /// How long the run took, in seconds.
    pub seconds: f64,
}

impl Tally {
    /// Adds a world.
    pub fn take(&mut self, scenario: &Scenario, seed: u64, report: &Report) {
        self.seeds += 1;
        self.fired += u64::from(report.evidence.contains(&true));
        for ((name, _), is_there) in scenario.evidence.iter().zip(&report.evidence) {
            *self.evidence.entry((*name).to_owned()).or_default() += u64::from(*is_there);
        }
        self.events += report.events;
        self.virtual_s += Duration::from_micros(report.virtual_time.0).as_secs_f64();
        self.connections += u64::try_from(report.outcomes.len()).unwrap_or(0);
        for outcome in &report.outcomes {
            *self.outcomes.entry(told(*outcome)).or_default() += 1;
        }
        if report.outcomes.contains(&Outcome::TimedOut) {
            self.timed_out.push(seed);
        }
        if !report.findings.is_empty() {
            self.failed.push(seed);
        }
        self.findings.extend(report.findings.iter().map(|finding| format!("seed {seed}: {finding}")));
    }

    /// Judges all worlds together, once all are there.
    pub fn judge(&mut self, scenario: &Scenario) {
        self.failed.sort_unstable();
        self.timed_out.sort_unstable();
        let count = |outcome| self.outcomes.get(&told(outcome)).copied().unwrap_or(0);
        let (complete, timed_out) = (count(Outcome::Complete), count(Outcome::TimedOut));
        if scenario.tolerance.smoltcp_may_stop && timed_out > 1 + self.connections / STOPPED_ONE_IN {
            let seeds = &self.timed_out;
            self.findings.push(format!(
                "{timed_out} of {} connections timed out, in seeds {seeds:?}",
                self.connections
            ));
        }
        if self.seeds < BATCH_SEEDS {
            return;
        }
        if complete * 100 < self.connections * scenario.complete_percent {
            self.findings.push(format!(
                "only {complete} of {} connections were answered whole: {} in a hundred should be",
                self.connections, scenario.complete_percent
            ));
        }
        for (name, percent) in scenario.evidence {
            let shown = self.evidence.get(*name).copied().unwrap_or(0);
            if shown == 0 || shown * 100 < self.seeds * percent {
                let seeds = self.seeds;
                self.findings
                    .push(format!("{shown} of {seeds} worlds show {name}: {percent} in a hundred should"));
            }
        }
    }
}

fn told(outcome: Outcome) -> String {
    match outcome {
        Outcome::Complete => "complete".to_owned(),
        Outcome::Refused(status) => format!("answered {status}"),
        Outcome::Reset => "reset".to_owned(),
        Outcome::CutShort => "cut short".to_owned(),
        Outcome::TimedOut => "timed out".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    /// A batch of worlds with these outcomes each, in which every piece of evidence is there, or none is.
    fn batch(name: &str, outcomes: &[Outcome], is_evident: bool) -> Vec<String> {
        let scenario = scenario::named(name).expect("a scenario of that name");
        let mut tally = Tally::default();
        for seed in 0..BATCH_SEEDS {
            let report = Report {
                outcomes: outcomes.to_vec(),
                evidence: vec![is_evident; scenario.evidence.len()],
                ..Report::default()
            };
            tally.take(scenario, seed, &report);
        }
        tally.judge(scenario);
        tally.findings
    }

    #[test]
    fn a_batch_must_show_its_faults_and_serve_most_connections() {
        assert_eq!(batch("storm", &[Outcome::Complete], true), Vec::<String>::new());
        let unseen = batch("storm", &[Outcome::Complete], false);
        assert!(unseen.iter().all(|finding| finding.starts_with("0 of 50 worlds show link_")), "{unseen:?}");
        assert_eq!(unseen.len(), 4);
        let refused = batch("agent-gone", &[Outcome::Refused(503), Outcome::Complete], true);
        assert_eq!(refused, ["only 50 of 100 connections were answered whole: 85 in a hundred should be"]);
    }

    #[test]
    fn a_fault_that_hardly_ever_has_an_effect_is_not_enough() {
        let scenario = scenario::named("key-rotation").expect("a scenario of that name");
        let judged = |firing: u64| {
            let mut tally = Tally::default();
            for seed in 0..BATCH_SEEDS {
                let mut evidence = vec![true; scenario.evidence.len()];
                evidence[0] = seed < firing;
                let outcomes = vec![Outcome::Complete];
                tally.take(scenario, seed, &Report { outcomes, evidence, ..Report::default() });
            }
            tally.judge(scenario);
            tally.findings
        };
        assert_eq!(judged(13), Vec::<String>::new(), "a quarter of 50, rounded up");
        assert_eq!(
            judged(12),
            ["12 of 50 worlds show world_served_under_old_cookie: 25 in a hundred should"]
        );
    }

    #[test]
    fn smoltcp_may_stop_now_and_then_and_not_often() {
        let mut outcomes = vec![Outcome::Complete; 60];
        outcomes.push(Outcome::TimedOut);
        let findings = batch("storm", &outcomes, true);
        assert!(
            findings[0].starts_with("50 of 3050 connections timed out, in seeds [0, 1, 2"),
            "{findings:?}"
        );
    }
}
