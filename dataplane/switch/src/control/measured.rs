//! What an agent's report says of a backend's load, as policies take it.

use baton_core::policy;
use handoff_proto::Micros;
use handoff_proto::control::{AcceptQueue, Load};

/// Makes of a report that came `now` what policies take. `None` where its agent could not tell the connections or the traffic: a
/// backend of which that is not known must not look like one that has nothing to do, and policies go on without its report. An
/// agent's first report has no traffic, which is told from one report to the next.
///
/// Of the processors those of the servers' control group count, or else the host's. A share that cannot be told (processors,
/// memory, a queue nobody listens at) stands at 0: policies go by the fullest of the shares there are.
pub(super) fn load_of(report: &Load, now: Micros) -> Option<policy::Load> {
    let (connections, rate) = (report.established?, report.rate?);
    Some(policy::Load {
        reported: now,
        connections: u32::try_from(connections).unwrap_or(u32::MAX),
        accept_queue_permille: report.accept_queue.map_or(0, AcceptQueue::permille),
        cpu_permille: report.server_cpu_permille.or(report.cpu_busy_permille).unwrap_or(0),
        memory_permille: report.memory_pressure_permille.unwrap_or(0),
        response: report.response.map(|response| Micros(response.mean_us.into())),
        bytes_per_s: rate.bytes_per_s,
        packets_per_s: rate.packets_per_s,
    })
}

#[cfg(test)]
mod tests {
    use handoff_proto::control::{Rate, Response};

    use super::*;

    const NOW: Micros = Micros::from_millis(1_000);

    /// The least that is a report to policies.
    fn least() -> Load {
        let rate = Rate { bytes_per_s: 10_000, packets_per_s: 20 };
        Load { established: Some(7), rate: Some(rate), ..Load::default() }
    }

    #[test]
    fn what_was_measured_is_taken() {
        let report = Load {
            accept_queue: Some(AcceptQueue { length: 128, limit: 511 }),
            server_cpu_permille: Some(900),
            cpu_busy_permille: Some(250),
            memory_pressure_permille: Some(12),
            response: Some(Response { mean_us: 1_500, count: 3 }),
            ..least()
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
        assert_eq!(load_of(&report, NOW), Some(expected));
        let host_only = Load { cpu_busy_permille: Some(250), ..least() };
        assert_eq!(load_of(&host_only, NOW).map(|load| load.cpu_permille), Some(250));
    }

    #[test]
    fn without_connections_or_traffic_it_is_no_report() {
        assert!(load_of(&least(), NOW).is_some());
        for lacking in [Load { established: None, ..least() }, Load { rate: None, ..least() }] {
            assert_eq!(load_of(&lacking, NOW), None, "{lacking:?}");
        }
    }
}
