//! What can be said of a world: for the oracle, and for reports.

use std::collections::BTreeMap;

use handoff_proto::Micros;

use super::{Appointment, START, World, WrongReset};
use crate::addresses;
use crate::fault::Fault;
use crate::machine::Machine;
use crate::packet::{self, Segment};

impl World {
    /// A connection whose client has read bytes of a server that still has it is none of the switch's to end.
    pub(super) fn judge_reset(&mut self, frame: &[u8]) {
        let Some(segment) = packet::ipv4_of(frame).and_then(Segment::read) else { return };
        if !segment.tcp.rst() || segment.source != addresses::VIP {
            return;
        }
        let tuple = segment.tuple_from_vip();
        let is_served = self.backends.iter().enumerate().any(|(number, backend)| {
            !self.has_had_fatal_fault(number)
                && backend.socket(&tuple).is_some_and(|socket| !socket.server().written.is_empty())
        });
        let host = addresses::client_of(segment.destination.0);
        let is_read = self.clients.values().any(|client| {
            Some(client.script.host) == host
                && client.script.port == segment.destination.1
                && client.outcome.is_none()
                && !client.read.is_empty()
        });
        if is_served && is_read {
            self.wrong_resets.push(WrongReset { tuple, at: self.now });
        }
    }

    /// Counts something that happened in the world itself.
    pub(super) fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    pub(super) fn has_open_connections(&self) -> bool {
        self.clients.values().any(|client| client.outcome.is_none())
    }

    /// Says whether a fault that ends connections has met a backend by now.
    #[must_use]
    pub fn has_had_fatal_fault(&self, backend: usize) -> bool {
        self.has_happened(|fault| fault.backend() == Some(backend) && fault.may_end_connections())
    }

    /// Says whether a backend has lost power by now.
    #[must_use]
    pub fn has_lost_power(&self, backend: usize) -> bool {
        self.has_happened(|fault| fault == Fault::PowerLost(backend))
    }

    /// Says whether any fault has met a backend by now.
    #[must_use]
    pub fn has_had_fault(&self, backend: usize) -> bool {
        self.has_happened(|fault| fault.backend() == Some(backend))
    }

    fn has_happened(&self, is_meant: impl Fn(Fault) -> bool) -> bool {
        self.plan.faults.iter().any(|timed| is_meant(timed.fault) && START.plus(timed.at) <= self.now)
    }

    /// Says whether anything is still to come that the plan has in store: faults, connections, frames that come again.
    #[must_use]
    pub fn expects_anything(&self) -> bool {
        self.agenda.values().any(|appointment| {
            matches!(
                appointment,
                Appointment::Opens(_)
                    | Appointment::Goes(_)
                    | Appointment::ComesAgain(..)
                    | Appointment::SomebodyForges
            )
        })
    }

    /// When the last fault is over.
    #[must_use]
    pub fn calm_since(&self) -> Micros {
        START.plus(self.plan.faults.iter().map(|timed| timed.at).max().unwrap_or(Micros(0)))
    }

    /// Flows of the switch.
    #[must_use]
    pub fn flow_count(&self) -> usize {
        self.machine.as_ref().map_or(0, Machine::flow_count)
    }

    /// Connections that the switch counts at its backends.
    #[must_use]
    pub fn counted_connections(&self) -> u64 {
        self.machine.as_ref().map_or(0, Machine::counted_connections)
    }

    /// Heads and error pages that the switch keeps.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.machine.as_ref().map_or(0, Machine::held_count)
    }

    /// Says whether nothing is left of any connection, at the switch or at a backend.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.flow_count() == 0
            && self.held_count() == 0
            && self.counted_connections() == 0
            && self.backends.iter().all(|backend| backend.sockets().next().is_none())
    }

    /// The switch's flows, as text.
    #[must_use]
    pub fn flows_told(&self) -> String {
        let flows = self.machine.iter().flat_map(Machine::flows);
        flows.map(|flow| format!("{} {:?}", flow.tuple, flow.state)).collect::<Vec<_>>().join(", ")
    }

    /// Frames that went round the lcores without end.
    #[must_use]
    pub fn circles(&self) -> u64 {
        self.past_circles + self.machine.as_ref().map_or(0, |machine| machine.circles)
    }

    /// What all lives of the switch, the backends and the cables counted, by name.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        let present = self.machine.iter().flat_map(Machine::counts);
        let past = self.past_counts.iter().map(|(name, count)| (*name, *count));
        for (name, count) in present.chain(past) {
            *counts.entry(format!("switch_{name}")).or_default() += count;
        }
        for (name, count) in &self.happened {
            *counts.entry(format!("world_{name}")).or_default() += count;
        }
        for backend in &self.backends {
            for (name, count) in &backend.counts {
                *counts.entry(format!("backend_{name}")).or_default() += count;
            }
        }
        for link in &self.links {
            let weather = link.counters();
            let told = [
                ("received", weather.received),
                ("lost", weather.lost),
                ("duplicated", weather.duplicated),
                ("reordered", weather.reordered),
                ("corrupted", weather.corrupted),
                ("overflowed", weather.overflowed),
                ("too_long", link.too_long),
                ("cut", link.cut),
            ];
            for (name, count) in told {
                *counts.entry(format!("link_{name}")).or_default() += count;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{TcpControl, TcpRepr};

    use crate::addresses::{self, mac};
    use crate::client::script::Ending;
    use crate::packet;
    use crate::scenario;
    use crate::world::World;

    /// A RST of the switch to the client of a connection, as far as the oracle looks.
    fn reset(client: usize, port: u16) -> Vec<u8> {
        let segment = TcpRepr {
            src_port: addresses::VIP.1,
            dst_port: port,
            control: TcpControl::Rst,
            seq_number: smoltcp::wire::TcpSeqNumber(1),
            ack_number: None,
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let packet = packet::tcp(&segment, addresses::VIP.0, addresses::client(client));
        packet::ethernet(mac::SWITCH, mac::client(client), &packet)
    }

    #[test]
    fn a_reset_is_wrong_while_the_client_reads_from_a_server_that_has_it() {
        let calm = scenario::named("calm").expect("there is calm");
        let mut world = World::new(calm.plan(2), 2, None);
        let is_reading = |world: &World| {
            world.clients.values().find_map(|client| {
                let reads = client.outcome.is_none() && !client.read.is_empty();
                (reads && client.script.ending != Ending::Nothing)
                    .then_some((client.script.host, client.script.port))
            })
        };
        assert!(world.run_until(super::START.plus(handoff_proto::Micros::from_secs(60)), |world| {
            is_reading(world).is_some()
        }));
        let (host, port) = is_reading(&world).expect("just seen");
        world.judge_reset(&reset(host, port + 1));
        assert!(world.wrong_resets.is_empty(), "nobody is there");
        world.judge_reset(&reset(host, port));
        assert_eq!(world.wrong_resets.len(), 1);
    }
}
