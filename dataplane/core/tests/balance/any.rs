//! What holds for every policy, whatever happens.

use baton_core::Entropy;
use baton_core::ids::ClassIndex;
use baton_core::policy::Load;
use baton_core::policy::balance::{Ask, PolicySettings};
use handoff_proto::Micros;
use proptest::prelude::*;

use crate::policies::all;
use crate::pool::{ASK, Pool};

/// A load of any size: small, usual, or as large as a lying agent can say.
fn load(entropy: &mut Entropy) -> Load {
    let mut any = || {
        let bits = entropy.bits();
        bits >> (bits % 64)
    };
    let permille = |bits: u64| u16::try_from(bits % 2000).expect("small");
    Load {
        reported: Micros(0),
        connections: u32::try_from(any() >> 32).expect("32 bits"),
        accept_queue_permille: permille(any()),
        cpu_permille: permille(any()),
        memory_permille: permille(any()),
        response: Some(Micros(any())).filter(|time| time.0 % 3 > 0),
        bytes_per_s: any(),
        packets_per_s: any(),
    }
}

/// Anything happens to a pool, and then it is asked.
fn step(pool: &mut Pool, entropy: &mut Entropy) {
    const PATHS: [Option<&str>; 8] =
        [None, Some(""), Some("/"), Some("/a"), Some("/a/b/c/d/e"), Some("/c/d"), Some("*"), Some("//")];
    let pick = |entropy: &mut Entropy, count: usize| {
        usize::try_from(entropy.bits() % u64::try_from(count).expect("few").max(1)).expect("few")
    };
    let count = pool.members.len();
    if count > 0 {
        let member = pick(entropy, count);
        match entropy.bits() % 8 {
            0 => pool.usable[member] = !pool.usable[member],
            1 => pool.usable.fill(!entropy.bits().is_multiple_of(8)),
            2 => {
                let load = load(entropy);
                pool.report(member, load);
            }
            3 if pool.connections(member) > 0 => pool.tally(member).connections -= 1,
            4 if entropy.bits().is_multiple_of(64) => {
                let tally = pool.tally(member);
                (tally.connections, tally.dispatched) = (u32::MAX - 1000, u32::MAX - 1000);
                tally.session_weight = u64::MAX - 10_000_000;
            }
            5 => pool.now = pool.now.plus(Micros(entropy.bits() % 2_000_000)),
            6 if entropy.bits().is_multiple_of(64) => {
                pool.now = Micros(entropy.bits() % 4_000_000_000_000_000)
            }
            _ => {}
        }
    }
    let small = entropy.bits().is_multiple_of(2);
    let ask = Ask {
        key: if small { entropy.bits() % 4 } else { entropy.bits() },
        class: ClassIndex(u8::try_from(entropy.bits() % 256).expect("small")),
        session_weight: u16::try_from(entropy.bits() % 1000).expect("small"),
        path: PATHS[pick(entropy, PATHS.len())],
        entropy: entropy.bits(),
    };
    let anybody = pool.usable.contains(&true);
    // `peek`, which this uses, asks twice and refuses whoever is not usable.
    assert_eq!(pool.try_give(ask).is_some(), anybody, "a usable member is found whenever there is one");
}

fn live(settings: &PolicySettings, weights: &[u16], seed: u64, steps: usize) {
    let mut entropy = Entropy::from_seed(seed);
    let mut pool = Pool::new(settings, weights);
    pool.lcores = u16::try_from(entropy.bits() % 8).expect("small");
    (0..steps).for_each(|_| step(&mut pool, &mut entropy));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_usable_member_is_found_and_no_other_whatever_happens(
        weights in proptest::collection::vec(1_u16..=1000, 0..40),
        seed in any::<u64>(),
    ) {
        for settings in all() {
            live(&settings, &weights, seed, 300);
        }
    }
}

#[test]
fn so_it_is_in_the_largest_pool() {
    for settings in all() {
        live(&settings, &[3; 1024], 9, 100);
    }
}

#[test]
fn two_lcores_with_the_same_state_choose_the_same() {
    for settings in all() {
        let mut pools = [0; 2].map(|_| Pool::new(&settings, &[1, 2, 3, 4]));
        for number in 0..500 {
            let ask = Ask { key: number % 50, path: Some("/a/b"), entropy: number, ..ASK };
            let [one, other] = pools.each_mut().map(|pool| pool.try_give(ask));
            assert_eq!(one, other, "{}", settings.name());
        }
    }
}

#[test]
fn every_policy_has_a_name_of_its_own() {
    let mut names: Vec<&str> = all().iter().map(PolicySettings::name).collect();
    names.dedup();
    assert_eq!(names.len(), 15, "{names:?}");
}
