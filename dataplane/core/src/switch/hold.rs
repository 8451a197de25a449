//! Segments of request heads that are not finished yet: kept byte for byte, because what was parsed is what is sent on.

use handoff_proto::Seq;

use crate::ids::HoldIndex;

/// Bytes a request head may have.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Segments a request head may come in.
pub const SEGMENT_COUNT_MAX: usize = 32;
/// Longest headers in front of a segment's payload: Ethernet, IPv4 without options, TCP with 40 bytes of options.
const HEADERS_BYTES_MAX: usize = 14 + 20 + 60;

/// Why a segment cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The head would have more bytes or segments than are kept.
    TooLarge,
    /// It has other bytes than an earlier segment at the same place: which of them the backend would read is open.
    Differs,
}

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
    first: Seq,
}

impl Hold {
    /// Returns the sequence number behind what is held.
    fn next(&self) -> Option<Seq> {
        Some(self.first.add(u32::try_from(self.payload.len()).ok()?))
    }
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
            first: Seq(0),
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
        hold.first = first;
        Some(index)
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, index: HoldIndex) {
        debug_assert!(!self.free.contains(&index), "released twice");
        self.free.push(index);
    }

    /// Returns the sequence number the next segment must have.
    pub(super) fn next(&self, index: HoldIndex) -> Option<Seq> {
        self.holds.get(usize::from(index.0)).and_then(Hold::next)
    }

    /// Returns the head's bytes so far.
    pub(super) fn payload(&self, index: HoldIndex) -> &[u8] {
        self.holds.get(usize::from(index.0)).map(|hold| hold.payload.as_slice()).unwrap_or_default()
    }

    /// Keeps the segment in `frame`, which starts at `seq` and whose payload lies at `payload_at`. It may repeat what is
    /// held, in whole or in part, but leaves no gap.
    ///
    /// # Errors
    /// [`Unfit`]; nothing is kept of it then.
    pub(super) fn append(
        &mut self,
        index: HoldIndex,
        seq: Seq,
        frame: &[u8],
        payload_at: usize,
    ) -> Result<(), Unfit> {
        let hold = self.holds.get_mut(usize::from(index.0)).ok_or(Unfit::TooLarge)?;
        let (headers, payload) = frame.split_at_checked(payload_at).ok_or(Unfit::TooLarge)?;
        let payload_from = usize::try_from(seq.distance_from(hold.first)).map_err(|_| Unfit::Differs)?;
        let payload_until = payload_from + payload.len();
        if hold.segments.len() == SEGMENT_COUNT_MAX || payload_until > HEAD_BYTES_MAX {
            return Err(Unfit::TooLarge);
        }
        let held = hold.payload.get(payload_from..).ok_or(Unfit::Differs)?;
        let (again, new) = payload.split_at(held.len().min(payload.len()));
        if !held.starts_with(again) {
            return Err(Unfit::Differs);
        }
        let mut segment = HeldSegment {
            headers: [0; HEADERS_BYTES_MAX],
            headers_bytes: headers.len(),
            payload_from,
            payload_until,
        };
        segment.headers.get_mut(..headers.len()).ok_or(Unfit::TooLarge)?.copy_from_slice(headers);
        hold.payload.extend_from_slice(new); // within the capacity allocated at start
        hold.segments.push(segment);
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
        let index = pool.acquire(Seq(u32::MAX)).expect("one place");
        assert_eq!(pool.acquire(Seq(0)), None, "only one");
        pool.append(index, Seq(u32::MAX), b"h1GET /", 2).expect("small");
        pool.append(index, Seq(4), b"h2 HTTP", 2).expect("small");
        assert_eq!(pool.payload(index), b"GET / HTTP");
        assert_eq!(pool.next(index), Some(Seq(9)));
        let frames: Vec<_> = pool.frames(index).collect();
        assert_eq!(frames, [(&b"h1"[..], &b"GET /"[..]), (&b"h2"[..], &b" HTTP"[..])]);
        pool.release(index);
        let again = pool.acquire(Seq(7)).expect("released");
        assert_eq!((pool.payload(again), pool.next(again)), (&b""[..], Some(Seq(7))));
    }

    #[test]
    fn overlaps_are_kept_if_they_agree_and_leave_no_gap() {
        let mut pool = HoldPool::new(1);
        let index = pool.acquire(Seq(10)).expect("one place");
        pool.append(index, Seq(10), b"abc", 0).expect("small");
        pool.append(index, Seq(11), b"bcde", 0).expect("agrees");
        pool.append(index, Seq(12), b"c", 0).expect("agrees");
        assert_eq!((pool.payload(index), pool.next(index)), (&b"abcde"[..], Some(Seq(15))));
        for (seq, bytes) in [(10, &b"aX"[..]), (14, b"Xf"), (16, b"g"), (9, b"?abcdef")] {
            assert_eq!(pool.append(index, Seq(seq), bytes, 0), Err(Unfit::Differs), "at {seq}");
        }
        let kept: Vec<_> = pool.frames(index).map(|(_, payload)| payload).collect();
        assert_eq!(kept, [&b"abc"[..], b"bcde", b"c"]);
    }

    #[test]
    fn bytes_and_segments_are_bounded() {
        let mut pool = HoldPool::new(1);
        let index = pool.acquire(Seq(0)).expect("one place");
        pool.append(index, Seq(0), &[b'a'; HEAD_BYTES_MAX], 0).expect("just fits");
        let full = pool.next(index).expect("acquired");
        assert_eq!(pool.append(index, full, b"b", 0), Err(Unfit::TooLarge));
        assert_eq!(pool.payload(index).len(), HEAD_BYTES_MAX);
        pool.release(index);
        let index = pool.acquire(Seq(0)).expect("one place");
        for _ in 0..SEGMENT_COUNT_MAX {
            pool.append(index, Seq(0), b"a", 0).expect("few enough");
        }
        assert_eq!(pool.append(index, Seq(1), b"a", 0), Err(Unfit::TooLarge));
    }
}
