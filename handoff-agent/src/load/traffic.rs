//! What the BPF programs counted at the VIPs, over the time between two reports.

use std::time::Instant;

use handoff_proto::Vip;
use handoff_proto::control::{Rate, Response, Traffic};

use crate::bpf::Maps;
use crate::bpf::abi;

/// What all VIPs together received, sent and answered.
pub(super) fn sum(maps: &Maps, vips: &[Vip]) -> Option<abi::Traffic> {
    let mut sum = abi::Traffic::default();
    for vip in vips {
        sum = sum.with(maps.traffic(*vip).ok()??);
    }
    Some(sum)
}

/// What came of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) traffic: Traffic,
    /// `None` if nothing was answered since the last reading.
    pub(super) response: Option<Response>,
    /// `None` without a last reading.
    pub(super) rate: Option<Rate>,
}

/// Remembers the last reading.
#[derive(Debug, Default)]
pub(super) struct TrafficMeter {
    last: Option<(Instant, abi::Traffic)>,
}

impl TrafficMeter {
    /// Takes what was counted up to `now`.
    pub(super) fn read(&mut self, now: Instant, counted: abi::Traffic) -> Measured {
        let last = self.last.replace((now, counted));
        let traffic = Traffic {
            bytes_in: counted.bytes_in,
            packets_in: counted.packets_in,
            bytes_out: counted.bytes_out,
            packets_out: counted.packets_out,
        };
        let since = |before: u64, now: u64| now.checked_sub(before);
        let rate = last.and_then(|(then, before)| {
            let time_us = now.duration_since(then).as_micros();
            let per_s = |count: u64| {
                let rate = (u128::from(count) * 1_000_000).checked_div(time_us)?;
                Some(u64::try_from(rate).unwrap_or(u64::MAX))
            };
            let bytes = since(before.bytes_in, counted.bytes_in)?
                .saturating_add(since(before.bytes_out, counted.bytes_out)?);
            let packets = since(before.packets_in, counted.packets_in)?
                .saturating_add(since(before.packets_out, counted.packets_out)?);
            Some(Rate { bytes_per_s: per_s(bytes)?, packets_per_s: per_s(packets)? })
        });
        let response = last.and_then(|(_, before)| {
            let count = since(before.answers, counted.answers)?;
            let mean_us = since(before.answer_us, counted.answer_us)?.checked_div(count)?;
            let limited = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
            Some(Response { mean_us: limited(mean_us), count: limited(count) })
        });
        Measured { traffic, response, rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_and_response_times_are_those_between_two_readings() {
        let start = Instant::now();
        let mut meter = TrafficMeter::default();
        let first = abi::Traffic { bytes_out: 7, answers: 3, answer_us: 999_999, ..abi::Traffic::default() };
        let measured = meter.read(start, first);
        assert_eq!((measured.response, measured.rate), (None, None), "of all time before, nothing is told");
        assert_eq!(measured.traffic, Traffic { bytes_out: 7, ..Traffic::default() });

        let counted = abi::Traffic {
            bytes_in: 1_000,
            packets_in: 10,
            bytes_out: 500_007,
            packets_out: 400,
            answers: 8,
            answer_us: 1_004_004,
        };
        let later = start + Duration::from_millis(100);
        let measured = meter.read(later, counted);
        assert_eq!(measured.rate, Some(Rate { bytes_per_s: 5_010_000, packets_per_s: 4_100 }));
        assert_eq!(
            measured.response,
            Some(Response { mean_us: 801, count: 5 }),
            "4,005 us over five answers"
        );
        // Nothing was answered: there is no mean, and that is not 0.
        let measured = meter.read(later + Duration::from_millis(100), counted);
        assert_eq!(measured.response, None);
        assert_eq!(measured.rate, Some(Rate { bytes_per_s: 0, packets_per_s: 0 }));
    }

    #[test]
    fn counters_that_begin_anew_tell_nothing_at_first() {
        let start = Instant::now();
        let mut meter = TrafficMeter::default();
        let full = abi::Traffic { bytes_in: 5, answers: 9, answer_us: 9, ..abi::Traffic::default() };
        meter.read(start, full);
        let afresh = meter.read(start + Duration::from_secs(1), abi::Traffic::default());
        assert_eq!((afresh.response, afresh.rate), (None, None));
        let at_once = meter.read(start + Duration::from_secs(1), full);
        assert_eq!(at_once.rate, None, "no time went by");
    }
}
