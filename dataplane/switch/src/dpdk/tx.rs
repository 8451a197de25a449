//! The sending side of an lcore's queue.

use super::counters::LcoreCounters;
use super::frame::Frame;
use super::port::Pool;
use capsule_ffi as ffi;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use thiserror::Error;

/// A frame could not be made from bytes. Counted already.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CopyError {
    /// Every buffer of the pool is in use.
    #[error("the pool has no free buffer")]
    PoolEmpty,
    /// The bytes do not fit one buffer.
    #[error("{len} bytes do not fit a buffer")]
    TooLong {
        /// How many bytes there were.
        len: usize,
    },
}

/// Collects frames and sends them in bursts on the queue of this lcore.
#[derive(Debug)]
pub struct Tx {
    port: u16,
    queue: u16,
    pool: Pool,
    /// INVARIANT: `mbufs[..waiting]` are valid single-segment mbufs owned by this array.
    mbufs: [*mut ffi::rte_mbuf; super::BURST],
    waiting: usize,
    /// Sent or dropped since [`Tx::take_moved`].
    moved: usize,
    counters: Arc<LcoreCounters>,
}

impl Tx {
    /// # Safety
    ///
    /// The port must be started, have this queue, and no other thread may send on it. `pool` must be the
    /// pool its receive queues fill from: a driver may free all it sent to one pool.
    pub(super) unsafe fn new(port: u16, queue: u16, pool: Pool, counters: Arc<LcoreCounters>) -> Self {
        Self { port, queue, pool, mbufs: [ptr::null_mut(); super::BURST], waiting: 0, moved: 0, counters }
    }

    /// Queues a frame; it leaves at the end of the turn at the latest. When the ring is full it is dropped
    /// and counted as `tx_dropped`.
    #[inline]
    pub fn send(&mut self, frame: Frame) {
        self.mbufs[self.waiting] = frame.into_raw().as_ptr();
        self.waiting += 1;
        if self.waiting == self.mbufs.len() {
            self.flush();
        }
    }

    /// Copies `bytes` into a fresh frame and queues that.
    ///
    /// # Errors
    ///
    /// [`CopyError`]; it is counted (`copy_pool_empty`, `copy_too_long`).
    pub fn send_copy(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        let frame = self.copy(bytes)?;
        self.send(frame);
        Ok(())
    }

    /// Copies `bytes` into a fresh frame, with the usual headroom in front.
    ///
    /// # Errors
    ///
    /// [`CopyError`]; it is counted (`copy_pool_empty`, `copy_too_long`).
    pub fn copy(&mut self, bytes: &[u8]) -> Result<Frame, CopyError> {
        let Some(mut frame) = self.pool.allocate() else {
            self.counters.copy_pool_empty.add(1);
            return Err(CopyError::PoolEmpty);
        };
        let (buffer, start, _) = frame.buffer_mut();
        let target = buffer.get_mut(start..).and_then(|room| room.get_mut(..bytes.len()));
        let copied = target.map(|target| target.copy_from_slice(bytes));
        if copied.is_none() || frame.set_data(start, bytes.len()).is_err() {
            self.counters.copy_too_long.add(1);
            return Err(CopyError::TooLong { len: bytes.len() });
        }
        Ok(frame)
    }

    /// Sends all that is queued. What the driver does not take, although asked again as long as it takes
    /// some, is dropped and counted as `tx_dropped`.
    pub fn flush(&mut self) {
        let count = std::mem::take(&mut self.waiting);
        let mut sent = 0;
        while sent < count {
            let rest = &mut self.mbufs[sent..count];
            // SAFETY: `rest` are mbufs of ours (invariant; `waiting` is 0 by now), at most `BURST` many; whoever
            // made `self` vouched for port and queue.
            let taken = unsafe {
                ffi::_rte_eth_tx_burst(self.port, self.queue, rest.as_mut_ptr(), rest.len() as u16)
            };
            if taken == 0 {
                break;
            }
            sent += usize::from(taken);
        }
        for &mbuf in &self.mbufs[sent..count] {
            // SAFETY: not taken by the driver, so still a valid mbuf of ours.
            unsafe { ffi::_rte_pktmbuf_free(mbuf) };
        }
        self.moved += count;
        if count > 0 {
            self.counters.tx_frames.add(sent as u64);
            self.counters.tx_dropped.add((count - sent) as u64);
        }
    }

    /// How many frames were sent or dropped since the last call.
    pub(super) fn take_moved(&mut self) -> usize {
        std::mem::take(&mut self.moved)
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        for &mbuf in &self.mbufs[..self.waiting] {
            if let Some(mbuf) = NonNull::new(mbuf) {
                // SAFETY: by the invariant this is a valid mbuf of ours, and `self` ends here.
                unsafe { ffi::_rte_pktmbuf_free(mbuf.as_ptr()) };
            }
        }
    }
}
