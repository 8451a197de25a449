//! RACC: a tree of URLs, shared out by capacity.

use std::collections::{BTreeMap, BTreeSet};

use baton_core::Entropy;
use baton_core::policy::Load;
use baton_core::policy::balance::{Ask, KnownSubtree, PolicySettings, RaccCost, RaccSettings, Reason};
use handoff_proto::Micros;

use crate::pool::{ASK, Pool, is_near, members};

const INTERVAL: Micros = Micros::from_secs(10);

fn racc(known: Vec<KnownSubtree>) -> PolicySettings {
    PolicySettings::Racc(RaccSettings::new(4, 10, 4096, RaccCost::Requests, known).expect("good settings"))
}

/// Paths of which the first are asked for most, as on the Web: the n-th one n-th as often.
fn site(directories: usize, documents: usize) -> Vec<String> {
    let paths = (0..documents).flat_map(|document| {
        (0..directories).map(move |directory| format!("/directory-{directory}/document-{document}"))
    });
    paths.collect()
}

fn popular(entropy: &mut Entropy, count: usize) -> usize {
    // The inverse of the logarithm, on which ranks are even.
    let even = f64::from(u32::try_from(entropy.bits() >> 32).expect("32 bits")) / f64::from(u32::MAX);
    let rank = (f64::from(u32::try_from(count).expect("few"))).powf(even);
    (0..count).find(|at| f64::from(u32::try_from(at + 1).expect("few")) >= rank).unwrap_or(count - 1)
}

struct Interval {
    counts: Vec<usize>,
    moves: usize,
    /// Who served each path.
    servers: BTreeMap<usize, BTreeSet<usize>>,
}

/// An interval of requests.
fn interval(pool: &mut Pool, paths: &[String], requests: usize, entropy: &mut Entropy) -> Interval {
    let mut seen = Interval { counts: vec![0; pool.members.len()], moves: 0, servers: BTreeMap::new() };
    for _ in 0..requests {
        let path = popular(entropy, paths.len());
        let (member, reason) = pool.give(Ask { path: Some(&paths[path]), ..ASK });
        seen.counts[member] += 1;
        seen.moves += usize::from(reason == Reason::SubtreeMoved);
        seen.servers.entry(path).or_default().insert(member);
    }
    pool.now = pool.now.plus(INTERVAL);
    seen
}

#[test]
fn the_tree_is_shared_out_by_capacity() {
    for (directories, documents) in [(100, 10), (3, 400)] {
        let paths = site(directories, documents);
        let mut pool = Pool::new(&racc(vec![]), &[1, 1, 2]);
        let mut entropy = Entropy::from_seed(3);
        for _ in 0..20 {
            let seen = interval(&mut pool, &paths, 10_000, &mut entropy);
            assert!(seen.moves <= 64, "{} moves", seen.moves);
        }
        let seen = interval(&mut pool, &paths, 10_000, &mut entropy);
        for (count, fair) in seen.counts.iter().zip([2500, 2500, 5000]) {
            assert!(is_near(*count, fair, 25), "{directories} directories: {:?}", seen.counts);
        }
        let once = seen.servers.values().filter(|servers| servers.len() == 1).count();
        assert!(
            once * 100 >= seen.servers.len() * 98,
            "{once} of {} documents at one member",
            seen.servers.len()
        );
    }
}

#[test]
fn nothing_moves_before_something_was_measured_nor_when_all_is_well() {
    let paths = site(200, 1);
    let mut pool = Pool::new(&racc(vec![]), &[1; 4]);
    let mut entropy = Entropy::from_seed(5);
    assert_eq!(interval(&mut pool, &paths, 10_000, &mut entropy).moves, 0);
    let mut moves = Vec::new();
    for _ in 0..30 {
        moves.push(interval(&mut pool, &paths, 10_000, &mut entropy).moves);
    }
    assert!(moves[0] > 0, "the first hashes are not even: {moves:?}");
    assert!(moves[20..].iter().sum::<usize>() <= 2, "{moves:?}");

    // Of a few requests no more is known than of none.
    let mut pool = Pool::new(&racc(vec![]), &[1; 4]);
    for _ in 0..10 {
        assert_eq!(interval(&mut pool, &paths[..5], 50, &mut entropy).moves, 0);
    }
}

