//! Handoffs the kernel accepted and that never became sockets: something on the host swallows them.

use std::collections::VecDeque;

use crate::bpf::Counters;

/// How far back this looks, microseconds.
const WINDOW_US: u64 = 2_000_000;
/// How young a handoff may be and have no socket yet, microseconds: a server may be slow, a first segment delayed.
const GRACE_US: u64 = 1_000_000;
/// How many must be missing before it counts.
const MISSING_MIN: u64 = 3;
/// How long the backend stays closed the first time; then twice as long each time, up to [`CLOSED_US_MAX`].
const CLOSED_US: u64 = 5_000_000;
const CLOSED_US_MAX: u64 = 60_000_000;

/// What counts of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Births {
    /// Handoffs the kernel accepted.
    pub assigned: u64,
    /// Those that became sockets.
    pub born: u64,
    /// Those that had none when the client tried again.
    pub unborn: u64,
}

impl Births {
    /// Takes them from the counters.
    pub fn of(counters: &Counters) -> Self {
        Self {
            assigned: counters.value("assigned"),
            born: counters.value("born"),
            unborn: counters.value("unborn"),
        }
    }
}

/// Watches births, and closes the backend for a while when several handoffs are missing and none is born.
#[derive(Debug, Default)]
pub struct BirthWatch {
    seen: VecDeque<(u64, Births)>,
    closed_until_us: u64,
    closings: u32,
}

impl BirthWatch {
    /// Takes the counters at `now_us`; says whether the backend is to be closed. Call it several times a second.
    pub fn closed(&mut self, now_us: u64, births: Births) -> bool {
        self.seen.push_back((now_us, births));
        while self.seen.get(1).is_some_and(|(when, _)| when + WINDOW_US <= now_us) {
            self.seen.pop_front();
        }
        if now_us < self.closed_until_us {
            return true;
        }
        let Some((_, oldest)) = self.seen.front() else { return false };
        let due =
            self.seen.iter().rev().find(|(when, _)| when + GRACE_US <= now_us).map(|(_, births)| births);
        let born = births.born.saturating_sub(oldest.born);
        let unborn = births.unborn.saturating_sub(oldest.unborn);
        let overdue = due.map_or(0, |due| due.assigned.saturating_sub(oldest.assigned));
        if born > 0 {
            self.closings = 0;
            return false;
        }
        if unborn.max(overdue) < MISSING_MIN {
            return false;
        }
        let closed_us = (CLOSED_US << self.closings.min(8)).min(CLOSED_US_MAX);
        self.closed_until_us = now_us + closed_us;
        self.closings += 1;
        self.seen.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 250_000;

    /// Lets the watch see one step after the other; returns at which steps it closes.
    fn steps(watch: &mut BirthWatch, from: u64, births: impl Fn(u64) -> Births, count: u64) -> Vec<u64> {
        (from..from + count).filter(|step| watch.closed(step * STEP, births(*step))).collect()
    }

    #[test]
    fn traffic_that_is_born_never_closes() {
        let births = |step| Births { assigned: 10 * step, born: 9 * step, unborn: step };
        assert!(steps(&mut BirthWatch::default(), 0, births, 100).is_empty());
        assert!(steps(&mut BirthWatch::default(), 0, |_| Births::default(), 100).is_empty());
        // A few that never came, as servers that are reset before they answer leave them.
        let births = |step| Births { assigned: 2.min(step), ..Births::default() };
        assert!(steps(&mut BirthWatch::default(), 0, births, 100).is_empty());
    }

    #[test]
    fn swallowed_handoffs_close_after_the_grace() {
        let births = |step: u64| Births { assigned: 5 * step.saturating_sub(10), ..Births::default() };
        let closed = steps(&mut BirthWatch::default(), 0, births, 20);
        assert_eq!(closed.first(), Some(&15), "a second after the first ones at step 11");
        assert_eq!(closed.len(), 5, "and for the time being");
    }

    #[test]
    fn clients_that_try_again_close_it_sooner() {
        let births = |step: u64| Births { assigned: 3, born: 0, unborn: 3 * u64::from(step > 10) };
        assert_eq!(steps(&mut BirthWatch::default(), 0, births, 12).first(), Some(&11));
    }

    #[test]
    fn it_opens_again_and_closes_for_longer() {
        let mut watch = BirthWatch::default();
        let swallowed = |step| Births { assigned: 0, born: 0, unborn: 4 * step };
        let closed = steps(&mut watch, 0, swallowed, 400);
        let pauses: Vec<u64> = closed.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.iter().all(|pause| *pause <= 3), "opens only to see: {pauses:?}");
        let mut watch = BirthWatch::default();
        assert!(
            watch.closed(0, Births::default())
                || watch.closed(STEP, Births { unborn: 5, ..Births::default() })
        );
        assert!(watch.closed(CLOSED_US, Births { unborn: 5, ..Births::default() }));
        let open_us = STEP + CLOSED_US;
        assert!(!watch.closed(open_us, Births { unborn: 5, ..Births::default() }));
        assert!(watch.closed(open_us + STEP, Births { unborn: 9, ..Births::default() }));
        assert!(watch.closed(open_us + STEP + 2 * CLOSED_US - 1, Births { unborn: 9, ..Births::default() }));
        let open_us = open_us + STEP + 2 * CLOSED_US;
        assert!(!watch.closed(open_us, Births { unborn: 9, ..Births::default() }));
        // Births make it forget how often it closed.
        assert!(!watch.closed(open_us + STEP, Births { born: 1, unborn: 9, assigned: 1 }));
        assert_eq!(watch.closings, 0);
    }
}
