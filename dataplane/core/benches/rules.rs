//! What finding a rule costs among 10, 1,000 and 10,000: `cargo bench -p baton-core --bench rules`.
//!
//! Names have the same length however many there are, and behind all rules stands one that always holds. Each round looks for
//! as many rules as there are names, up to 1,000 of them spread over all, so that the caches see what a switch sees.
//!
//! Instructions are counted, without their noise, by
//! `valgrind --tool=callgrind --toggle-collect='baton_core::policy::rules::Rules::find' BENCH --test rules/hosts/1000`,
//! where BENCH is the program that `cargo bench --no-run` names: divide by the requests of one round, 1,000.

#![expect(missing_docs, reason = "criterion_group! makes a public function")]

use core::net::{IpAddr, Ipv4Addr};
use std::hint::black_box;

use baton_core::Entropy;
use baton_core::policy::{
    Conditions, Content, HostMatch, Http, PathMatch, PoolIndex, Request, Rule, Rules, VipIndex,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// How many requests a round has.
const ROUND: usize = 1_000;

/// What rules name.
#[derive(Clone, Copy)]
enum Kind {
    Hosts,
    Wildcards,
    Prefixes,
    /// Each host has up to 100 prefixes.
    HostsAndPrefixes,
    /// Nothing: every rule is looked at. What the others are compared with.
    Methods,
}

/// Six letters for each number, in no order.
fn label(n: usize) -> String {
    let seed = u64::try_from(n).expect("a 64-bit machine");
    format!("{:06x}", Entropy::from_seed(seed).bits() & 0xff_ffff)
}

fn host(kind: Kind, n: usize) -> String {
    let of = if matches!(kind, Kind::HostsAndPrefixes) { n / 100 } else { n };
    format!("{}.example.org", label(of))
}

fn rule(kind: Kind, n: usize) -> Rule {
    let mut conditions = Conditions::default();
    match kind {
        Kind::Hosts => conditions.host = HostMatch::new(&host(kind, n)).ok(),
        Kind::Wildcards => conditions.host = HostMatch::new(&format!("*.{}", host(kind, n))).ok(),
        Kind::Prefixes => conditions.path = PathMatch::prefix(&format!("/{}/", label(n))).ok(),
        Kind::HostsAndPrefixes => {
            conditions.host = HostMatch::new(&host(kind, n)).ok();
            conditions.path = PathMatch::prefix(&format!("/{}/", label(n))).ok();
        }
        Kind::Methods => {
            conditions.methods = baton_core::policy::Methods::new([&*format!("M{}", label(n))]).ok();
        }
    }
    Rule::to_pool(conditions, PoolIndex(0))
}

fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    group.throughput(Throughput::Elements(1_000));
    for (name, kind) in [
        ("hosts", Kind::Hosts),
        ("wildcards", Kind::Wildcards),
        ("prefixes", Kind::Prefixes),
        ("hosts_and_prefixes", Kind::HostsAndPrefixes),
        ("methods", Kind::Methods),
    ] {
        for count in [10, 1_000, 10_000] {
            let all = (0..count).map(|n| rule(kind, n));
            let last = Rule::to_pool(Conditions::default(), PoolIndex(1));
            let rules = Rules::new(all.chain([last]).collect());
            let asked: Vec<(String, String)> = (0..ROUND)
                .map(|at| {
                    let n = at * count.max(ROUND) / ROUND % count;
                    let front = if matches!(kind, Kind::Wildcards) { "www." } else { "" };
                    (format!("{front}{}", host(kind, n)), format!("/{}/index.html", label(n)))
                })
                .collect();
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    for (host, path) in &asked {
                        let http = Http { method: "GET", host: Some(host), path, query: None, fields: &[] };
                        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
                        let request = Request { vip: VipIndex(0), client, content: Content::Http(http) };
                        black_box(rules.find(black_box(&request)));
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, rules);
criterion_main!(benches);
