//! What is between the hosts: cables, the fabric that bridges them, and what arrives where.

use std::sync::PoisonError;

use baton_weather::Conditions;
use handoff_proto::{HANDOFF_PORT, Micros};

use super::{Appointment, Replays, World};
use crate::addresses::{self, mac};
use crate::link::{End, FabricPort, Link};
use crate::packet::{self, Bytes, Segment};

/// Frames that wait in the NIC while the switch does nothing.
const RING_FRAMES: usize = 512;

impl World {
    pub(super) fn lay_cables(&mut self, seed: u64) {
        let mut cables: Vec<([End; 2], Conditions, u16)> = Vec::new();
        let inside = self.plan.inside.clone();
        for (host, mtu) in self.plan.client_mtus.iter().enumerate() {
            cables.push(([End::Client(host), End::RouterToClient(host)], self.plan.outside.clone(), *mtu));
        }
        for (end, port) in [(End::Switch, FabricPort::Switch), (End::RouterToFabric, FabricPort::Router)] {
            cables.push(([end, End::Fabric(port)], inside.clone(), addresses::FABRIC_MTU));
        }
        for number in 0..addresses::BACKEND_COUNT {
            let other = if number == addresses::ROUTED_BACKEND {
                End::RouterToBackend(number)
            } else {
                End::Fabric(FabricPort::Backend(number))
            };
            let conditions = self.plan.at_backends.clone();
            cables.push(([End::Backend(number), other], conditions, addresses::FABRIC_MTU));
        }
        for (number, (ends, conditions, mtu)) in (0..).zip(cables) {
            let link = Link::new(ends, &conditions, usize::from(mtu), seed, number);
            for (position, end) in ends.into_iter().enumerate() {
                self.cables.insert(end, (self.links.len(), position));
            }
            self.links.push(link);
        }
    }

    pub(super) fn deliver(&mut self) {
        for link in 0..self.links.len() {
            while let Some((end, frame, copies)) = self.links[link].deliver(self.now) {
                for _ in 0..copies {
                    self.events += 1;
                    self.replay_later(end, &frame);
                    self.arrive(end, frame.clone());
                }
            }
        }
    }

    /// Keeps a frame between switch and backends, to let it come again much later than any link would.
    fn replay_later(&mut self, end: End, frame: &Bytes) {
        let Some(Replays { per_mille, latest }) = self.plan.replays else { return };
        let is_message = packet::ipv4_of(frame).and_then(|ip| packet::read_udp(ip, HANDOFF_PORT)).is_some();
        let is_at_an_end = matches!(end, End::Switch | End::Backend(_));
        if is_message && is_at_an_end && self.chances.between(0, 999) < per_mille {
            let at = self.now.plus(self.chances.span(Micros(100), latest));
            self.make(at, Appointment::ComesAgain(end, frame.clone()));
        }
    }

    pub(super) fn arrive(&mut self, end: End, frame: Bytes) {
        if let (Some(capture), false) = (&self.capture, matches!(end, End::Fabric(_))) {
            capture.lock().unwrap_or_else(PoisonError::into_inner).add(self.now, &frame);
        }
        match end {
            End::Fabric(port) => self.bridge(port, frame),
            End::Switch if self.now < self.stalled_until => self.wait_for_switch(frame),
            End::Switch => self.switch_takes(frame),
            End::Backend(number) => {
                let mut out = Vec::new();
                self.backends[number].receive(&frame, self.now, &mut out);
                // Questions for addresses a kernel answers without any program of ours.
                if !self.agents[number] && !out.is_empty() && packet::ipv4_of(&frame).is_some() {
                    self.count("answered_without_agent");
                }
                out.into_iter().for_each(|frame| self.send(End::Backend(number), frame));
            }
            End::Client(host) => self.client_hears(host, &frame),
            End::RouterToFabric | End::RouterToClient(_) | End::RouterToBackend(_) => {
                let mut out = Vec::new();
                self.router.receive(&frame, self.now, &mut out);
                out.into_iter().for_each(|(end, frame)| self.send(end, frame));
            }
        }
    }

    /// The NIC keeps what it has room for.
    fn wait_for_switch(&mut self, frame: Bytes) {
        if self.backlog.len() < RING_FRAMES {
            self.count("frames_waited");
            self.backlog.push_back(frame);
        } else {
            self.count("frames_missed");
        }
    }

    pub(super) fn switch_takes(&mut self, frame: Bytes) {
        let clock = self.switch_clock();
        if let Some(machine) = &mut self.machine {
            let sent = machine.receive(frame, clock);
            self.switch_sends(sent);
        }
    }

    pub(super) fn send(&mut self, from: End, frame: Bytes) {
        if let Some((link, position)) = self.cables.get(&from).copied() {
            self.links[link].send(position, frame, self.now);
        }
    }

    fn bridge(&mut self, from: FabricPort, frame: Bytes) {
        let Some((destination, _)) = packet::addresses(&frame) else { return };
        let hosts = [(FabricPort::Switch, mac::SWITCH), (FabricPort::Router, mac::ROUTER)];
        let backends = (0..addresses::BACKEND_COUNT)
            .filter(|number| *number != addresses::ROUTED_BACKEND)
            .map(|number| (FabricPort::Backend(number), mac::backend(number)));
        for (port, mac) in hosts.into_iter().chain(backends) {
            if port != from && (destination == mac || destination.is_broadcast()) {
                self.send(End::Fabric(port), frame.clone());
            }
        }
    }

    fn client_hears(&mut self, host: usize, frame: &[u8]) {
        let Some(ip) = packet::ipv4_of(frame) else { return };
        let Some(segment) = Segment::read(ip) else { return };
        let port = segment.destination.1;
        // The connection that opened last has the port.
        let latest = self
            .clients
            .iter_mut()
            .filter(|(_, client)| client.script.host == host && client.script.port == port)
            .max_by_key(|(_, client)| client.script.start);
        if let Some((_, client)) = latest {
            client.take(ip.to_vec());
        }
    }
}
