//! Reading what the lcores count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_core::Counters;
use handoff_proto::Micros;

use super::clock::Clock;
use crate::dpdk::{LcoreCounters, LcoreSnapshot};

/// The counters of one lcore: the core's and the door's.
#[derive(Debug)]
pub struct LcoreView {
    /// Its number.
    pub index: u8,
    /// Its CPU.
    pub cpu: usize,
    /// What its switch counts.
    pub core: Arc<Counters>,
    door: Arc<LcoreCounters>,
    /// Idle time as last told. The door publishes busy time with a delay, and what is told must never shrink.
    idle_us: AtomicU64,
}

impl LcoreView {
    /// Joins the counters of one lcore.
    pub const fn new(index: u8, cpu: usize, core: Arc<Counters>, door: Arc<LcoreCounters>) -> Self {
        Self { index, cpu, core, door, idle_us: AtomicU64::new(0) }
    }

    /// Reads what the door counts.
    pub fn door(&self) -> LcoreSnapshot {
        self.door.snapshot()
    }

    /// Returns how long the lcore has had work, and how long none, since `elapsed` ago.
    pub fn busy_and_idle(&self, elapsed: Micros) -> (Micros, Micros) {
        let busy = Micros(self.door.snapshot().busy_us);
        let idle = elapsed.since(busy).0;
        (busy, Micros(idle.max(self.idle_us.fetch_max(idle, Ordering::Relaxed))))
    }
}

/// Reads what all lcores count. Any thread may.
#[derive(Debug)]
pub struct Observer {
    clock: Clock,
    lcores: Vec<LcoreView>,
}

impl Observer {
    /// Observes these lcores, which started when the clock did.
    pub const fn new(clock: Clock, lcores: Vec<LcoreView>) -> Self {
        Self { clock, lcores }
    }

    /// The lcores in the order of their numbers.
    pub fn lcores(&self) -> &[LcoreView] {
        &self.lcores
    }

    /// The switch's clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sums something up over the lcores.
    pub fn sum(&self, of: impl Fn(&LcoreView) -> u64) -> u64 {
        self.lcores.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_what_is_not_busy_and_never_shrinks() {
        let view = LcoreView::new(0, 1, Arc::default(), Arc::default());
        assert_eq!(view.busy_and_idle(Micros(500)), (Micros(0), Micros(500)));
        assert_eq!(view.busy_and_idle(Micros(400)), (Micros(0), Micros(500)));
        assert_eq!(view.busy_and_idle(Micros(600)), (Micros(0), Micros(600)));
    }
}