#[test]
fn so_many_move_in_an_interval_and_no_more() {
    // By their sizes half of the subtrees are each member's; but only those of the first are asked for.
    let paths: Vec<String> = (0..600).map(|number| format!("/{number}")).collect();
    let known = paths.iter().map(|path| KnownSubtree::new(path, 1000, 1).expect("a subtree")).collect();
    let mut pool = Pool::new(&racc(known), &[1; 2]);
    let at_first: Vec<String> = paths
        .into_iter()
        .filter(|path| pool.peek(Ask { path: Some(path), ..ASK }).expect("usable").member == 0)
        .collect();
    assert_eq!(at_first.len(), 300);
    let mut moves = Vec::new();
    let mut at_other = 0;
    for _ in 0..5 {
        let mut moved = 0;
        at_other = 0;
        for path in at_first.iter().chain(&at_first) {
            let (member, reason) = pool.give(Ask { path: Some(path), ..ASK });
            moved += usize::from(reason == Reason::SubtreeMoved);
            at_other += member;
        }
        moves.push(moved);
        pool.now = pool.now.plus(INTERVAL);
    }
    assert_eq!(moves[..3], [0, 64, 64], "{moves:?}");
    assert!(
        is_near(at_other, 300, 10),
        "then all is well: {moves:?}, {at_other} of 600 requests at the other"
    );
}

#[test]
fn a_member_that_was_away_is_not_blamed_on_the_others() {
    let paths = site(100, 1);
    let mut pool = Pool::new(&racc(vec![]), &[1; 2]);
    let mut entropy = Entropy::from_seed(5);
    for _ in 0..20 {
        interval(&mut pool, &paths, 4000, &mut entropy);
    }
    pool.usable[1] = false;
    for _ in 0..3 {
        assert_eq!(interval(&mut pool, &paths, 4000, &mut entropy).counts[1], 0);
    }
    pool.usable[1] = true;
    let back = interval(&mut pool, &paths, 4000, &mut entropy);
    assert!(back.moves <= 1 && is_near(back.counts[1], 2000, 15), "{} moves, {:?}", back.moves, back.counts);
}

#[test]
fn a_hot_subtree_is_taken_apart_and_a_cold_one_is_whole_again() {
    let hot: Vec<String> = (0..64).map(|number| format!("/hot/{number}")).collect();
    let mut pool = Pool::new(&racc(vec![]), &[1; 4]);
    let mut servers = |paths: &[String]| {
        let mut seen = BTreeSet::new();
        for round in 0..2000 {
            seen.insert(pool.give(Ask { path: Some(&paths[round % paths.len()]), ..ASK }).0);
        }
        pool.now = pool.now.plus(INTERVAL);
        seen.len()
    };
    servers(&hot);
    assert_eq!(servers(&hot), 4, "too much for one");
    let mixed: Vec<String> = hot[..2].iter().cloned().chain(site(500, 4)).collect();
    for _ in 0..12 {
        servers(&mixed);
    }
    assert_eq!(servers(&hot), 1, "nothing much for long");
}

/// Requests for a site below one directory, one document after the other; returns how many each of four members got, sorted.
fn one_site(pool: &mut Pool, requests: usize) -> Vec<usize> {
    let mut counts = vec![0; 4];
    for round in 0..requests {
        let number = round % 1000;
        let path = format!("/site/en/{}/{number}", number % 100);
        counts[pool.give(Ask { path: Some(&path), ..ASK }).0] += 1;
    }
    counts.sort_unstable();
    counts
}

/// No measured interval is waited for until it is shared out.
#[test]
fn what_lies_in_one_subtree_is_taken_apart_as_soon_as_that_can_be_known() {
    let mut pool = Pool::new(&racc(vec![]), &[1; 4]);
    // 100 requests a member say something, and there are two levels above what can be shared out.
    assert_eq!(one_site(&mut pool, 399), [0, 0, 0, 399]);
    one_site(&mut pool, 601);
    let then = one_site(&mut pool, 4000);
    assert!(then.iter().all(|count| is_near(*count, 1000, 50)), "{then:?}");
}

/// Intervals begin by the clock, and a switch starts within one: what little it was asked before the next begins must neither
/// pass for a measured interval nor be in the way of what comes then.
#[test]
fn what_was_taken_apart_on_little_stays_so_across_the_interval() {
    for early in [1, 150, 600, 700] {
        let mut pool = Pool::new(&racc(vec![]), &[1; 4]);
        one_site(&mut pool, early);
        pool.now = pool.now.plus(INTERVAL);
        one_site(&mut pool, 1000);
        let then = one_site(&mut pool, 4000);
        assert!(then.iter().all(|count| is_near(*count, 1000, 50)), "{early} early: {then:?}");
        if early >= 600 {
            let mut pool = Pool::new(&racc(vec![]), &[1; 4]);
            one_site(&mut pool, early);
            pool.now = pool.now.plus(INTERVAL);
            let at_once = one_site(&mut pool, 40);
            assert!(at_once[3] < 40, "apart before the interval, and apart in it: {at_once:?}");
        }
    }
}

