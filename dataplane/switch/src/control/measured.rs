//! What an agent's report says of a backend's load, as policies take it.

use baton_core::policy;
use handoff_proto::Micros;
use handoff_proto::control::{AcceptQueue, Load};

/// Makes of a report that came `now` what policies take. What an agent cannot measure counts as nothing to do; of the processors
/// those of the servers' control group count, or else the host's.
pub(super) fn load_of(report: &Load, now: Micros) -> policy::Load {
    policy::Load {
        reported: now,
        connections: u32::try_from(report.established.unwrap_or(0)).unwrap_or(u32::MAX),
        accept_queue_permille: report.accept_queue.map_or(0, fullness),
        cpu_permille: report.server_cpu_permille.or(report.cpu_busy_permille).unwrap_or(0),
        memory_permille: report.memory_pressure_permille.unwrap_or(0),
        response: report.response.map(|response| Micros(response.mean_us.into())),
        bytes_per_s: report.rate.map_or(0, |rate| rate.bytes_per_s),
        packets_per_s: report.rate.map_or(0, |rate| rate.packets_per_s),
    }
}

/// Returns how full an accept queue is, in thousandths.
fn fullness(queue: AcceptQueue) -> u16 {
    let AcceptQueue { length, limit } = queue;
    let share = u64::from(length) * 1_000 / u64::from(limit.max(1));
    u16::try_from(share.min(1_000)).unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use handoff_proto::control::{Rate, Response};

    use super::*;

    const NOW: Micros = Micros::from_millis(1_000);

    #[test]
    fn what_was_measured_is_taken_and_what_was_not_counts_as_nothing_to_do() {
        let report = Load {
            established: Some(7),
            accept_queue: Some(AcceptQueue { length: 128, limit: 511 }),
            server_cpu_permille: Some(900),
            cpu_busy_permille: Some(250),
            memory_pressure_permille: Some(12),
            response: Some(Response { mean_us: 1_500, count: 3 }),
            rate: Some(Rate { bytes_per_s: 10_000, packets_per_s: 20 }),
            ..Load::default()
        };
        let expected = policy::Load {
            reported: NOW,
            connections: 7,
            accept_queue_permille: 250,
            cpu_permille: 900,
            memory_permille: 12,
            response: Some(Micros(1_500)),
            bytes_per_s: 10_000,
            packets_per_s: 20,
        };
        assert_eq!(load_of(&report, NOW), expected);
        assert_eq!(load_of(&Load::default(), NOW), policy::Load { reported: NOW, ..policy::Load::default() });
        let host_only = Load { cpu_busy_permille: Some(250), ..Load::default() };
        assert_eq!(load_of(&host_only, NOW).cpu_permille, 250);
    }

    #[test]
    fn a_queue_that_runs_over_or_takes_nobody_is_full() {
        for (length, limit, permille) in
            [(0, 0, 0), (1, 0, 1_000), (600, 511, 1_000), (u32::MAX, u32::MAX, 1_000)]
        {
            assert_eq!(fullness(AcceptQueue { length, limit }), permille);
        }
    }
}
