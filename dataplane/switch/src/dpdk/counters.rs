//! What each lcore counts. One thread writes, any thread may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters once: the shared form, its snapshot, and the list with names and meanings.
macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// The counters of one lcore, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct LcoreCounters {
            $(pub(super) $name: Counter,)+
        }

        /// What an lcore had counted at one moment, since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct LcoreSnapshot {
            $($(#[doc = $help])+ pub $name: u64,)+
        }

        impl LcoreCounters {
            /// Reads all counters. Each is exact; together they may be a burst apart.
            pub fn snapshot(&self) -> LcoreSnapshot {
                LcoreSnapshot { $($name: self.$name.value(),)+ }
            }
        }

        impl LcoreSnapshot {
            /// Each counter's name, meaning and value, in a fixed order.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($help),+).trim_ascii(), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Frames received, dropped ones included.
    rx_frames,
    /// Received frames of several segments, dropped: longer than the buffers, or a driver that scatters.
    rx_multi_segment,
    /// Frames the driver took for sending.
    tx_frames,
    /// Frames dropped because the transmit ring was full.
    tx_dropped,
    /// Frames that could not be made because the pool had no free buffer.
    copy_pool_empty,
    /// Frames that could not be made because they are longer than a buffer.
    copy_too_long,
    /// Turns of the burst loop.
    turns,
    /// Times the lcore slept because nothing arrived.
    naps,
    /// Microseconds spent in turns that received or sent something.
    busy_us,
}

/// A counter that one thread raises and any thread reads.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owning thread may call this: two writers would lose counts.
    pub(super) fn add(&self, count: u64) {
        let value = self.0.load(Ordering::Relaxed);
        self.0.store(value.wrapping_add(count), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_shows_what_was_added_under_its_name() {
        let counters = LcoreCounters::default();
        counters.tx_dropped.add(2);
        counters.tx_dropped.add(3);
        counters.naps.add(1);
        let snapshot = counters.snapshot();
        assert_eq!(snapshot, LcoreSnapshot { tx_dropped: 5, naps: 1, ..LcoreSnapshot::default() });
        let dropped = snapshot.entries().find(|(name, _, _)| *name == "tx_dropped");
        let help = "Frames dropped because the transmit ring was full.";
        assert_eq!(dropped, Some(("tx_dropped", help, 5)));
    }
}