#[test]
fn sizes_and_costs_of_the_operator_count() {
    let known: Vec<KnownSubtree> = (0..40)
        .map(|number| KnownSubtree::new(&format!("/isos/{number}"), 1 << 30, 1).expect("a subtree"))
        .chain([KnownSubtree::new("/cgi", 0, 100).expect("a subtree")])
        .collect();
    let mut pool = Pool::new(&racc(known), &[1, 3]);
    // Sizes alone: ten of forty to the one, the rest to the other, whatever is asked for.
    let counts = pool.give_all((0..40).map(|_| ASK).zip(0..40).map(|(ask, _)| ask));
    assert_eq!(counts.iter().sum::<usize>(), 40, "requests without a path go by their hash");
    let mut sizes = [0; 2];
    for number in 0..40 {
        let path = format!("/isos/{number}/image");
        sizes[pool.give(Ask { path: Some(&path), ..ASK }).0] += 1;
    }
    assert_eq!(sizes, [10, 30]);

    // One request in a hundred costs as much as all others: whoever has them is spared the others.
    let known = vec![KnownSubtree::new("/cgi", 0, 100).expect("a subtree")];
    let mut pool = Pool::new(&racc(known), &[1, 1]);
    let pages: Vec<String> = (0..99).map(|number| format!("/page-{number}")).collect();
    let mut counts = [0; 2];
    let mut cgi = 0;
    for round in 0..20 {
        for _ in 0..20 {
            let scripts = pool.give(Ask { path: Some("/cgi/search"), ..ASK }).0;
            for page in &pages {
                let (member, _) = pool.give(Ask { path: Some(page), ..ASK });
                if round == 19 {
                    counts[member] += 1;
                    cgi = scripts;
                }
            }
        }
        pool.now = pool.now.plus(INTERVAL);
    }
    assert!(counts[cgi] * 3 < counts[1 - cgi], "scripts at {cgi}, pages {counts:?}");
}

#[test]
fn traffic_says_whose_requests_are_large_if_it_is_asked() {
    let settings = RaccSettings::new(1, 10, 4096, RaccCost::Traffic, vec![]).expect("good settings");
    let mut pool = Pool::new(&PolicySettings::Racc(settings), &[1, 1]);
    let pages: Vec<String> = (0..200).map(|number| format!("/{number}")).collect();
    assert_eq!(pool.give(Ask { path: Some("/1"), ..ASK }).1, Reason::StaleReports);
    let mut first = BTreeMap::new();
    let mut counts = [0; 2];
    for round in 0..30 {
        counts = [0; 2];
        for number in 0..4000 {
            // What was at member 0 at first are large files.
            let bytes = |large: usize| u64::try_from(large).expect("few") * 90_000 + 40_000_000;
            let large = first.values().filter(|member| **member == 0).count();
            if number % 40 == 0 {
                pool.report(
                    0,
                    Load { bytes_per_s: bytes(if round < 1 { 0 } else { large * 10 }), ..Load::default() },
                );
                pool.report(1, Load { bytes_per_s: bytes(0), ..Load::default() });
            }
            let (member, _) = pool.give(Ask { path: Some(&pages[number % 200]), ..ASK });
            if round == 0 {
                first.insert(number % 200, member);
            }
            counts[member] += 1;
        }
        pool.now = pool.now.plus(INTERVAL);
    }
    assert!(counts[0] * 3 < counts[1] * 2, "who has the large ones has fewer: {counts:?}");
}

#[test]
fn a_lost_members_subtrees_are_its_own_again_when_it_is_back() {
    let paths = site(50, 2);
    let mut pool = Pool::of(&racc(vec![]), members(&[1; 5]));
    let mut owners = |usable| -> Vec<usize> {
        pool.usable[3] = usable;
        paths.iter().map(|path| pool.give(Ask { path: Some(path), ..ASK }).0).collect()
    };
    let (before, during, after) = (owners(true), owners(false), owners(true));
    assert_eq!(before, after);
    assert!(before.contains(&3) && !during.contains(&3));
    assert!(before.iter().zip(&during).all(|(was, is)| was == is || *was == 3));
}
