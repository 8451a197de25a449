//! The switch's clock, estimated from answers to reports.

use std::collections::VecDeque;

use handoff_proto::Micros;

/// How many exchanges are remembered: the quickest of them decides, and after as many the oldest is forgotten, so that
/// drift shows.
const SAMPLES: usize = 16;

/// One exchange.
#[derive(Clone, Copy, Debug)]
struct Sample {
    round_trip_us: u64,
    offset_us: i64,
}

/// Estimates the switch's clock less our monotonic one. The error is at most half of the quickest round trip, plus what
/// the clocks drift apart in sixteen exchanges.
#[derive(Clone, Debug, Default)]
pub struct ClockEstimate {
    samples: VecDeque<Sample>,
}

impl ClockEstimate {
    /// Takes an exchange: when the question left and the answer came by our clock, and the switch's time in between.
    /// Returns the estimate.
    pub fn add(&mut self, asked_us: u64, answered_us: u64, switch: Micros) -> i64 {
        let round_trip_us = answered_us.saturating_sub(asked_us);
        let between = asked_us.saturating_add(round_trip_us / 2);
        let sample = Sample { round_trip_us, offset_us: switch.0.wrapping_sub(between).cast_signed() };
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        self.samples.iter().min_by_key(|sample| sample.round_trip_us).map_or(0, |best| best.offset_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_exchange_decides() {
        let mut clock = ClockEstimate::default();
        assert_eq!(clock.add(1_000, 1_200, Micros(51_100)), 50_000);
        // A slow one, whose answer waited: half of the round trip is a bad guess for it.
        assert_eq!(clock.add(2_000, 12_000, Micros(52_100)), 50_000);
        assert_eq!(clock.add(3_000, 3_100, Micros(53_060)), 50_010);
    }

    #[test]
    fn a_clock_that_drifts_is_followed() {
        let mut clock = ClockEstimate::default();
        clock.add(0, 2, Micros(1));
        let mut last = 0;
        for step in 1..=20u64 {
            last = clock.add(step * 100, step * 100 + 10, Micros(step * 101 + 5));
        }
        assert!((4..=20).contains(&last), "{last}");
    }

    #[test]
    fn a_switch_behind_us_and_clocks_that_make_no_sense_do_not_overflow() {
        let mut clock = ClockEstimate::default();
        assert_eq!(clock.add(1_000, 1_000, Micros(0)), -1_000);
        clock.add(u64::MAX, 0, Micros(u64::MAX));
    }
}
