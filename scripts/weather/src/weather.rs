//! One direction of a link under weather, as a machine: frames and the time in, frames out when they are due.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::conditions::SPARED_BYTES;
use crate::fate::Dice;
use crate::{Conditions, Counters};

/// How much may wait in one direction. What comes on top is dropped and counted as overflowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Frames.
    pub frames_max: usize,
    /// Bytes of all of them.
    pub bytes_max: usize,
}

impl Default for Bounds {
    /// A tenth of a second of a hundred thousand frames a second; of the longest frames (64 KB), a thousand.
    fn default() -> Self {
        Self { frames_max: 10_000, bytes_max: 64 << 20 }
    }
}

/// What the weather made of a frame it was given. Times are on the caller's clock, as in [`Weather::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is gone.
    Lost,
    /// It is gone, because too much was waiting.
    Overflowed,
    /// It goes on `copies` times.
    Due {
        /// When.
        at: Duration,
        /// 1 or 2.
        copies: u8,
    },
    /// It goes on `copies` times, once enough later frames went on.
    HeldBack {
        /// When it goes on if too few do.
        at_the_latest: Duration,
        /// 1 or 2.
        copies: u8,
    },
}

/// A frame to be sent on now, `copies` times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<F> {
    /// The very frame that was taken.
    pub frame: F,
    /// 1 or 2.
    pub copies: u8,
}

/// The weather of one direction.
///
/// Without reordering asked for, by [`Conditions::reorder`] or [`Conditions::jitter_reorders`], frames go on in the order
/// they came.
#[derive(Debug)]
pub struct Weather<F> {
    dice: Dice,
    conditions: Conditions,
    bounds: Bounds,
    /// Frames that go on when their time has come.
    line: BinaryHeap<Reverse<Waiting<F>>>,
    /// Frames held back, in the order they came: neither `due` nor `behind` ever falls from one to the next.
    held: VecDeque<Held<F>>,
    bytes: usize,
    /// Frames that were given a place, held back or not: the next one's number.
    numbered: u64,
    /// Frames that were put into the line, and those that left it.
    lined: u64,
    left: u64,
    /// When the last frame that keeps its place is due.
    latest_due: Duration,
    /// The highest number that went on.
    furthest: Option<u64>,
    counters: Counters,
}

#[derive(Debug)]
struct Waiting<F> {
    due: Duration,
    number: u64,
    copies: u8,
    is_delayed: bool,
    frame: F,
}

#[derive(Debug)]
struct Held<F> {
    /// It goes on as soon as this many frames have left the line, counted from the first ever.
    behind: u64,
    /// `due` is when it goes on at the latest.
    waiting: Waiting<F>,
}

impl<F> Waiting<F> {
    fn place(&self) -> (Duration, u64) {
        (self.due, self.number)
    }
}

impl<F> PartialEq for Waiting<F> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<F> Eq for Waiting<F> {}

impl<F> PartialOrd for Waiting<F> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<F> Ord for Waiting<F> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl<F: AsRef<[u8]> + AsMut<[u8]>> Weather<F> {
    /// The weather that a seed makes of `conditions`, for direction `stream` of a link.
    #[must_use]
    pub fn new(seed: u64, stream: u64, conditions: Conditions, bounds: Bounds) -> Self {
        Self {
            dice: Dice::new(seed, stream),
            conditions,
            bounds,
            line: BinaryHeap::new(),
            held: VecDeque::new(),
            bytes: 0,
            numbered: 0,
            lined: 0,
            left: 0,
            latest_due: Duration::ZERO,
            furthest: None,
            counters: Counters::default(),
        }
    }

