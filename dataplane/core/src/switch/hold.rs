//! Segments of request heads that are not finished yet: kept byte for byte, because what was parsed is what is sent on.

use handoff_proto::Seq;

use crate::ids::HoldIndex;

/// Bytes a request head may have.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Segments a request head may come in.
pub const SEGMENT_COUNT_MAX: usize = 32;
/// Longest headers in front of a segment's payload: Ethernet, IPv4 without options, TCP with 40 bytes of options.
const HEADERS_BYTES_MAX: usize = 14 + 20 + 60;

/// The head has more bytes or segments than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

#[derive(Clone, Copy, Debug)]
struct HeldSegment {
    headers: [u8; HEADERS_BYTES_MAX],
    headers_bytes: usize,
    payload_from: usize,
    payload_until: usize,
}

#[derive(Debug)]
struct Hold {
    payload: Vec<u8>,
    segments: Vec<HeldSegment>,
    next: Seq,
}

/// A fixed number of places for unfinished heads, allocated at start.
#[derive(Debug)]
pub(super) struct HoldPool {
    holds: Vec<Hold>,
    free: Vec<HoldIndex>,
}

impl HoldPool {
    /// Allocates `count_max` places of about 20 KB.
    pub(super) fn new(count_max: u16) -> Self {
        let hold = |_| Hold {
            payload: Vec::with_capacity(HEAD_BYTES_MAX),
            segments: Vec::with_capacity(SEGMENT_COUNT_MAX),
            next: Seq(0),
        };
        Self {
            holds: (0..count_max).map(hold).collect(),
            free: (0..count_max).rev().map(HoldIndex).collect(),
        }
    }

    /// Takes a place for a head that starts at `first`; `None` when all are taken.
    pub(super) fn acquire(&mut self, first: Seq) -> Option<HoldIndex> {
        let index = self.free.pop()?;
        let hold = self.holds.get_mut(usize::from(index.0))?;
        hold.payload.clear();
        hold.segments.clear();
        hold.next = first;
        Some(index)
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, index: HoldIndex) {
        debug_assert!(!self.free.contains(&index), "released twice");
        self.free.push(index);
    }

    /// Returns the sequence number the next segment must have.
    pub(super) fn next(&self, index: HoldIndex) -> Option<Seq> {
        self.holds.get(usize::from(index.0)).map(|hold| hold.next)
    }

    /// Returns the head's bytes so far.
    pub(super) fn payload(&self, index: HoldIndex) -> &[u8] {
        self.holds.get(usize::from(index.0)).map(|hold| hold.payload.as_slice()).unwrap_or_default()
    }

    /// Keeps the segment in `frame`, whose payload starts at `payload_at` and which is the next in order.
    ///
    /// # Errors
    /// [`TooLarge`]; nothing is kept of it then.
    pub(super) fn append(
        &mut self,
        index: HoldIndex,
        frame: &[u8],
        payload_at: usize,
    ) -> Result<(), TooLarge> {
        let hold = self.holds.get_mut(usize::from(index.0)).ok_or(TooLarge)?;
        let (headers, payload) = frame.split_at_checked(payload_at).ok_or(TooLarge)?;
        let payload_from = hold.payload.len();
        let payload_until = payload_from + payload.len();
        if hold.segments.len() == SEGMENT_COUNT_MAX || payload_until > HEAD_BYTES_MAX {
            return Err(TooLarge);
        }
        let mut segment = HeldSegment {
            headers: [0; HEADERS_BYTES_MAX],
            headers_bytes: headers.len(),
            payload_from,
            payload_until,
        };
        segment.headers.get_mut(..headers.len()).ok_or(TooLarge)?.copy_from_slice(headers);
        hold.payload.extend_from_slice(payload); // within the capacity allocated at start
        hold.segments.push(segment);
        hold.next = hold.next.add(u32::try_from(payload.len()).map_err(|_| TooLarge)?);
        Ok(())
    }

    /// Lists the frames kept: headers and payload of each, in order.
    pub(super) fn frames(&self, index: HoldIndex) -> impl Iterator<Item = (&[u8], &[u8])> {
        let hold = self.holds.get(usize::from(index.0));
        hold.into_iter().flat_map(|hold| {
            hold.segments.iter().map(|segment| {
                let headers = segment.headers.get(..segment.headers_bytes).unwrap_or_default();
                let payload =
                    hold.payload.get(segment.payload_from..segment.payload_until).unwrap_or_default();
                (headers, payload)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was_cut_and_places_are_used_again() {
        let mut pool = HoldPool::new(1);
        let index = pool.acquire(Seq(100)).expect("one place");
        assert_eq!(pool.acquire(Seq(0)), None, "only one");
        pool.append(index, b"h1GET /", 2).expect("small");
        pool.append(index, b"h2 HTTP", 2).expect("small");
        assert_eq!(pool.payload(index), b"GET / HTTP");
        assert_eq!(pool.next(index), Some(Seq(110)));
        let frames: Vec<_> = pool.frames(index).collect();
        assert_eq!(frames, [(&b"h1"[..], &b"GET /"[..]), (&b"h2"[..], &b" HTTP"[..])]);
        pool.release(index);
        let again = pool.acquire(Seq(7)).expect("released");
        assert_eq!((pool.payload(again), pool.next(again)), (&b""[..], Some(Seq(7))));
    }

    #[test]
    fn bytes_and_segments_are_bounded() {
        let mut pool = HoldPool::new(1);
        let index = pool.acquire(Seq(0)).expect("one place");
        pool.append(index, &[b'a'; HEAD_BYTES_MAX], 0).expect("just fits");
        assert_eq!(pool.append(index, b"b", 0), Err(TooLarge));
        assert_eq!(pool.payload(index).len(), HEAD_BYTES_MAX);
        pool.release(index);
        let index = pool.acquire(Seq(0)).expect("one place");
        for _ in 0..SEGMENT_COUNT_MAX {
            pool.append(index, b"a", 0).expect("few enough");
        }
        assert_eq!(pool.append(index, b"a", 0), Err(TooLarge));
    }
}
