//! What an agent's report says of a backend's load, as policies take it.

use baton_core::policy;
use handoff_proto::Micros;
use handoff_proto::control::{AcceptQueue, Load};

/// Takes the load of a report that came `now`. What an agent cannot read counts as none.
pub(super) fn measured(load: &Load, now: Micros) -> policy::Load {
    policy::Load {
        reported: now,
        connections: load.established.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)),
        accept_queue_permille: load.accept_queue.map_or(0, AcceptQueue::permille),
        // The servers' own processors, where they have some.
        cpu_permille: load.server_cpu_permille.or(load.cpu_busy_permille).unwrap_or_default(),
        memory_permille: load.memory_pressure_permille.unwrap_or_default(),
        response: load.response.map(|response| Micros(response.mean_us.into())),
        bytes_per_s: load.rate.map_or(0, |rate| rate.bytes_per_s),
        packets_per_s: load.rate.map_or(0, |rate| rate.packets_per_s),
    }
}

#[cfg(test)]
mod tests {
    use handoff_proto::control::{Rate, Response};

    use super::*;

    const NOW: Micros = Micros::from_secs(7);

    #[test]
    fn every_reading_finds_its_place() {
        let load = Load {
            established: Some(5_000_000_000),
            accept_queue: Some(AcceptQueue { length: 64, limit: 128 }),
            server_cpu_permille: Some(250),
            cpu_busy_permille: Some(900),
            memory_pressure_permille: Some(10),
            response: Some(Response { mean_us: 1_500, count: 3 }),
            rate: Some(Rate { bytes_per_s: 70_000, packets_per_s: 80 }),
            ..Load::default()
        };
        let expected = policy::Load {
            reported: NOW,
            connections: u32::MAX,
            accept_queue_permille: 500,
            cpu_permille: 250,
            memory_permille: 10,
            response: Some(Micros(1_500)),
            bytes_per_s: 70_000,
            packets_per_s: 80,
        };
        assert_eq!(measured(&load, NOW), expected);
        let of_the_host = Load { server_cpu_permille: None, ..load };
        assert_eq!(measured(&of_the_host, NOW).cpu_permille, 900);
    }

    #[test]
    fn what_cannot_be_read_is_none_and_an_unanswered_server_has_no_response_time() {
        let nothing = policy::Load { reported: NOW, ..policy::Load::default() };
        assert_eq!(measured(&Load::default(), NOW), nothing);
    }
}
