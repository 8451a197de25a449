//! Faults happen: what each of them does to the world.

use std::sync::Arc;

use baton_core::Snapshot;
use handoff_proto::Micros;

use super::{Appointment, InForce, World};
use crate::addresses;
use crate::control::{Control, key_ring};
use crate::fault::Fault;
use crate::link::{End, Link};

impl World {
    pub(super) fn suffer(&mut self, fault: Fault) {
        self.count("faults");
        match fault {
            Fault::AgentGone(backend) => self.agents[backend] = false,
            Fault::AgentBack(backend) => self.agents[backend] = true,
            Fault::BackendCut(backend) => self.cable_of(backend).set_cut(true),
            Fault::BackendMended(backend) => self.cable_of(backend).set_cut(false),
            Fault::PowerLost(backend) => {
                if self.backends[backend].sockets().next().is_some() {
                    self.count("sockets_lost");
                }
                self.backends[backend].lose_power(self.now);
            }
            Fault::ListenerGone(backend) => self.backends[backend].listens = false,
            Fault::ListenerBack(backend) => self.backends[backend].listens = true,
            Fault::QueueFull(backend) => self.backends[backend].is_crowded = true,
            Fault::QueueDrained(backend) => self.backends[backend].is_crowded = false,
            Fault::SwitchKilled => self.kill_switch(),
            Fault::SwitchStalled(span) => {
                self.stalled_until = self.now.plus(span);
                self.next_turn = self.stalled_until;
            }
            Fault::SwitchStarted(jump) => {
                self.clock_ahead = self.clock_ahead.plus(jump);
                self.control =
                    Control::new(self.control.rules(), self.plan.policy.clone(), key_ring(&self.keys));
                self.start_switch();
            }
            Fault::RulesChanged(rules) => {
                self.control.set_rules(rules);
                self.in_force.push(InForce { since: self.now, rules });
                self.publish();
            }
            Fault::KeyAdded => self.turn_keys(vec![3, 4]),
            Fault::KeyPromoted => self.turn_keys(vec![4, 3]),
            Fault::KeyRetired => self.turn_keys(vec![4]),
            Fault::ControlDelayed(delay) => self.control_delay = delay,
            Fault::ClockMisread(backend, by) => {
                let wrong = Micros(self.switch_clock().0.wrapping_add_signed(by));
                self.backends[backend].hear_time(wrong, self.now);
            }
        }
    }

    fn cable_of(&mut self, backend: usize) -> &mut Link {
        let (link, _) = self.cables[&End::Backend(backend)];
        &mut self.links[link]
    }

    fn turn_keys(&mut self, keys: Vec<u8>) {
        self.control.set_keys(key_ring(&keys));
        for backend in 0..addresses::BACKEND_COUNT {
            let at = self.now.plus(self.control_delay);
            self.make(at, Appointment::KeysReach(backend, keys.clone()));
        }
        self.keys = keys;
        self.publish();
    }

    fn publish(&mut self) {
        let snapshot = self.control.snapshot(self.now);
        self.apply(&snapshot);
    }

    pub(super) fn apply(&mut self, snapshot: &Arc<Snapshot>) {
        let clock = self.switch_clock();
        if let Some(machine) = &mut self.machine {
            machine.apply(snapshot, clock);
        }
    }

    fn kill_switch(&mut self) {
        self.backlog.clear();
        if self.flow_count() > 0 {
            self.count("flows_lost");
        }
        if let Some(machine) = self.machine.take() {
            self.past_circles += machine.circles;
            for (name, count) in machine.counts() {
                *self.past_counts.entry(name).or_default() += count;
            }
        }
    }
}
