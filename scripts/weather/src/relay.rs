//! Carries frames between two interfaces through the weather: one thread, no clock of its own.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::counters::PortCounters;
use crate::port::{FRAME_BYTES_MAX, Port, PortError, Received, VIRTIO_HEADER_BYTES};
use crate::{Bounds, Conditions, DirectionReport, Filter, Report, Weather};

/// Frames read from one side before the other has its turn and what is due goes on.
const BURST_FRAMES: usize = 64;

/// A link of two interfaces with weather on it.
pub struct Relay {
    seed: u64,
    filter: Filter,
    a: Port,
    b: Port,
    a_to_b: Direction,
    b_to_a: Direction,
    buffer: Box<[u8]>,
}

struct Direction {
    weather: Weather<Box<[u8]>>,
    counters: PortCounters,
}

/// The conditions of both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Climate {
    /// For frames that come in at A.
    pub a_to_b: Conditions,
    /// For frames that come in at B.
    pub b_to_a: Conditions,
}

impl Relay {
    /// A link between two open ports. Frames of the two directions meet unrelated weather of the same seed.
    #[must_use]
    pub fn new(seed: u64, filter: Filter, climate: Climate, bounds: Bounds, a: Port, b: Port) -> Self {
        let direction = |stream, conditions| Direction {
            weather: Weather::new(seed, stream, conditions, bounds),
            counters: PortCounters::default(),
        };
        Self {
            seed,
            filter,
            a,
            b,
            a_to_b: direction(0, climate.a_to_b),
            b_to_a: direction(1, climate.b_to_a),
            buffer: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
        }
    }

    /// Takes what came in, up to a burst of each side, and sends what is due. Returns whether a burst was full, so that
    /// more may have come in. `clock` never goes back; it is read for each frame, as one that comes in late in a burst
    /// would else be delayed less than asked.
    ///
    /// # Errors
    /// When an interface is gone or down.
    pub fn turn(&mut self, clock: impl Fn() -> Duration) -> Result<bool, PortError> {
        let Self { filter, a, b, a_to_b, b_to_a, buffer, .. } = self;
        let more_at_a = a_to_b.turn(filter, a, b, buffer, &clock)?;
        let more_at_b = b_to_a.turn(filter, b, a, buffer, &clock)?;
        Ok(more_at_a || more_at_b)
    }

    /// When the next frame is due, if no other comes in before.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.a_to_b.weather.next_due().into_iter().chain(self.b_to_a.weather.next_due()).min()
    }

    /// Sleeps until a frame comes in, one of `others` can be read, or `timeout` is over.
    ///
    /// # Errors
    /// When the kernel cannot watch these sockets.
    pub fn wait<const N: usize>(&self, others: [BorrowedFd<'_>; N], timeout: Duration) -> Result<(), Errno> {
        let watched = [self.a.as_fd(), self.b.as_fd()].into_iter().chain(others);
        let mut watched: Vec<PollFd<'_>> =
            watched.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
        match rustix::event::poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What happened so far, after `uptime`.
    ///
    /// # Errors
    /// When an interface is gone.
    pub fn report(&mut self, uptime: Duration) -> Result<Report, PortError> {
        self.a_to_b.counters.missed += u64::from(self.a.drops_since_last_asked()?);
        self.b_to_a.counters.missed += u64::from(self.b.drops_since_last_asked()?);
        let [a_to_b, b_to_a] = [&self.a_to_b, &self.b_to_a].map(|direction| DirectionReport {
            weather: direction.weather.counters(),
            port: direction.counters,
        });
        Ok(Report { seed: self.seed, uptime, a_to_b, b_to_a })
    }
}

impl Direction {
    fn turn(
        &mut self,
        filter: &Filter,
        from: &Port,
        to: &Port,
        buffer: &mut [u8],
        clock: impl Fn() -> Duration,
    ) -> Result<bool, PortError> {
        let mut read = 0;
        while read < BURST_FRAMES {
            match from.receive(buffer)? {
                Received::Nothing => break,
                Received::Unreadable => self.counters.unreadable += 1,
                Received::Frame(length) => self.meet(filter, &buffer[..length], to, clock()),
            }
            read += 1;
        }
        let now = clock();
        while let Some(delivery) = self.weather.deliver(now) {
            for _ in 0..delivery.copies {
                self.send(to, &delivery.frame);
            }
        }
        Ok(read == BURST_FRAMES)
    }

    fn meet(&mut self, filter: &Filter, frame: &[u8], to: &Port, now: Duration) {
        if filter.matches(&frame[VIRTIO_HEADER_BYTES..]) {
            self.weather.take(frame.into(), now);
        } else {
            self.counters.passed += 1;
            self.send(to, frame);
        }
    }

    fn send(&mut self, to: &Port, frame: &[u8]) {
        if !to.send(frame) {
            self.counters.refused += 1;
        }
    }
}
