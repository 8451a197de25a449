//! A cable: the weather of the lab in both directions, an MTU, and a switch to cut it.

use std::time::Duration;

use baton_weather::{Bounds, Conditions, Counters, Weather};
use handoff_proto::Micros;

use crate::packet::{Bytes, ETHERNET_BYTES};

/// One end of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A client host.
    Client(usize),
    /// The router's side of a client's cable.
    RouterToClient(usize),
    /// The router's side of the cable to the fabric.
    RouterToFabric,
    /// The router's side of the cable to a backend that is not on the fabric.
    RouterToBackend(usize),
    /// A backend.
    Backend(usize),
    /// The switch.
    Switch,
    /// A port of the fabric, by what is at the cable's other end.
    Fabric(FabricPort),
}

/// What hangs on the fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FabricPort {
    /// The switch.
    Switch,
    /// A backend.
    Backend(usize),
    /// The router.
    Router,
}

/// A cable between two ends.
pub struct Link {
    ends: [End; 2],
    /// Of what the first end sends, and of what the second sends.
    weather: [Weather<Bytes>; 2],
    mtu_bytes: usize,
    is_cut: bool,
    /// Frames that were longer than the cable takes.
    pub too_long: u64,
    /// Frames that met a cut cable.
    pub cut: u64,
}

impl Link {
    /// Lays a cable. Its weather comes from `seed`, other than that of any cable with another `number`.
    #[must_use]
    pub fn new(ends: [End; 2], conditions: &Conditions, mtu_bytes: usize, seed: u64, number: u64) -> Self {
        let weather =
            |direction| Weather::new(seed, number * 2 + direction, conditions.clone(), Bounds::default());
        Self { ends, weather: [weather(0), weather(1)], mtu_bytes, is_cut: false, too_long: 0, cut: 0 }
    }

    /// Cuts it, or mends it. What is on its way arrives.
    pub fn set_cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
    }

    /// Takes a frame that the end in this position sends.
    pub fn send(&mut self, position: usize, frame: Bytes, now: Micros) {
        if frame.len() > self.mtu_bytes + ETHERNET_BYTES {
            self.too_long += 1;
        } else if self.is_cut {
            self.cut += 1;
        } else {
            self.weather[position].take(frame, duration(now));
        }
    }

    /// When it next has something.
    #[must_use]
    pub fn next_due(&self) -> Option<Micros> {
        // Rounded up: a frame that is due within a microsecond is delivered at its end.
        let round = |due: Duration| Micros(u64::try_from(due.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX));
        self.weather.iter().filter_map(Weather::next_due).min().map(round)
    }

    /// The next frame that is due, copy by copy, with the end it arrives at.
    pub fn deliver(&mut self, now: Micros) -> Option<(End, Bytes, u8)> {
        for (position, weather) in self.weather.iter_mut().enumerate() {
            if let Some(delivery) = weather.deliver(duration(now)) {
                return Some((self.ends[1 - position], delivery.frame, delivery.copies));
            }
        }
        None
    }

    /// What the weather did, both directions together.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let [first, second] = [self.weather[0].counters(), self.weather[1].counters()];
        Counters {
            received: first.received + second.received,
            delivered: first.delivered + second.delivered,
            lost: first.lost + second.lost,
            duplicated: first.duplicated + second.duplicated,
            corrupted: first.corrupted + second.corrupted,
            held_back: first.held_back + second.held_back,
            reordered: first.reordered + second.reordered,
            delayed: first.delayed + second.delayed,
            overflowed: first.overflowed + second.overflowed,
            queued: first.queued + second.queued,
        }
    }
}

fn duration(now: Micros) -> Duration {
    Duration::from_micros(now.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cable_takes_nothing_longer_than_its_mtu_and_nothing_while_it_is_cut() {
        let mut link = Link::new([End::Switch, End::Client(0)], &Conditions::default(), 600, 1, 0);
        link.send(0, vec![0; 615], Micros(0));
        link.send(0, vec![0; 614], Micros(0));
        link.set_cut(true);
        link.send(0, vec![0; 60], Micros(0));
        assert_eq!((link.too_long, link.cut), (1, 1));
        assert_eq!(
            link.deliver(Micros(0)).map(|(end, frame, _)| (end, frame.len())),
            Some((End::Client(0), 614))
        );
        assert_eq!(link.deliver(Micros(0)), None);
    }
}
