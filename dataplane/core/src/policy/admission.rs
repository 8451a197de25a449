//! Who is let in when there are too many: the lowest class is refused first, and guarantees are kept.

use handoff_proto::Micros;

use crate::ids::ClassIndex;
use crate::policy::{CLASSES_MAX, Class, Overload};

/// A pool that is as full as this has room for nobody.
pub const FULL_PERMILLE: u16 = 1_000;
/// What a guaranteed rate may save up, in its time: short bursts of a steady stream are no overrun. One request at least, where an
/// lcore's part of the rate is less than one in that time.
const BURST_NS: u64 = 1_000_000_000;

/// The gate of one lcore.
#[derive(Debug)]
pub struct Admission {
    gates: Vec<Gate>,
    lcore_count: u32,
}

#[derive(Clone, Copy, Debug)]
struct Gate {
    class: Class,
    /// From which fullness on the class is refused, in thousandths.
    refused_from: u16,
    /// When the guarantee is used up to, in the time that requests at exactly the guaranteed rate take; in nanoseconds, since a
    /// million a second and more take no whole microsecond each.
    spent_until_ns: u64,
}

impl Admission {
    /// Makes the gate of one of so many lcores, over which guaranteed rates are spread.
    pub fn new(lcore_count: u8) -> Self {
        Self { gates: Vec::new(), lcore_count: u32::from(lcore_count).max(1) }
    }

