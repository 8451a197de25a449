//! An Ethernet frame in a buffer with room in front and behind, so that headers are put on and taken off in place.

use thiserror::Error;

/// A frame being worked on. The owner of the buffer (an mbuf, a vector) reads [`Frame::start`] and [`Frame::len`]
/// afterwards to learn where the frame lies now.
#[derive(Debug)]
pub struct Frame<'a> {
    buffer: &'a mut [u8],
    start: usize,
    end: usize,
}

/// The buffer is too small for what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the buffer has no room for {0} more bytes")]
pub struct NoRoom(pub usize);

impl<'a> Frame<'a> {
    /// Sees the `len` bytes from `start` on as a frame; `None` if they do not lie in the buffer.
    pub fn new(buffer: &'a mut [u8], start: usize, len: usize) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= buffer.len()).then_some(Self { buffer, start, end })
    }

    /// Returns the offset of the frame in its buffer.
    pub const fn start(&self) -> usize {
        self.start
    }

    /// Returns the length of the frame in bytes.
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Says whether the frame has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the frame's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Returns the frame's bytes for editing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Grows the frame by `count` bytes in front; their content is whatever the buffer held.
    ///
    /// # Errors
    /// The headroom is too small; the frame is unchanged.
    pub const fn prepend(&mut self, count: usize) -> Result<(), NoRoom> {
        match self.start.checked_sub(count) {
            Some(start) => {
                self.start = start;
                Ok(())
            }
            None => Err(NoRoom(count - self.start)),
        }
    }

    /// Takes `count` bytes off the front.
    ///
    /// # Errors
    /// The frame is shorter than that; it is unchanged.
    pub const fn strip(&mut self, count: usize) -> Result<(), NoRoom> {
        if count > self.len() {
            return Err(NoRoom(count - self.len()));
        }
        self.start += count;
        Ok(())
    }

    /// Sets the length by moving the end; new bytes hold whatever the buffer held.
    ///
    /// # Errors
    /// The tailroom is too small; the frame is unchanged.
    pub const fn resize(&mut self, len: usize) -> Result<(), NoRoom> {
        let room = self.buffer.len() - self.start;
        if len > room {
            return Err(NoRoom(len - room));
        }
        self.end = self.start + len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_go_on_and_come_off_within_the_buffer_and_never_beyond() {
        let mut buffer = *b"..frame.";
        let mut frame = Frame::new(&mut buffer, 2, 5).expect("inside");
        assert_eq!(frame.bytes(), b"frame");
        frame.prepend(2).expect("headroom");
        assert_eq!((frame.start(), frame.bytes()), (0, &b"..frame"[..]));
        assert_eq!(frame.prepend(1), Err(NoRoom(1)));
        frame.strip(3).expect("long enough");
        assert_eq!(frame.bytes(), b"rame");
        assert_eq!(frame.strip(5), Err(NoRoom(1)));
        frame.resize(5).expect("tailroom");
        assert_eq!(frame.resize(6), Err(NoRoom(1)));
        assert_eq!(frame.bytes(), b"rame.");
        assert!(Frame::new(&mut buffer, 8, 1).is_none());
        assert!(Frame::new(&mut buffer, usize::MAX, 2).is_none());
    }
}
