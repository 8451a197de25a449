//! New snapshots: what of an lcore's memory stays, what begins anew, and what of an update that another overtook.

use std::sync::Arc;

use baton_core::Snapshot;
use baton_core::ids::{BackendIndex, PoolIndex};
use baton_core::policy::balance::PolicySettings;
use baton_core::policy::{Conditions, PathMatch, Pool, Rule, Rules};
use baton_core::switch::{Renewal, Update};

use crate::common::client::Client;
use crate::common::world::{World, backend_of, settings, snapshot};

fn to_one_pool(policy: PolicySettings) -> Snapshot {
    Snapshot {
        pools: vec![Pool { policy, ..Pool::of([0, 1, 2].map(BackendIndex)) }],
        rules: Rules::new(vec![Rule::to_pool(Conditions::default(), PoolIndex(0))]),
        ..snapshot()
    }
}

/// Which backends clients at so many ports get, one after the other.
fn places(world: &mut World, ports: core::ops::Range<u16>) -> Vec<usize> {
    ports.map(|port| backend_of(&world.request(Client::at_port(port), "/a").1.message())).collect()
}

fn update(before: &Snapshot, after: &Snapshot) -> Update {
    Update::new(Arc::new(after.clone()), Renewal::between(before, after))
}

#[test]
fn turns_and_counts_go_on_where_only_a_backend_came_or_went() {
    let before = to_one_pool(PolicySettings::RoundRobin);
    let mut world = World::with(settings(), before.clone());
    assert_eq!(places(&mut world, 1..3), [0, 1]);
    let mut after = before;
    after.backends[0].usable = false;
    world.apply(after);
    assert_eq!(places(&mut world, 3..5), [2, 1], "in turn");
    assert_eq!(world.switch.rule_hits(), [4]);
}

#[test]
fn another_policy_and_other_rules_begin_anew() {
    let mut world = World::with(settings(), to_one_pool(PolicySettings::RoundRobin));
    assert_eq!(places(&mut world, 1..3), [0, 1]);
    let mut after = to_one_pool(PolicySettings::ClientHash);
    let one_path = Conditions { path: Some(PathMatch::Exact("/b".into())), ..Conditions::default() };
    after.rules = Rules::new(vec![
        Rule::to_pool(one_path, PoolIndex(0)),
        Rule::to_pool(Conditions::default(), PoolIndex(0)),
    ]);
    world.apply(after);
    let owner = places(&mut world, 3..9);
    assert!(owner.iter().all(|place| *place == owner[0]), "one client, one backend: {owner:?}");
    assert_eq!(world.switch.rule_hits(), [0, 6]);
}

#[test]
fn what_an_untaken_update_renewed_the_one_in_its_place_renews_too() {
    let before = to_one_pool(PolicySettings::RoundRobin);
    let mut world = World::with(settings(), before.clone());
    assert_eq!(places(&mut world, 1..3), [0, 1]);
    // Another policy and other rules; before the lcore looks, a backend goes. It never sees what lies between.
    let mut between = to_one_pool(PolicySettings::ClientHash);
    between.rules = Rules::new(vec![Rule::to_pool(Conditions::default(), PoolIndex(0)); 2]);
    let owner = {
        let mut other = World::with(settings(), between.clone());
        places(&mut other, 1..2)[0]
    };
    let mut last = between.clone();
    last.backends[(owner + 1) % 3].usable = false;
    let update = update(&between, &last).in_place_of(update(&before, &between));
    drop(world.switch.apply(update, world.now));
    assert_eq!(places(&mut world, 3..9), [owner; 6], "by the client, not in turn");
    assert_eq!(world.switch.rule_hits(), [6, 0], "the old rules' count is gone");
}
