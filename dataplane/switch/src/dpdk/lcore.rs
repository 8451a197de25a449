//! The loop that runs on each lcore: receive a burst, let the worker turn, send.

use super::counters::LcoreCounters;
use super::frame::Burst;
use super::settings::Idle;
use super::tx::Tx;
use capsule::batch::Pipeline;
use capsule_ffi as ffi;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

/// Turns between two looks at the stop flag and at capsule's executor, which costs as much as several frames.
const TURNS_PER_POLL: usize = 64;
/// Turns in a row without work after which [`Idle::Nap`] sleeps.
const EMPTY_TURNS_BEFORE_NAP: u32 = 16;
/// How long it sleeps: long enough to leave the CPU alone, short beside a network's round trip.
const NAP: Duration = Duration::from_micros(100);

/// Which lcore a worker runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lcore {
    /// Its number among the switch's lcores, from 0, in the order of their CPUs; also its queue's number.
    pub index: usize,
    /// Its CPU.
    pub cpu: usize,
}

/// What an lcore does with frames. Made, used and dropped on that lcore.
pub trait Worker {
    /// Does one turn: handles the frames of `received`, between none and [`BURST`](super::BURST), and
    /// whatever else is due. Runs all the time, mostly with no frame; it must not block.
    ///
    /// Frames left in `received` are freed, frames given to `tx` are sent when this returns.
    fn turn(&mut self, received: &mut Burst, tx: &mut Tx);
}

/// Ends the process when a panic unwinds through it: capsule's executor would go on without the worker,
/// and nobody would know.
#[derive(Debug)]
pub(super) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            process::abort();
        }
    }
}

/// What the loops of all lcores share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// Set when all shall end.
    pub(super) stop: Arc<AtomicBool>,
    /// Loops that have not ended yet.
    pub(super) running: Arc<AtomicUsize>,
}

/// A worker with its queue, as a pipeline for capsule's executor.
pub(super) struct LcoreLoop<W> {
    /// The worker, until the loop has ended. Boxed so that the whole can be moved about while pinned.
    worker: Option<Box<W>>,
    received: Burst,
    tx: Tx,
    port: u16,
    queue: u16,
    idle: Idle,
    shared: Shared,
    counters: Arc<LcoreCounters>,
    empty_turns: u32,
    cycles: Cycles,
    _abort: AbortOnPanic,
}

impl<W: Worker> LcoreLoop<W> {
    /// # Safety
    ///
    /// The port must be started, have this queue, and no other thread may use the queue. `tx` must be of the
    /// same queue.
    pub(super) unsafe fn new(
        worker: W,
        tx: Tx,
        (port, queue): (u16, u16),
        idle: Idle,
        shared: Shared,
        counters: Arc<LcoreCounters>,
    ) -> Self {
        Self {
            worker: Some(Box::new(worker)),
            received: Burst::new(),
            tx,
            port,
            queue,
            idle,
            shared,
            counters,
            empty_turns: 0,
            cycles: Cycles::start(),
            _abort: AbortOnPanic,
        }
    }

    /// Does one turn; returns whether any frame moved.
    fn turn(&mut self) -> bool {
        let Some(worker) = &mut self.worker else {
            return false;
        };
        // SAFETY: whoever made `self` vouched for port and queue.
        let received = unsafe { self.received.receive(self.port, self.queue) };
        worker.turn(&mut self.received, &mut self.tx);
        self.received.clear();
        self.tx.flush();
        let sent = self.tx.take_moved();
        if received > 0 {
            self.counters.rx_frames.add(received as u64);
            let multi_segment = self.received.take_multi_segment();
            self.counters.rx_multi_segment.add(multi_segment);
        }
        received > 0 || sent > 0
    }

    /// Drops the worker and all frames and reports the end.
    fn end(&mut self) {
        if self.worker.take().is_some() {
            self.received.clear();
            self.tx.flush();
            self.shared.running.fetch_sub(1, Ordering::Release);
        }
    }
}

impl<W: Worker> Pipeline for LcoreLoop<W> {
    fn name(&self) -> &str {
        "baton"
    }

    fn run_once(&mut self) {
        let mut turns = 0;
        while turns < TURNS_PER_POLL {
            turns += 1;
            let was_busy = self.turn();
            self.cycles.add(was_busy);
            if was_busy {
                self.empty_turns = 0;
                continue;
            }
            self.empty_turns = self.empty_turns.saturating_add(1);
            if self.idle == Idle::Nap && self.empty_turns >= EMPTY_TURNS_BEFORE_NAP {
                thread::sleep(NAP);
                self.cycles.add(false);
                self.counters.naps.add(1);
                break;
            }
        }
        self.counters.turns.add(turns as u64);
        self.counters.busy_us.add(self.cycles.take_busy_us());
    }
}

impl<W: Worker> Future for LcoreLoop<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.shared.stop.load(Ordering::Relaxed) {
            this.end();
            return Poll::Ready(());
        }
        this.run_once();
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Tells busy time from idle time by the CPU's cycle counter, one reading per turn.
#[derive(Debug)]
struct Cycles {
    per_us: u64,
    last: u64,
    busy: u64,
}

impl Cycles {
    fn start() -> Self {
        // SAFETY: the EAL, which measures the rate, is initialised before any lcore starts.
        let per_second = unsafe { ffi::_rte_get_tsc_hz() };
        Self { per_us: (per_second / 1_000_000).max(1), last: now_cycles(), busy: 0 }
    }

    /// Ends a turn or a nap; its cycles count if it `was_busy`.
    fn add(&mut self, was_busy: bool) {
        let now = now_cycles();
        if was_busy {
            self.busy += now.saturating_sub(self.last);
        }
        self.last = now;
    }

    /// Whole microseconds of busy time since the last call; the rest stays for the next.
    fn take_busy_us(&mut self) -> u64 {
        let us = self.busy / self.per_us;
        self.busy %= self.per_us;
        us
    }
}

fn now_cycles() -> u64 {
    // SAFETY: reads a CPU register.
    unsafe { ffi::_rte_get_tsc_cycles() }
}
