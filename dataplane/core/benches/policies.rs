//! What one decision costs, in memory, on one CPU: `cargo bench -p baton-core --bench policies`.
//!
//! Each policy chooses, and the choice holds, in pools of 3, 32 and 1,000 members, all of which are usable and report. One of
//! 4,096 keys and paths is asked for at a time; each member has some connections, and so many end as begin.

#![expect(missing_docs, reason = "criterion_group! makes a public function")]

use std::hint::black_box;
use std::time::Duration;

use baton_core::Entropy;
use baton_core::ids::{BackendIndex, ClassIndex};
use baton_core::policy::balance::{
    Ask, ContentAndLoadSettings, HashOn, HostWeights, LardReplicatedSettings, LardSettings, MaglevSettings,
    Policy, PolicySettings, RaccCost, RaccSettings, Tally, TrafficUnit, View,
};
use baton_core::policy::{Load, Member};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use handoff_proto::Micros;

const NOW: Micros = Micros::from_secs(1_800_000_000);
const TARGETS: usize = 4096;
const MEMBERS: [u16; 3] = [3, 32, 1000];

fn policies() -> Vec<(&'static str, PolicySettings)> {
    let maglev = |bound| PolicySettings::Maglev(MaglevSettings::new(HashOn::Path, bound).expect("a bound"));
    let lard = LardReplicatedSettings::new(LardSettings::default(), 20).expect("20 s");
    let guessing = RaccSettings::new(4, 10, 4096, RaccCost::Traffic, vec![]).expect("settings");
    let named = |settings: PolicySettings| (settings.name(), settings);
    vec![
        named(PolicySettings::RoundRobin),
        named(PolicySettings::WeightedRoundRobin),
        named(PolicySettings::LeastConnections),
        named(PolicySettings::LeastTraffic(TrafficUnit::Bytes)),
        named(PolicySettings::WeightedLeastLoad(HostWeights::Configured)),
        ("weighted-least-load, reported", PolicySettings::WeightedLeastLoad(HostWeights::Reported)),
        named(PolicySettings::FastestResponse),
        named(PolicySettings::TwoChoices),
        named(PolicySettings::ClientHash),
        named(maglev(None)),
        ("maglev, bounded", maglev(Some(125))),
        named(PolicySettings::UrlHash),
        named(PolicySettings::Lard(LardSettings::default())),
        named(PolicySettings::LardReplicated(lard)),
        named(PolicySettings::Cap),
        named(PolicySettings::Racc(RaccSettings::default())),
        ("racc, traffic", PolicySettings::Racc(guessing)),
        named(PolicySettings::ContentAndLoad(ContentAndLoadSettings::default())),
    ]
}

fn members(count: u16) -> Vec<Member> {
    let member = |number: u16| Member {
        backend: BackendIndex(number),
        weight: 1 + number % 4,
        identity: Member::identity_of(&format!("backend-{number}")),
    };
    (0..count).map(member).collect()
}

/// What a lcore keeps beside a policy.
struct Pool {
    policy: Box<dyn Policy>,
    members: Vec<Member>,
    tallies: Vec<Tally>,
    loads: Vec<Option<Load>>,
    targets: Vec<(u64, String)>,
    entropy: Entropy,
    asked: usize,
}

impl Pool {
    fn new(settings: &PolicySettings, count: u16) -> Self {
        let mut entropy = Entropy::from_seed(1);
        let members = members(count);
        let load = |number: u16| Load {
            reported: NOW,
            connections: 20 + u32::from(number % 7),
            response: Some(Micros(1000 + u64::from(number))),
            bytes_per_s: 1_000_000 + u64::from(number),
            ..Load::default()
        };
        Self {
            policy: settings.build(&members),
            tallies: vec![
                Tally {
                    connections: 20,
                    session_weight: 20,
                    dispatched: 1,
                    connections_at_report: 19
                };
                members.len()
            ],
            loads: (0..count).map(|number| Some(load(number))).collect(),
            members,
            targets: (0..TARGETS)
                .map(|at| (entropy.bits(), format!("/shop/items/{}/{at}.html", at % 64)))
                .collect(),
            entropy,
            asked: 0,
        }
    }

    fn decide(&mut self) -> usize {
        let (key, path) = &self.targets[self.asked % TARGETS];
        self.asked += 1;
        let entropy = self.entropy.bits();
        let ask = Ask { key: *key, class: ClassIndex(1), session_weight: 1, path: Some(path), entropy };
        let view = View {
            now: NOW,
            lcores: 1,
            members: &self.members,
            usable: &|backend| black_box(backend.0) < u16::MAX,
            tallies: &self.tallies,
            loads: &self.loads,
        };
        let choice = self.policy.choose(&ask, &view).expect("all are usable");
        self.policy.commit(&ask, &choice, &view);
        // Another connection of that member ends at once.
        self.tallies[choice.member].dispatched = (self.tallies[choice.member].dispatched + 1) % 64;
        choice.member
    }
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policies");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for (name, settings) in policies() {
        for count in MEMBERS {
            let mut pool = Pool::new(&settings, count);
            for _ in 0..2 * TARGETS {
                black_box(pool.decide());
            }
            group.bench_function(BenchmarkId::new(name, count), |bench| {
                bench.iter(|| black_box(pool.decide()))
            });
        }
    }
    group.finish();
}

/// What control pays for a table.
fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("building");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(10);
    for count in MEMBERS {
        let members = members(count);
        group.bench_function(BenchmarkId::new("client-hash", count), |bench| {
            bench.iter(|| black_box(PolicySettings::ClientHash.build(&members)));
        });
    }
    group.finish();
}

criterion_group!(benches, decisions, tables);
criterion_main!(benches);