    /// Takes the classes in force. What of a guarantee is spent stays spent while the class is the same.
    pub fn set_classes(&mut self, classes: &[Class], overload: Overload) {
        let mut priorities: Vec<u8> = classes.iter().map(|class| class.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let begin = u32::from(overload.begin_permille.min(FULL_PERMILLE));
        let steps = u32::try_from(priorities.len().saturating_sub(1)).unwrap_or(0);
        let gates = classes.iter().take(CLASSES_MAX).enumerate().map(|(position, class)| {
            let step = priorities.iter().position(|known| *known == class.priority).unwrap_or(0);
            let step = u32::try_from(step).unwrap_or(0);
            let range = u32::from(FULL_PERMILLE) - begin;
            let refused_from = (range * step)
                .checked_div(steps)
                .map_or(FULL_PERMILLE, |above| u16::try_from(begin + above).unwrap_or(FULL_PERMILLE));
            let before = self.gates.get(position).filter(|gate| gate.class == *class);
            Gate { class: *class, refused_from, spent_until_ns: before.map_or(0, |gate| gate.spent_until_ns) }
        });
        self.gates = gates.collect();
    }

    /// Says whether a request of a class is let in to a pool that is so full, and takes it out of the class's guarantee.
    pub fn admit(&mut self, class: ClassIndex, fullness_permille: u16, now: Micros) -> bool {
        let lcore_count = self.lcore_count;
        let Some(gate) = self.gates.get_mut(usize::from(class.0)) else {
            return fullness_permille < FULL_PERMILLE;
        };
        let is_guaranteed = gate.spend(lcore_count, now);
        is_guaranteed || fullness_permille < gate.refused_from
    }

    /// Says what [`Admission::admit`] would say, and changes nothing.
    pub fn would_admit(&self, class: ClassIndex, fullness_permille: u16, now: Micros) -> bool {
        match self.gates.get(usize::from(class.0)) {
            Some(gate) => {
                let mut gate = *gate;
                gate.spend(self.lcore_count, now) || fullness_permille < gate.refused_from
            }
            None => fullness_permille < FULL_PERMILLE,
        }
    }
}

impl Gate {
    /// Takes a request out of the guarantee; says whether it was covered.
    fn spend(&mut self, lcore_count: u32, now: Micros) -> bool {
        let Some(rate) = self.class.rate_per_s.filter(|rate| *rate > 0) else { return false };
        let each_ns = 1_000_000_000 * u64::from(lcore_count) / u64::from(rate);
        // 64 bits of nanoseconds last until the year 2554.
        let now_ns = now.0.saturating_mul(1_000);
        let saved_up_ns = BURST_NS.max(each_ns);
        let spent_until_ns =
            self.spent_until_ns.max(now_ns.saturating_sub(saved_up_ns)).saturating_add(each_ns);
        if spent_until_ns > now_ns {
            return false;
        }
        self.spent_until_ns = spent_until_ns;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Micros = Micros::from_secs(43_200);

    fn class(priority: u8, rate_per_s: Option<u32>) -> Class {
        Class { priority, weight: 1, rate_per_s }
    }

    fn gate(classes: &[Class]) -> Admission {
        let mut admission = Admission::new(1);
        admission.set_classes(classes, Overload { begin_permille: 800 });
        admission
    }

    #[test]
    fn the_lowest_class_goes_first_and_the_highest_only_when_all_is_full() {
        let mut admission = gate(&[class(5, None), class(0, None), class(9, None)]);
        let mut let_in = |fullness| [0, 1, 2].map(|at| admission.admit(ClassIndex(at), fullness, NOON));
        assert_eq!(let_in(799), [true, true, true]);
        assert_eq!(let_in(800), [true, false, true]);
        assert_eq!(let_in(899), [true, false, true]);
        assert_eq!(let_in(900), [false, false, true]);
        assert_eq!(let_in(999), [false, false, true]);
        assert_eq!(let_in(1_000), [false, false, false]);
    }

    #[test]
    fn where_all_are_equal_nobody_is_refused_before_all_is_full() {
        let mut admission = gate(&[class(3, None), class(3, None)]);
        assert!(admission.admit(ClassIndex(0), 999, NOON) && admission.admit(ClassIndex(1), 999, NOON));
        assert!(!admission.admit(ClassIndex(0), 1_000, NOON));
        assert!(
            admission.admit(ClassIndex(9), 999, NOON),
            "a class that a newer configuration no longer has"
        );
    }

    #[test]
    fn a_guaranteed_rate_is_let_in_however_full_it_is_and_no_more_than_that() {
        let mut admission = gate(&[class(0, Some(100)), class(1, None)]);
        let guaranteed = |admission: &mut Admission, from: Micros, seconds: u64| {
            let times = (0..seconds * 1_000).map(|ms| from.plus(Micros::from_millis(ms)));
            times.filter(|now| admission.admit(ClassIndex(0), 1_000, *now)).count()
        };
        // Asked a thousand times a second for ten seconds; the burst of the first second comes on top.
        let count = guaranteed(&mut admission, NOON, 10);
        assert!((1_000..=1_101).contains(&count), "{count}");
        // What was let in while there was room counts, too: a rate is a rate.
        let later = NOON.plus(Micros::from_secs(100));
        let free = (0..300).filter(|_| admission.admit(ClassIndex(0), 0, later)).count();
        assert_eq!(free, 300);
        assert!(!admission.admit(ClassIndex(0), 1_000, later), "the guarantee is spent");
    }

    #[test]
    fn a_guarantee_of_millions_a_second_is_bounded_too() {
        let mut admission = gate(&[class(0, Some(4_000_000)), class(1, None)]);
        let mut let_in = |now: Micros, most: usize| {
            (0..most).take_while(|_| admission.admit(ClassIndex(0), 1_000, now)).count()
        };
        assert_eq!(let_in(NOON, 5_000_000), 4_000_000, "what may be saved up");
        let count: usize = (1..=2_000).map(|us| let_in(NOON.plus(Micros(us)), 10)).sum();
        assert_eq!(count, 8_000, "four in a microsecond");
    }

    #[test]
    fn asking_whether_one_would_be_let_in_spends_nothing() {
        let mut admission = gate(&[class(0, Some(1)), class(1, None)]);
        for _ in 0..5 {
            assert!(admission.would_admit(ClassIndex(0), 1_000, NOON));
        }
        assert!(admission.admit(ClassIndex(0), 1_000, NOON));
        assert!(!admission.would_admit(ClassIndex(0), 1_000, NOON));
    }

    #[test]
    fn a_guarantee_is_spread_over_the_lcores() {
        let mut admission = Admission::new(4);
        admission.set_classes(&[class(0, Some(100)), class(1, None)], Overload::default());
        let times = (1_000..11_000).map(|ms| NOON.plus(Micros::from_millis(ms)));
        let count = times.filter(|now| admission.admit(ClassIndex(0), 1_000, *now)).count();
        assert!((249..=276).contains(&count), "{count}");
    }

    #[test]
    fn a_guarantee_smaller_than_the_number_of_lcores_is_kept_too() {
        let mut admission = Admission::new(4);
        admission.set_classes(&[class(0, Some(1)), class(1, None)], Overload::default());
        let times = (0..40_000).map(|ms| NOON.plus(Micros::from_millis(ms)));
        let count = times.filter(|now| admission.admit(ClassIndex(0), 1_000, *now)).count();
        assert_eq!(count, 10, "one in four seconds at each of four lcores");
    }
}
