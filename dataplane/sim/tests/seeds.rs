//! Seeds with a story: each showed something wrong with Baton once.
//!
//! A seed keeps its world as long as plans are drawn as they are. What it showed has a test of its own in the core, which keeps for good.

use baton_sim::capture::SharedCapture;
use baton_sim::run;
use baton_sim::scenario;

/// Scenario, seed, and what was wrong.
const PINNED: &[(&str, u64, &str)] = &[
    ("storm", 67, "reset after 3 s, because its first segment was lost while later ones had come"),
    ("storm", 184, "the same, by a bare acknowledgment of a doubled SYN-ACK"),
    ("storm", 700_241, "reset after 5 s, because a later segment of a repeated burst overtook the first"),
    ("storm", 900_195, "the same"),
    (
        "everything",
        22,
        "reset while it was served, by a repeated denial of what was asked before its first segment came",
    ),
];

#[test]
fn what_was_wrong_once_is_not_wrong_again() {
    for (name, seed, story) in PINNED {
        let scenario = scenario::named(name).expect("a scenario of that name");
        let report = run::run(scenario, *seed, None);
        assert_eq!(report.findings, [], "{name} {seed}: {story}");
        assert!(report.evidence.contains(&true), "{name} {seed} is no {name} any more");
    }
}

#[test]
fn a_seed_makes_the_same_world_frame_by_frame() {
    let pcap = |name, seed| {
        let frames = SharedCapture::default();
        let scenario = scenario::named(name).expect("a scenario of that name");
        let report = run::run(scenario, seed, Some(SharedCapture::clone(&frames)));
        let mut file = Vec::new();
        frames.lock().expect("nobody panicked").write(&mut file).expect("memory takes all");
        (file, report.counts)
    };
    let first = pcap("everything", 7);
    assert!(first.0.len() > 10_000, "a world with traffic");
    assert!(first == pcap("everything", 7), "the same frames at the same times, and the same counts");
    assert!(first != pcap("everything", 8));
}

#[test]
fn every_scenario_is_calm_enough_for_the_first_seeds() {
    for scenario in scenario::ALL {
        for seed in 1..=5 {
            let report = run::run(scenario, seed, None);
            assert_eq!(report.findings, [], "{} {seed}", scenario.name);
        }
    }
}
