//! Turns.

use baton_core::ids::ClassIndex;
use baton_core::policy::balance::{Ask, PolicySettings, Reason};

use crate::pool::{ASK, Pool};

#[test]
fn round_robin_gives_each_as_many_within_one() {
    let mut pool = Pool::new(&PolicySettings::RoundRobin, &[1; 7]);
    pool.usable[3] = false;
    let counts = pool.give_all([ASK; 1000]);
    assert_eq!(counts[3], 0);
    assert!(
        counts.iter().enumerate().all(|(at, count)| at == 3 || (166..=167).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn smooth_turns_are_those_nginx_describes() {
    // The sequence in the commit that brought it to nginx, for weights 5, 1 and 1.
    let mut pool = Pool::new(&PolicySettings::WeightedRoundRobin, &[5, 1, 1]);
    let turns: Vec<usize> = (0..14).map(|_| pool.give(ASK).0).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn weighted_turns_are_exact_in_each_cycle() {
    let weights = [1, 2, 3, 5, 8, 13, 1000];
    let mut pool = Pool::new(&PolicySettings::WeightedRoundRobin, &weights);
    let exact: Vec<usize> = weights.iter().map(|weight| usize::from(*weight)).collect();
    for cycle in 0..3 {
        assert_eq!(pool.give_all([ASK; 1032]), exact, "cycle {cycle}");
    }
    // Without the heaviest the others' cycle is shorter, and as exact.
    pool.usable[6] = false;
    pool.give_all([ASK; 32]);
    assert_eq!(pool.give_all([ASK; 32]), [1, 2, 3, 5, 8, 13, 0]);
    pool.usable[6] = true;
    assert_eq!(pool.give_all([ASK; 1032]), exact, "and again when it is back");
}

#[test]
fn a_heavy_members_turns_are_spread() {
    let mut pool = Pool::new(&PolicySettings::WeightedRoundRobin, &[10, 4, 3, 3]);
    let turns: Vec<usize> = (0..200).map(|_| pool.give(ASK).0).collect();
    let longest = turns.chunk_by(|one, next| one == next).map(<[usize]>::len).max();
    assert!(longest <= Some(2), "{longest:?} in a row have half of the weight");
}

#[test]
fn cap_gives_each_class_its_own_turns() {
    let mut pool = Pool::new(&PolicySettings::Cap, &[1; 5]);
    let mut counts = [[0_usize; 5]; 3];
    // Classes come in bursts and in random order; none of them has anything to do with the others' turns.
    for _ in 0..1000 {
        let class = u8::try_from(pool.bits() % 3).expect("small");
        for _ in 0..pool.bits() % 4 {
            let (member, reason) = pool.give(Ask { class: ClassIndex(class), ..ASK });
            assert_eq!(reason, Reason::ClassTurn);
            counts[usize::from(class)][member] += 1;
            for counts in counts {
                let most = counts.iter().max().expect("five");
                assert!(counts.iter().all(|count| most - count <= 1), "{counts:?}");
            }
        }
    }
    assert!(counts.iter().all(|counts| counts[0] > 50), "each class was asked for: {counts:?}");
}

#[test]
fn cap_honours_weights_and_does_not_begin_every_class_with_the_same_member() {
    let mut pool = Pool::new(&PolicySettings::Cap, &[1, 2, 3]);
    for class in [1, 63] {
        assert_eq!(pool.give_all([Ask { class: ClassIndex(class), ..ASK }; 12]), [2, 4, 6], "class {class}");
    }
    let mut pool = Pool::new(&PolicySettings::Cap, &[1; 16]);
    let counts = pool.give_all((0..64).map(|class| Ask { class: ClassIndex(class), ..ASK }));
    assert_eq!(counts, [4; 16]);
}
