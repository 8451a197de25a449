//! What a member's requests cost on average, as far as that can be known: a switch that sees one way only does not see how large
//! an answer is. Agents report the traffic of their host; divided by the requests it was given, and compared with the pool,
//! that says whose requests are large.

use crate::policy::Load;

/// What members' requests cost on average.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    members: Box<[Member]>,
    interval: u64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// Requests it was given while its reports were fresh.
    requests: u64,
    /// The bytes per second reported at each of them, summed.
    reported: u64,
    /// What one of its requests costs, in thousandths of the pool's average.
    factor: u64,
}

/// The average.
const AVERAGE: u64 = 1000;
/// How far a member may be from it. A subtree's requests are never taken for more different than that.
const FACTORS: (u64, u64) = (250, 4000);

impl Member {
    /// Bytes per second, on average over the requests.
    fn bytes_per_s(&self) -> u64 {
        self.reported.checked_div(self.requests).unwrap_or(0)
    }
}

impl Traffic {
    pub(super) fn new(members: usize) -> Self {
        let member = Member { requests: 0, reported: 0, factor: AVERAGE };
        Self { members: vec![member; members].into(), interval: 0 }
    }

    /// Returns what a request of a member costs, in thousandths of the average.
    pub(super) fn factor(&self, member: usize) -> u64 {
        self.members.get(member).map_or(AVERAGE, |member| member.factor)
    }

    /// Notes a request, and what its member reports.
    pub(super) fn add(&mut self, member: usize, load: &Load, interval: u64) {
        if interval != self.interval {
            self.interval = interval;
            self.take_stock();
        }
        if let Some(member) = self.members.get_mut(member) {
            member.requests += 1;
            member.reported = member.reported.saturating_add(load.bytes_per_s);
        }
    }

    /// Compares the members. What was noted so far then counts half.
    fn take_stock(&mut self) {
        let sum = |of: fn(&Member) -> u64| {
            self.members.iter().fold(0_u128, |sum, member| sum + u128::from(of(member)))
        };
        let (bytes, requests) = (sum(Member::bytes_per_s), sum(|member| member.requests));
        for member in &mut self.members {
            let here = u128::from(member.bytes_per_s()) * requests;
            let average = bytes * u128::from(member.requests);
            let factor = (here * u128::from(AVERAGE)).checked_div(average).unwrap_or(u128::from(AVERAGE));
            member.factor = u64::try_from(factor).unwrap_or(u64::MAX).clamp(FACTORS.0, FACTORS.1);
            member.requests /= 2;
            member.reported /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_members_with_more_traffic_per_request_cost_more() {
        let mut traffic = Traffic::new(3);
        let load = |bytes_per_s| Load { bytes_per_s, ..Load::default() };
        for _ in 0..100 {
            // As many requests, 1 MB/s and 3 MB/s: half and three halves of the average. The third is never asked.
            traffic.add(0, &load(1_000_000), 7);
            traffic.add(1, &load(3_000_000), 7);
        }
        assert_eq!([0, 1, 2].map(|member| traffic.factor(member)), [AVERAGE; 3], "nothing is known yet");
        traffic.add(0, &load(1_000_000), 8);
        assert_eq!([0, 1, 2].map(|member| traffic.factor(member)), [500, 1500, AVERAGE]);
        // The same traffic from a third of the requests: each is three times as large. 90 and 30 of 120, 1 MB/s each:
        // (1/90) / (2/120) and (1/30) / (2/120).
        let mut traffic = Traffic::new(2);
        for number in 0..120 {
            traffic.add(usize::from(number % 4 == 0), &load(1_000_000), 1);
        }
        traffic.add(0, &load(1_000_000), 2);
        assert_eq!([0, 1].map(|member| traffic.factor(member)), [666, 2000]);
    }

    #[test]
    fn nonsense_is_bounded() {
        let mut traffic = Traffic::new(2);
        for bytes_per_s in [u64::MAX; 3] {
            traffic.add(0, &Load { bytes_per_s, ..Load::default() }, 1);
        }
        traffic.add(1, &Load::default(), 1);
        traffic.add(1, &Load::default(), 2);
        assert_eq!(traffic.factor(1), FACTORS.0);
        assert!(traffic.factor(0) <= FACTORS.1);
    }
}
