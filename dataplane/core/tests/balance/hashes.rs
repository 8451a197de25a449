//! Consistent hashes.

use baton_core::policy::balance::{
    Ask, ContentAndLoadSettings, HashOn, MaglevSettings, PolicySettings, Reason,
};
use baton_core::policy::{Load, Member};

use crate::pool::{ASK, Pool, is_near, keys, members};

fn maglev(bounded_load_percent: Option<u16>) -> PolicySettings {
    PolicySettings::Maglev(MaglevSettings::new(HashOn::Path, bounded_load_percent).expect("a bound"))
}

/// Who has each of many keys, by backend.
fn owners(pool: &mut Pool, count: usize) -> Vec<u16> {
    keys(count)
        .map(|ask| {
            let choice = pool.peek(ask).expect("somebody is usable");
            pool.members[choice.member].backend.0
        })
        .collect()
}

fn moved(before: &[u16], after: &[u16]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

#[test]
fn keys_are_spread_by_weight() {
    for weights in [&[1, 1, 1][..], &[1, 2, 3, 4], &[10; 10], &[1, 1, 1, 97], &[500, 1000, 250]] {
        for settings in [maglev(None), PolicySettings::ClientHash] {
            let mut pool = Pool::new(&settings, weights);
            let counts = pool.give_all(keys(200_000));
            let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            for (count, weight) in counts.iter().zip(weights) {
                // A member of 1 in 100 has 655 places of 65,537, give or take one, and 2,000 keys, give or take 45.
                assert!(is_near(*count, 200_000 * usize::from(*weight) / sum, 6), "{weights:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn only_a_lost_members_keys_move_and_to_everybody() {
    for count in [3, 10, 100] {
        let mut pool = Pool::new(&maglev(None), &vec![1; count]);
        let before = owners(&mut pool, 50_000);
        pool.usable[1] = false;
        let after = owners(&mut pool, 50_000);
        let lost = pool.members[1].backend.0;
        let moved = moved(&before, &after);
        assert_eq!(moved, before.iter().filter(|owner| **owner == lost).count(), "of {count}");
        assert!(moved * 100 <= 50_000 * 100 / count + 50_000 * 2, "{moved} of {count}");
        let heirs = |heir: &Member| {
            let got = before.iter().zip(&after).filter(|(was, is)| was != is && **is == heir.backend.0);
            got.count()
        };
        let most = pool.members.iter().map(heirs).max().expect("members");
        assert!(most <= moved * 3 / (count - 1) + 10, "the most for one: {most} of {moved}");
        pool.usable[1] = true;
        assert_eq!(owners(&mut pool, 50_000), before, "all come back");
    }
}

#[test]
fn few_keys_move_when_a_member_leaves_the_pool_or_joins_it() {
    for weights in [vec![1; 3], vec![1; 10], vec![1; 100], vec![1; 1024], vec![5, 4, 3, 2, 1, 1, 1, 1, 1, 1]]
    {
        let all = members(&weights);
        let mut without = all.clone();
        let gone = without.remove(1);
        let with = owners(&mut Pool::of(&maglev(None), all), 50_000);
        let moved = moved(&with, &owners(&mut Pool::of(&maglev(None), without), 50_000));
        let sum: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
        let share = 50_000.0 * f64::from(gone.weight) / f64::from(sum);
        let percent = |keys: f64| keys / 500.0;
        let more = percent(f64::from(u32::try_from(moved).expect("few")) - share);
        assert!(more <= 2.0, "{} members: {more} % more than its share", weights.len());
    }
}

#[test]
fn neither_order_nor_positions_matter() {
    let mut one = members(&[1, 2, 3, 4, 5]);
    let before = owners(&mut Pool::of(&maglev(None), one.clone()), 10_000);
    one.reverse();
    assert_eq!(owners(&mut Pool::of(&maglev(None), one.clone()), 10_000), before);
    // The same five backends, each with another number: as on a switch where another one was removed before.
    one.iter_mut().for_each(|member| member.backend.0 += 100);
    let after = owners(&mut Pool::of(&maglev(None), one), 10_000);
    assert_eq!(after, before.iter().map(|backend| backend + 100).collect::<Vec<_>>());
}

#[test]
fn nobody_has_more_than_its_bounded_share() {
    for (percent, weights) in
        [(125, &[1, 1, 1, 1, 1][..]), (101, &[1, 2, 3]), (200, &[7; 50]), (110, &[1, 3])]
    {
        let mut pool = Pool::new(&maglev(Some(percent)), weights);
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut open = Vec::new();
        let mut passed_over = 0;
        for step in 0..3000 {
            // A few keys have most of the requests.
            let key = if pool.bits().is_multiple_of(4) { pool.bits() } else { pool.bits() % 3 };
            let (member, reason) = pool.give(Ask { key, ..ASK });
            passed_over += usize::from(reason == Reason::HashOwnerFull);
            open.push(member);
            let total = u64::try_from(open.len()).expect("few");
            let most = (u64::from(percent) * total * u64::from(weights[member])).div_ceil(100 * sum);
            let has = u64::from(pool.connections(member));
            assert!(has <= most, "step {step}: {has} of {total}, {percent} % of its share are {most}");
            if open.len() > 200 {
                let at = usize::try_from(pool.bits() % 200).expect("small");
                let ended = open.swap_remove(at);
                pool.end(ended, 1);
            }
        }
        assert!(passed_over > 50, "the bound was met: {passed_over} times");
    }
}

#[test]
fn a_bound_moves_only_what_is_too_much() {
    let (mut free, mut bounded) =
        (Pool::new(&maglev(None), &[1; 10]), Pool::new(&maglev(Some(150)), &[1; 10]));
    let stayed = keys(5000).filter(|ask| free.give(*ask).0 == bounded.give(*ask).0).count();
    assert!(stayed > 4900, "{stayed} of 5,000 at their owner: keys are spread as they are");
}

#[test]
fn the_last_member_is_found_wherever_it_is() {
    for settings in [maglev(None), maglev(Some(101)), PolicySettings::UrlHash, PolicySettings::ClientHash] {
        let mut pool = Pool::new(&settings, &[1; 1000]);
        for only in [0, 500, 999] {
            pool.usable = (0..1000).map(|member| member == only).collect();
            for ask in keys(20) {
                assert_eq!(pool.give(ask).0, only);
            }
        }
        pool.usable.fill(false);
        assert_eq!(pool.peek(ASK), None);
    }
}

#[test]
fn buckets_are_shared_out_by_weight() {
    for (weights, shares) in [
        (&[1, 1, 1, 1][..], &[64, 64, 64, 64][..]),
        (&[1, 3], &[64, 192]),
        (&[2, 3, 5], &[51, 77, 128]),
        (&[1, 1000], &[1, 255]),
    ] {
        let mut pool = Pool::new(&PolicySettings::UrlHash, weights);
        let counts = pool.give_all((0..256).map(|key| Ask { key, ..ASK }));
        assert!(counts.iter().zip(shares).all(|(count, share)| count.abs_diff(*share) <= 1), "{counts:?}");
    }
    let mut pool = Pool::new(&PolicySettings::UrlHash, &[1; 256]);
    assert_eq!(pool.give_all((0..256).map(|key| Ask { key, ..ASK })), [1; 256], "a bucket each");
    let counts = Pool::new(&PolicySettings::UrlHash, &[1; 4]).give_all(keys(100_000));
    assert!(counts.iter().all(|count| is_near(*count, 25_000, 3)), "{counts:?}");
}

#[test]
fn a_lost_members_buckets_go_to_everybody_and_come_back() {
    let bucket = |key| Ask { key, ..ASK };
    let mut pool = Pool::new(&PolicySettings::UrlHash, &[1; 8]);
    let mut members = |usable: bool| -> Vec<usize> {
        pool.usable[2] = usable;
        (0..256).map(|key| pool.peek(bucket(key)).expect("usable").member).collect()
    };
    let (before, during, after) = (members(true), members(false), members(true));
    assert_eq!(before, after);
    let mut heirs = [0; 8];
    for (was, is) in before.iter().zip(&during) {
        assert!(was == is || *was == 2, "only its own buckets move");
        heirs[*is] += usize::from(was != is);
    }
    assert_eq!(heirs.iter().sum::<usize>(), 32);
    assert!(heirs.iter().all(|got| *got <= 12), "{heirs:?}");
}

#[test]
fn content_goes_to_the_less_loaded_of_its_candidates() {
    let settings = ContentAndLoadSettings::new(HashOn::Path, 3).expect("three");
    let mut pool = Pool::new(&PolicySettings::ContentAndLoad(settings), &[1; 20]);
    (0..20).for_each(|member| pool.report(member, Load { connections: 50, ..Load::default() }));
    let ask = Ask { key: 12_345, ..ASK };
    let mut candidates: Vec<usize> = Vec::new();
    for _ in 0..300 {
        let (member, reason) = pool.give(ask);
        assert_eq!(reason, Reason::LeastLoadedCandidate);
        candidates.push(member);
    }
    assert_eq!(
        candidates[..3],
        candidates[3..6],
        "in turn, since what was given counts until the next report"
    );
    let (first, last) = (candidates[0], candidates[2]);
    candidates.sort_unstable();
    candidates.dedup();
    assert_eq!(candidates.len(), 3, "one key stays with its three");
    pool.report(last, Load { connections: 149, ..Load::default() });
    assert_eq!(pool.give(ask).0, last, "with 149 against 150");
    pool.usable[first] = false;
    let heir = pool.give(ask).0;
    assert!(
        !candidates.contains(&heir),
        "one who cannot be chosen has a substitute, who has nothing of that yet"
    );
    pool.usable[first] = true;
    pool.now = pool.now.plus(baton_core::policy::FRESH).plus(handoff_proto::Micros(1));
    pool.tally(first).connections = 0;
    assert_eq!(pool.give(ask), (first, Reason::StaleReports));
}

/// A report says what was open when it was written, and comes later.
#[test]
fn content_does_not_run_to_who_reports_less_than_this_lcore_has_open_there() {
    let settings = ContentAndLoadSettings::new(HashOn::Path, 3).expect("three");
    let mut pool = Pool::new(&PolicySettings::ContentAndLoad(settings), &[1; 20]);
    (0..20).for_each(|member| pool.report(member, Load::default()));
    let ask = Ask { key: 12_345, ..ASK };
    let given: Vec<usize> = (0..30).map(|_| pool.give(ask).0).collect();
    pool.report(given[2], Load::default());
    let then: Vec<usize> = (0..6).map(|_| pool.give(ask).0).collect();
    assert_eq!(then, given[..6], "in turn as before: ten are open at each");
}
