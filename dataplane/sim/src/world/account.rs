//! What can be said of a world: for the oracle, and for reports.

use std::collections::BTreeMap;

use handoff_proto::Micros;

use super::{Appointment, START, World, WrongReset};
use crate::addresses;
use crate::backend::server::Server;
use crate::client::Client;
use crate::control;
use crate::fault::Fault;
use crate::machine::Machine;
use crate::packet::{self, Segment};

/// How long after a cable was mended the switch may still act on what it could not learn meanwhile.
const AFTER_A_CUT: Micros = Micros::from_secs(3);

impl World {
    /// A connection whose client has read bytes of a server that still has it is none of the switch's to end.
    pub(super) fn judge_reset(&mut self, frame: &[u8]) {
        let Some(segment) = packet::ipv4_of(frame).and_then(Segment::read) else { return };
        if !segment.tcp.rst() || segment.source != addresses::VIP {
            return;
        }
        let tuple = segment.tuple_from_vip();
        let is_served = self.backends.iter().enumerate().any(|(number, backend)| {
            // What lost its power has its sockets no more: only a cable can be cut in front of a socket that is well.
            let since = Micros(self.now.0.saturating_sub(AFTER_A_CUT.0));
            !self.suffered(since, self.now, |fault| fault == Fault::BackendCut(number))
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

    /// Says whether a fault was there at any time between two: from when it came to when it was put right.
    #[must_use]
    pub fn suffered(&self, from: Micros, to: Micros, is_meant: impl Fn(Fault) -> bool) -> bool {
        let faults = &self.plan.faults;
        faults.iter().filter(|timed| is_meant(timed.fault)).any(|timed| {
            let ends = faults.iter().filter(|end| end.at >= timed.at && end.fault.ends(timed.fault));
            let end = if timed.fault.is_to_be_ended() {
                ends.map(|end| START.plus(end.at)).min().unwrap_or(Micros(u64::MAX))
            } else {
                START.plus(timed.at)
            };
            START.plus(timed.at) <= to && end >= from
        })
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

    /// What came of faults that only show in who was served when and where.
    fn effects(&self) -> [(&'static str, u64); 5] {
        let [
            mut by_new_rules,
            mut under_old_cookie,
            mut under_new_cookie,
            mut without_old_key,
            mut after_start,
        ] = [0; 5];
        let promoted = self.last(|fault| fault == Fault::KeyPromoted);
        let retired = self.last(|fault| fault == Fault::KeyRetired);
        let started = self.last(|fault| matches!(fault, Fault::SwitchStarted(_)));
        for (backend, created, server) in self.served() {
            // Whose request this was, the request itself says.
            let asked = server.ran.first().map(|ran| ran.connection);
            let Some(client) = self.clients.values().find(|client| Some(client.script.number) == asked)
            else {
                continue;
            };
            let is_after = |fault: Option<Micros>| fault.is_some_and(|at| created > at);
            by_new_rules += u64::from(self.is_new_way(client, backend, created));
            let connected = client.connected.unwrap_or(created);
            under_old_cookie += u64::from(is_after(promoted) && promoted.is_some_and(|at| connected < at));
            under_new_cookie += u64::from(promoted.is_some_and(|at| client.script.start > at));
            without_old_key += u64::from(is_after(retired));
            after_start += u64::from(started.is_some_and(|at| client.script.start > at));
        }
        [
            ("served_by_new_rules", by_new_rules),
            ("served_under_old_cookie", under_old_cookie),
            ("served_under_new_cookie", under_new_cookie),
            ("served_without_old_key", without_old_key),
            ("served_after_restart", after_start),
        ]
    }

    fn last(&self, is_meant: impl Fn(Fault) -> bool) -> Option<Micros> {
        let meant = self.plan.faults.iter().filter(|timed| is_meant(timed.fault));
        meant.map(|timed| START.plus(timed.at)).max().filter(|at| *at <= self.now)
    }

    /// Says whether the rules in force sent a connection where those before them would not have.
    fn is_new_way(&self, client: &Client, backend: usize, created: Micros) -> bool {
        let Some(request) = client.script.requests.first() else { return false };
        let path = request.path(client.script.number, 0);
        let Some(now) = self.in_force.iter().rposition(|rules| rules.since <= created) else { return false };
        let leads = |at: usize| control::backends_for(self.in_force[at].rules, &path).contains(&backend);
        now > 0 && leads(now) && !leads(now - 1)
    }

    /// Everything that any server of the world did: at which backend, since when.
    fn served(&self) -> impl Iterator<Item = (usize, Micros, &Server)> {
        self.backends.iter().enumerate().flat_map(|(number, backend)| {
            let ended = backend.ended.iter().map(|ended| (ended.created, &ended.server));
            let present = backend.sockets().map(|(_, socket)| (socket.created(), socket.server()));
            ended.chain(present).map(move |(created, server)| (number, created, server))
        })
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
        for (name, count) in self.effects() {
            counts.insert(format!("world_{name}"), count);
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
    use handoff_proto::Micros;
    use smoltcp::wire::{TcpControl, TcpRepr};

    use super::START;
    use crate::addresses::{self, mac};
    use crate::client::script::Ending;
    use crate::fault::{Fault, Timed};
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
        assert!(world.run_until(START.plus(Micros::from_secs(60)), |world| { is_reading(world).is_some() }));
        let (host, port) = is_reading(&world).expect("just seen");
        world.judge_reset(&reset(host, port + 1));
        assert!(world.wrong_resets.is_empty(), "nobody is there");
        world.judge_reset(&reset(host, port));
        assert_eq!(world.wrong_resets.len(), 1);

        world.now = world.now.plus(Micros::from_secs(60));
        // A cut that has been mended for long excuses nothing; one that is there does.
        let cut_until = |world: &mut World, end: u64| {
            let ago = |at: u64| Micros((world.now.since(START).0).saturating_sub(at));
            let faults = (0..addresses::BACKEND_COUNT).flat_map(|backend| {
                [
                    Timed { at: Micros(0), fault: Fault::BackendCut(backend) },
                    Timed { at: ago(end), fault: Fault::BackendMended(backend) },
                ]
            });
            world.plan.faults = faults.collect();
            world.judge_reset(&reset(host, port));
            world.wrong_resets.len()
        };
        assert_eq!(cut_until(&mut world, 2 * super::AFTER_A_CUT.0), 2);
        assert_eq!(cut_until(&mut world, 0), 2);
    }

    #[test]
    fn a_fault_is_there_until_it_is_put_right() {
        let calm = scenario::named("calm").expect("there is calm");
        let mut world = World::new(calm.plan(2), 2, None);
        let at = Micros::from_secs;
        world.plan.faults = vec![
            Timed { at: at(3), fault: Fault::BackendCut(1) },
            Timed { at: at(4), fault: Fault::BackendMended(0) },
            Timed { at: at(5), fault: Fault::BackendMended(1) },
            Timed { at: at(8), fault: Fault::PowerLost(1) },
        ];
        let suffered = |from, to| {
            world.suffered(START.plus(at(from)), START.plus(at(to)), |fault| fault.backend() == Some(1))
        };
        let spans = [(1, 2), (1, 3), (4, 4), (5, 6), (6, 7), (7, 8), (9, 20)];
        assert_eq!(spans.map(|(from, to)| suffered(from, to)), [false, true, true, true, false, true, false]);
    }
}
