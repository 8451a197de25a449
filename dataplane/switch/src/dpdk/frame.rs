//! Frames: owned mbufs of a single segment, and the array a burst of them arrives in.

use capsule_ffi as ffi;
use std::ptr::{self, NonNull};
use std::slice;
use thiserror::Error;

/// A place for the data that is not inside the frame's buffer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{len} bytes at {start} are not inside a buffer of {buffer} bytes")]
pub struct DataOutOfBuffer {
    /// Where the data was to start, in bytes from the start of the buffer.
    pub start: usize,
    /// How many bytes it was to have.
    pub len: usize,
    /// Size of the buffer in bytes.
    pub buffer: usize,
}

/// An Ethernet frame in a buffer of its own, with room in front of it and behind it.
///
/// Sent with [`Tx::send`](super::Tx::send) or, when dropped, returned to its pool, on whatever thread.
/// The pool stays mapped until the process ends, so a frame may outlive the port.
#[derive(Debug)]
pub struct Frame {
    /// INVARIANT: this is the only reference to a direct mbuf of one segment and reference count 1;
    /// `data_off + data_len <= buf_len`, and `pkt_len == data_len`.
    mbuf: NonNull<ffi::rte_mbuf>,
}

// SAFETY: by its invariant a frame has no other owner, and DPDK's pools take mbufs back on any thread.
unsafe impl Send for Frame {}

impl Frame {
    /// Takes ownership of `mbuf`, or frees it and returns `None` when it has several segments.
    ///
    /// # Safety
    ///
    /// `mbuf` must be valid, direct, and nobody else may use it from now on.
    #[inline]
    pub(super) unsafe fn from_raw(mbuf: NonNull<ffi::rte_mbuf>) -> Option<Self> {
        let frame = Self { mbuf };
        // Dropping a chain frees all its segments, so this is sound for it too.
        if frame.mbuf().nb_segs == 1 { Some(frame) } else { None }
    }

    /// Gives the mbuf away; whoever takes it must free or send it.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<ffi::rte_mbuf> {
        let mbuf = self.mbuf;
        std::mem::forget(self);
        mbuf
    }

    /// The whole buffer, headroom and tailroom included, and where in it the frame starts and how long it
    /// is. What lies outside the frame is left over from earlier frames.
    #[inline]
    pub fn buffer_mut(&mut self) -> (&mut [u8], usize, usize) {
        let mbuf = self.mbuf();
        let (start, len) = (usize::from(mbuf.data_off), usize::from(mbuf.data_len));
        let (address, size) = (mbuf.buf_addr.cast::<u8>(), usize::from(mbuf.buf_len));
        // SAFETY: a direct mbuf's buffer is `buf_len` initialised bytes (pools are mapped zeroed) that
        // belong to it alone, and the mbuf is borrowed mutably as long as the slice.
        let buffer = unsafe { slice::from_raw_parts_mut(address, size) };
        (buffer, start, len)
    }

    /// The frame's bytes, from the Ethernet header on.
    #[inline]
    pub fn data(&self) -> &[u8] {
        let mbuf = self.mbuf();
        let (start, len) = (usize::from(mbuf.data_off), usize::from(mbuf.data_len));
        // SAFETY: a direct mbuf's buffer is `buf_len` initialised bytes that belong to it alone, and the
        // mbuf is borrowed as long as the slice.
        let buffer = unsafe { slice::from_raw_parts(mbuf.buf_addr.cast::<u8>(), usize::from(mbuf.buf_len)) };
        &buffer[start..start + len]
    }

    /// Says where in the buffer the frame now is: `len` bytes from `start` on.
    ///
    /// # Errors
    ///
    /// [`DataOutOfBuffer`], with the frame unchanged, when that is not inside the buffer.
    #[inline]
    pub fn set_data(&mut self, start: usize, len: usize) -> Result<(), DataOutOfBuffer> {
        let buffer = usize::from(self.mbuf().buf_len);
        let outside = DataOutOfBuffer { start, len, buffer };
        if start.checked_add(len).is_none_or(|end| end > buffer) {
            return Err(outside);
        }
        let start_u16 = u16::try_from(start).map_err(|_| outside)?;
        let len_u16 = u16::try_from(len).map_err(|_| outside)?;
        let mbuf = self.mbuf_mut();
        mbuf.data_off = start_u16;
        mbuf.data_len = len_u16;
        mbuf.pkt_len = u32::from(len_u16);
        Ok(())
    }

    #[inline]
    fn mbuf(&self) -> &ffi::rte_mbuf {
        // SAFETY: valid and not used by anyone else, by the invariant.
        unsafe { self.mbuf.as_ref() }
    }

    #[inline]
    fn mbuf_mut(&mut self) -> &mut ffi::rte_mbuf {
        // SAFETY: valid and not used by anyone else, by the invariant.
        unsafe { self.mbuf.as_mut() }
    }
}

impl Drop for Frame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: valid and not used by anyone else, by the invariant; `self` ends here.
        unsafe { ffi::_rte_pktmbuf_free(self.mbuf.as_ptr()) }
    }
}

/// The frames of one receive call, taken out one after the other; those left in are freed.
#[derive(Debug)]
pub struct Burst {
    /// INVARIANT: `mbufs[next..filled]` are valid, direct and owned by this array.
    mbufs: [*mut ffi::rte_mbuf; super::BURST],
    next: usize,
    filled: usize,
    multi_segment: u64,
}

impl Burst {
    pub(super) fn new() -> Self {
        Self { mbufs: [ptr::null_mut(); super::BURST], next: 0, filled: 0, multi_segment: 0 }
    }

    /// Fills the array from a queue; returns how many frames arrived. Frames still in it are freed first.
    ///
    /// # Safety
    ///
    /// The port must be started, have this queue, and no other thread may receive from it.
    pub(super) unsafe fn receive(&mut self, port: u16, queue: u16) -> usize {
        self.clear();
        // SAFETY: the array has room for `BURST` pointers, the caller vouches for port and queue.
        let count =
            unsafe { ffi::_rte_eth_rx_burst(port, queue, self.mbufs.as_mut_ptr(), super::BURST as u16) };
        self.next = 0;
        self.filled = usize::from(count);
        self.filled
    }

    /// How many frames are still in (some may turn out to be unusable when taken).
    #[inline]
    pub fn len(&self) -> usize {
        self.filled - self.next
    }

    /// Whether every frame was taken, or none arrived.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many frames of several segments were dropped since the last call.
    pub(super) fn take_multi_segment(&mut self) -> u64 {
        std::mem::take(&mut self.multi_segment)
    }

    /// Frees what was not taken.
    pub(super) fn clear(&mut self) {
        while self.next().is_some() {}
    }
}

impl Iterator for Burst {
    type Item = Frame;

    /// Takes out the next frame; frames of several segments are dropped and counted on the way.
    #[inline]
    fn next(&mut self) -> Option<Frame> {
        while self.next < self.filled {
            let mbuf = NonNull::new(self.mbufs[self.next])?;
            self.next += 1;
            // SAFETY: by the invariant the mbuf is ours, and stepping `next` gives it up.
            if let Some(frame) = unsafe { Frame::from_raw(mbuf) } {
                return Some(frame);
            }
            self.multi_segment += 1;
        }
        None
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.clear();
    }
}
