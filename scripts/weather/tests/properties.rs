//! What holds in every weather, whatever the seed, the conditions and the traffic.

use std::collections::HashMap;
use std::time::Duration;

use baton_weather::weather::Delivery;
use baton_weather::{Bounds, Chance, Conditions, Counters, Weather};
use proptest::prelude::*;

/// Frames of one run: 100 apart in size at most, told apart by their number in front.
const FRAMES: usize = 400;
const END: Duration = Duration::from_secs(600);

fn chance() -> impl Strategy<Value = Chance> {
    prop_oneof![
        Just(Chance::NEVER),
        (0.0..=100.0).prop_map(|percent| Chance::percent(percent).expect("within range")),
    ]
}

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), (0..20_000_u64).prop_map(Duration::from_micros)]
}

prop_compose! {
    fn conditions()(
        (loss, duplicate, reorder) in (chance(), chance(), chance()),
        (delay, jitter, reorder_wait) in (time(), time(), time()),
        reorder_gap in 1..20_u32,
        jitter_reorders: bool,
    ) -> Conditions {
        // Frames are told apart by their bytes: these stay what they are.
        let corrupt = Chance::NEVER;
        Conditions { loss, duplicate, reorder, reorder_gap, reorder_wait, corrupt, delay, jitter, jitter_reorders }
    }
}

/// Gaps between arrivals in microseconds: bursts and pauses.
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![3 => Just(0_u64), 1 => 0..5000_u64], 1..FRAMES)
}

fn frame(number: usize) -> Vec<u8> {
    let mut bytes = (number as u64).to_be_bytes().to_vec();
    bytes.extend((0..number % 100).map(|offset| (number + offset) as u8));
    bytes
}

/// What one run let out: frames as they were sent, with the time, and the counters at the end.
#[derive(Debug, PartialEq)]
struct Run {
    out: Vec<(Vec<u8>, Duration)>,
    came: Vec<Duration>,
    counters: Counters,
}

/// Drives a weather as the relay does: everything due goes on before the next frame comes.
fn run(seed: u64, conditions: &Conditions, bounds: Bounds, gaps: &[u64]) -> Run {
    let mut weather = Weather::new(seed, 0, conditions.clone(), bounds);
    let mut out = Vec::new();
    let mut came = Vec::new();
    let mut now = Duration::ZERO;
    let until = |weather: &mut Weather<Vec<u8>>, out: &mut Vec<_>, end: Duration, mut now: Duration| {
        while let Some(due) = weather.next_due().filter(|due| *due <= end) {
            now = due.max(now);
            let Delivery { frame, copies } = weather.deliver(now).expect("it was said to be due");
            out.extend(std::iter::repeat_n((frame, now), usize::from(copies)));
            check_balance(weather.counters());
        }
    };
    for (number, gap) in gaps.iter().enumerate() {
        let next = now + Duration::from_micros(*gap);
        until(&mut weather, &mut out, next, now);
        now = next;
        came.push(now);
        weather.take(frame(number), now);
        check_balance(weather.counters());
    }
    until(&mut weather, &mut out, END, now);
    assert_eq!(weather.next_due(), None, "nothing stays for ever");
    Run { out, came, counters: weather.counters() }
}

fn check_balance(counters: Counters) {
    let Counters { received, duplicated, delivered, lost, overflowed, queued, .. } = counters;
    assert_eq!(received + duplicated, delivered + lost + overflowed + queued, "{counters:?}");
}

fn number_of(frame: &[u8]) -> usize {
    let head = frame.first_chunk().expect("every frame begins with its number");
    usize::try_from(u64::from_be_bytes(*head)).expect("a small number")
}

