//! What another configuration costs the lcore that takes it, and what control makes of it before: `cargo bench -p baton-core --bench renewal`.
//!
//! One pool of 3 and of 1,000 members changes all their weights, under each policy whose state takes time to make.

#![expect(missing_docs, reason = "criterion_group! makes a public function")]

use core::net::Ipv4Addr;
use std::hint::black_box;
use std::sync::Arc;

use baton_core::ids::{BackendIndex, PoolIndex};
use baton_core::policy::balance::{
    ContentAndLoadSettings, HashOn, LardSettings, MaglevSettings, PolicySettings,
};
use baton_core::policy::{Conditions, Pool, Rule, Rules};
use baton_core::switch::{Backend, Renewal, Update};
use baton_core::wire::MacAddress;
use baton_core::{Counters, Entropy, Lcore, Micros, Network, Settings, Snapshot, Switch};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use handoff_proto::keys::Key;
use handoff_proto::{KeyId, KeyRing};

const NOW: Micros = Micros::from_secs(1_000);

fn snapshot(members: u16, weight: u16, policy: &PolicySettings) -> Snapshot {
    let mut pool = Pool::of((0..members).map(BackendIndex));
    pool.policy = policy.clone();
    pool.members.iter_mut().for_each(|member| member.weight = weight);
    let address = |number: u16| Ipv4Addr::from_bits(0x0a3c_0100 + u32::from(number));
    Snapshot {
        backends: (0..members).map(|number| Backend::at(address(number).into())).collect(),
        pools: vec![pool],
        rules: Rules::new(vec![Rule::to_pool(Conditions::default(), PoolIndex(0))]),
        ..Snapshot::bare(KeyRing::new(vec![Key::new(KeyId(1), [7; 32])]).expect("one key"))
    }
}

fn switch(snapshot: Snapshot) -> Switch {
    let settings = Settings {
        network: Network { address: Ipv4Addr::new(10, 60, 0, 1), prefix_bits: 16, gateway: None },
        mtu_bytes: 1500,
        flow_count_max: 1024,
        hold_count_max: 16,
        hold_timeout: Micros::from_secs(10),
        unconfirmed_timeout: Micros::from_secs(300),
        established_timeout: Micros::from_secs(900),
        closing_timeout: Micros::from_secs(60),
        window_scale: 7,
    };
    let lcore = Lcore { number: 0, count: 1, mac: MacAddress([2, 0, 0, 0, 0, 1]) };
    let (counters, entropy) = (Arc::new(Counters::default()), Entropy::from_seed(1));
    Switch::new(lcore, settings, Arc::new(snapshot), counters, entropy, NOW).expect("good settings")
}

fn renewals(c: &mut Criterion) {
    let maglev = MaglevSettings::new(HashOn::Url, None).expect("no bound");
    let content_and_load = ContentAndLoadSettings::new(HashOn::Url, 3).expect("three candidates");
    for (name, policy) in [
        ("maglev", PolicySettings::Maglev(maglev)),
        ("content-and-load", PolicySettings::ContentAndLoad(content_and_load)),
        ("lard", PolicySettings::Lard(LardSettings::default())),
    ] {
        for members in [3, 1_000] {
            let (one, other) = (snapshot(members, 1, &policy), snapshot(members, 2, &policy));
            let mut group = c.benchmark_group(format!("{name}/{members}"));
            group.sample_size(20);
            group
                .bench_function("made", |bencher| bencher.iter(|| black_box(Renewal::between(&one, &other))));
            let mut switch = switch(one.clone());
            let (one, other) = (Arc::new(one), Arc::new(other));
            let (mut before, mut after) = (one, other);
            group.bench_function("taken", |bencher| {
                bencher.iter_batched(
                    || {
                        let update = Update::new(Arc::clone(&after), Renewal::between(&before, &after));
                        core::mem::swap(&mut before, &mut after);
                        update
                    },
                    |update| switch.apply(update, NOW),
                    BatchSize::PerIteration,
                );
            });
            group.finish();
        }
    }
}

criterion_group!(benches, renewals);
criterion_main!(benches);