    /// Takes a frame that came at `now`, a time on a clock that never goes back.
    pub fn take(&mut self, mut frame: F, now: Duration) -> Taken {
        self.counters.received += 1;
        // Before anything else, so that a frame's fate depends on its number alone.
        let fate = self.dice.throw(&self.conditions);
        if fate.lost {
            self.counters.lost += 1;
            return Taken::Lost;
        }
        let length = frame.as_ref().len();
        if self.queued() >= self.bounds.frames_max || self.bytes + length > self.bounds.bytes_max {
            self.counters.overflowed += 1;
            return Taken::Overflowed;
        }
        if let Some(which) = fate.corrupted {
            self.counters.corrupted += u64::from(flip(frame.as_mut(), which));
        }
        // A frame held back comes late anyway. Where jitter reorders, it takes none, so that frames held back stay in
        // the order of their times.
        let takes_jitter = !(fate.held_back && self.conditions.jitter_reorders);
        let wait = self.conditions.delay + if takes_jitter { fate.jitter } else { Duration::ZERO };
        let mut due = now + wait;
        if !self.conditions.jitter_reorders {
            due = due.max(self.latest_due);
            self.latest_due = due;
        }
        let copies = if fate.duplicated { 2 } else { 1 };
        let number = self.numbered;
        self.numbered += 1;
        self.bytes += length;
        let mut waiting = Waiting { due, number, copies, is_delayed: !wait.is_zero(), frame };
        if fate.held_back {
            self.counters.held_back += 1;
            waiting.due += self.conditions.reorder_wait;
            let at_the_latest = waiting.due;
            let behind = self.lined + u64::from(self.conditions.reorder_gap);
            self.held.push_back(Held { behind, waiting });
            return Taken::HeldBack { at_the_latest, copies };
        }
        self.lined += 1;
        self.line.push(Reverse(waiting));
        Taken::Due { at: due, copies }
    }

    /// When [`Weather::deliver`] next has something, if no frame comes before; None if nothing waits.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let line = self.line.peek().map(|Reverse(waiting)| waiting.due);
        let held = self.held.front().map(|held| self.due_of(held));
        line.into_iter().chain(held).min()
    }

    /// The next frame that is due at `now`. To be asked until there is none.
    pub fn deliver(&mut self, now: Duration) -> Option<Delivery<F>> {
        let line = self.line.peek().map(|Reverse(waiting)| waiting.place());
        let held = self.held.front().map(|held| (self.due_of(held), held.waiting.number));
        let (due, _) = line.into_iter().chain(held).min()?;
        if due > now {
            return None;
        }
        let waiting = if held.is_some() && line.is_none_or(|line| held < Some(line)) {
            self.held.pop_front()?.waiting
        } else {
            self.left += 1;
            self.line.pop()?.0
        };
        Some(self.send_off(waiting))
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { queued: self.queued() as u64, ..self.counters }
    }

    fn queued(&self) -> usize {
        self.line.len() + self.held.len()
    }

    /// A frame that enough others overtook is overdue.
    fn due_of(&self, held: &Held<F>) -> Duration {
        if self.left >= held.behind { Duration::ZERO } else { held.waiting.due }
    }

    fn send_off(&mut self, waiting: Waiting<F>) -> Delivery<F> {
        let Waiting { number, copies, is_delayed, frame, .. } = waiting;
        self.bytes -= frame.as_ref().len();
        self.counters.delivered += u64::from(copies);
        self.counters.duplicated += u64::from(copies - 1);
        self.counters.delayed += u64::from(is_delayed);
        self.counters.reordered += u64::from(self.furthest.is_some_and(|furthest| number < furthest));
        self.furthest = self.furthest.max(Some(number));
        Delivery { frame, copies }
    }
}

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];

/// Changes one bit; says whether there is one that may change. Only IPv4 has checksums of its own to notice by: ARP relies on that
/// of its frame, so that what changes it is not seen as weather.
fn flip(frame: &mut [u8], which: u64) -> bool {
    if frame.get(SPARED_BYTES - ETHERTYPE_IPV4.len()..SPARED_BYTES) != Some(&ETHERTYPE_IPV4) {
        return false;
    }
    let Some(bytes) = frame.get_mut(SPARED_BYTES..).filter(|bytes| !bytes.is_empty()) else { return false };
    let place = usize::try_from(which / 8).unwrap_or(usize::MAX) % bytes.len();
    bytes[place] ^= 1 << (which % 8);
    true
}

#[cfg(test)]
#[path = "weather_tests.rs"]
mod tests;