proptest! {
    #[test]
    fn a_seed_repeats_its_weather(seed: u64, conditions in conditions(), gaps in gaps()) {
        let [first, second] = [(); 2].map(|()| run(seed, &conditions, Bounds::default(), &gaps));
        prop_assert_eq!(first, second);
    }

    #[test]
    fn nothing_is_invented_changed_early_or_for_ever_late(
        seed: u64, conditions in conditions(), gaps in gaps(), frames_max in 1..FRAMES,
    ) {
        let bounds = Bounds { frames_max, ..Bounds::default() };
        let Run { out, came, counters } = run(seed, &conditions, bounds, &gaps);
        let mut times: HashMap<usize, u64> = HashMap::new();
        let longest = conditions.delay + conditions.jitter + conditions.reorder_wait;
        for (bytes, at) in &out {
            let number = number_of(bytes);
            prop_assert_eq!(bytes, &frame(number), "bytes changed");
            *times.entry(number).or_default() += 1;
            prop_assert!(*at >= came[number] + conditions.delay || conditions.reorder != Chance::NEVER);
            prop_assert!(*at >= came[number]);
            // A frame that keeps its place may wait for the one in front of it, which drew more jitter; but that came
            // no later than this one.
            prop_assert!(*at <= came[number] + longest, "{number} came at {:?}, left at {at:?}", came[number]);
        }
        prop_assert!(times.values().all(|copies| (1..=2).contains(copies)));
        prop_assert_eq!(times.values().filter(|copies| **copies == 2).count() as u64, counters.duplicated);
        prop_assert_eq!(times.len() as u64 + counters.lost + counters.overflowed, gaps.len() as u64);
        prop_assert_eq!((counters.delivered, counters.queued), (out.len() as u64, 0));
    }

    #[test]
    fn order_is_kept_where_none_asked_to_break_it(seed: u64, asked in conditions(), gaps in gaps()) {
        let conditions = Conditions { reorder: Chance::NEVER, jitter_reorders: false, ..asked };
        let Run { out, counters, .. } = run(seed, &conditions, Bounds::default(), &gaps);
        prop_assert!(out.iter().map(|(bytes, _)| number_of(bytes)).is_sorted());
        prop_assert_eq!((counters.held_back, counters.reordered), (0, 0));
    }

    /// The count says what an observer of both ends sees.
    #[test]
    fn reordered_frames_are_those_behind_a_later_one(seed: u64, conditions in conditions(), gaps in gaps()) {
        let Run { out, counters, .. } = run(seed, &conditions, Bounds::default(), &gaps);
        let mut furthest = 0;
        let mut behind = std::collections::HashSet::new();
        for number in out.iter().map(|(bytes, _)| number_of(bytes)) {
            if number < furthest {
                behind.insert(number);
            }
            furthest = furthest.max(number);
        }
        prop_assert_eq!(counters.reordered, behind.len() as u64);
    }

    /// Loss, duplication and reordering happen as often as asked. Six standard deviations: a seed in 10^8 fails by chance.
    #[test]
    fn rates_are_as_asked(seed: u64, percent in 0.5..99.5_f64) {
        const MANY: u64 = 20_000;
        let chance = Chance::percent(percent).expect("within range");
        let rates = Conditions { loss: chance, duplicate: chance, reorder: chance, ..Conditions::default() };
        let mut weather = Weather::new(seed, 0, rates, Bounds { frames_max: usize::MAX, bytes_max: usize::MAX });
        for _ in 0..MANY {
            weather.take([0_u8], Duration::ZERO);
        }
        while weather.deliver(END).is_some() {}
        let counters = weather.counters();
        for (what, happened, of) in [
            ("lost", counters.lost, MANY),
            ("duplicated", counters.duplicated, MANY - counters.lost),
            ("held back", counters.held_back, MANY - counters.lost),
        ] {
            let (of, share) = (of as f64, chance.share());
            let allowed = 6.0 * (of * share * (1.0 - share)).sqrt() + 1.0;
            let off = (happened as f64 - of * share).abs();
            prop_assert!(off <= allowed, "{what}: {happened} of {of} at {chance}");
        }
    }
}
