//! Bytes the switch keeps for a connection: the beginning of a request head until it is whole and the backend has it, or the
//! error page the switch answers itself until the client has it.
//!
//! Bytes come in any order and are kept byte for byte, because what was parsed is what is sent on.

use core::ops::Range;

use handoff_proto::{Micros, Seq};

use crate::deadlines::Deadlines;
use crate::flow::FlowId;
use crate::ids::HoldIndex;
use crate::wire::Timestamps;

/// Bytes a request head may have: as many as the four buffers of 8 KB that nginx reads a head into by default.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Segments a request head may come in.
pub const SEGMENT_COUNT_MAX: u16 = 4096;
/// How many places are looked at for one that can give way.
const VICTIM_LOOKS_MAX: usize = 16;
/// How long a head may be unfinished, or a page undelivered, before it can give way.
const VICTIM_AGE: Micros = Micros::from_secs(1);
/// Pieces that may lie apart behind the first gap.
const AHEAD_COUNT_MAX: usize = 8;

/// Why a segment cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// More segments than are taken for a head.
    TooMany,
    /// It has other bytes than an earlier segment at the same place: which of them the backend would read is open.
    Differs,
    /// It lies too far ahead, or would be one piece too many; it may come again.
    TooFar,
}

/// What the bytes are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// A head, until it is whole. The deadline is that of its first acknowledgment.
    Head,
    /// A whole head that was sent to a backend, until that has it. The deadline is that of the next question for it.
    Owed {
        /// Which question that will be, counted from 0.
        step: u8,
    },
    /// An error page, until the client has it. The deadline is that of its repetition.
    Page {
        /// Which repetition that will be, counted from 0.
        step: u8,
        /// What the client has sent so far.
        client: PageClient,
    },
}

/// The client of an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageClient {
    /// The sequence number it sends next.
    pub(super) next: Seq,
    /// Whether it has sent its FIN.
    pub(super) is_finished: bool,
}

/// The kept bytes of one connection.
#[derive(Debug)]
pub(super) struct Hold {
    /// Whose they are.
    pub(super) flow: FlowId,
    /// What they are kept for.
    pub(super) duty: Duty,
    /// How many of them the other side has acknowledged: of a head, the switch to its client; of a page, the client.
    pub(super) acked: usize,
    /// How many bytes of a head its backend is known to have; how many of a page were sent.
    pub(super) taken: usize,
    /// The client's window, as in its newest segment.
    pub(super) window: u16,
    /// The client's newest TSval.
    pub(super) tsval: u32,
    /// Since when.
    began: Micros,
    /// Sequence number of the first byte.
    first: Seq,
    bytes: Box<[u8]>,
    /// How many bytes there are without a gap.
    whole: usize,
    /// What lies behind the first gap, in order and apart from each other.
    ahead: Vec<Range<usize>>,
    /// Behind which byte the sender's FIN stands.
    fin: Option<usize>,
    segment_count: u16,
}

impl Hold {
    fn new() -> Self {
        Self {
            flow: FlowId::NONE,
            duty: Duty::Head,
            acked: 0,
            taken: 0,
            window: 0,
            tsval: 0,
            began: Micros(0),
            first: Seq(0),
            bytes: vec![0; HEAD_BYTES_MAX].into(),
            whole: 0,
            ahead: Vec::with_capacity(AHEAD_COUNT_MAX + 1),
            fin: None,
            segment_count: 0,
        }
    }

    fn begin(&mut self, first: Seq) {
        self.ahead.clear();
        (self.first, self.whole, self.fin, self.segment_count) = (first, 0, None, 0);
        (self.duty, self.acked, self.taken, self.window, self.tsval) = (Duty::Head, 0, 0, 0, 0);
    }

    /// Returns the bytes up to the first gap.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.whole).unwrap_or_default()
    }

    /// Returns the sequence number behind the bytes up to the first gap, and behind the FIN if that comes there.
    pub(super) fn next(&self) -> Seq {
        self.seq_at(self.whole).add(u32::from(self.is_finished()))
    }

    /// Takes in a TSval of the client: one of a segment that was overtaken changes nothing (RFC 7323, section 4.3).
    pub(super) fn note_stamps(&mut self, stamps: Option<Timestamps>) {
        if let Some(Timestamps { value, .. }) = stamps
            && value.wrapping_sub(self.tsval).cast_signed() > 0
        {
            self.tsval = value;
        }
    }

    /// Says whether the sender has nothing to add.
    pub(super) fn is_finished(&self) -> bool {
        self.fin == Some(self.whole)
    }

    /// Says whether this is an error page that its client has, FIN included.
    pub(super) const fn is_page_delivered(&self) -> bool {
        matches!(self.duty, Duty::Page { .. }) && self.acked > self.whole
    }

    /// Says whether no further byte can be kept.
    pub(super) const fn is_full(&self) -> bool {
        self.whole == HEAD_BYTES_MAX
    }

    /// Returns the sequence number of the byte at `offset`.
    pub(super) fn seq_at(&self, offset: usize) -> Seq {
        self.first.add(u32::try_from(offset).unwrap_or(u32::MAX)) // offsets end at HEAD_BYTES_MAX
    }

    /// Returns how many of the bytes lie in front of a sequence number; 0 if that is further off than they reach.
    pub(super) fn offset_of(&self, seq: Seq) -> usize {
        usize::try_from(seq.distance_from(self.first)).unwrap_or(0).min(self.whole)
    }

    /// Lists what is kept from `offset` on: pieces without a gap, each with its place, the one with the FIN marked.
    pub(super) fn pieces(&self, offset: usize, bytes_max: usize) -> impl Iterator<Item = Piece<'_>> {
        let runs = core::iter::once(offset.min(self.whole)..self.whole).chain(self.ahead.iter().cloned());
        runs.flat_map(move |run| {
            let end = run.end;
            run.step_by(bytes_max.max(1)).map(move |from| from..end.min(from + bytes_max.max(1)))
        })
        .map(|range| Piece {
            offset: range.start,
            bytes: self.bytes.get(range.clone()).unwrap_or_default(),
            is_last: self.fin == Some(range.end),
        })
    }

    /// Says whether `payload` at `seq` agrees with what is kept, wherever both have a byte.
    pub(super) fn agrees(&self, seq: Seq, payload: &[u8]) -> bool {
        let distance = seq.distance_from(self.first);
        let (offset, payload) = match usize::try_from(distance) {
            Ok(offset) => (offset, payload),
            Err(_) => {
                let before = usize::try_from(distance.unsigned_abs()).unwrap_or(usize::MAX);
                (0, payload.get(before..).unwrap_or_default())
            }
        };
        let end = offset.saturating_add(payload.len());
        core::iter::once(0..self.whole).chain(self.ahead.iter().cloned()).all(|run| {
            let (from, until) = (run.start.max(offset), run.end.min(end));
            from >= until || self.bytes.get(from..until) == payload.get(from - offset..until - offset)
        })
    }

    /// Keeps a segment's payload, which starts at `seq`, not before the first byte kept. Says whether there was anything new.
    ///
    /// # Errors
    /// [`Unfit`]; nothing is kept of it then.
    pub(super) fn put(&mut self, seq: Seq, payload: &[u8], fin: bool) -> Result<bool, Unfit> {
        if self.segment_count == SEGMENT_COUNT_MAX {
            return Err(Unfit::TooMany);
        }
        let from = usize::try_from(seq.distance_from(self.first)).map_err(|_| Unfit::TooFar)?;
        if from >= HEAD_BYTES_MAX && !payload.is_empty() {
            return Err(Unfit::TooFar);
        }
        if !self.agrees(seq, payload) {
            return Err(Unfit::Differs);
        }
        let kept = payload.len().min(HEAD_BYTES_MAX.saturating_sub(from));
        let until = from + kept;
        let before = (self.whole, self.is_finished());
        let apart = from > self.whole;
        if apart && self.ahead.len() == AHEAD_COUNT_MAX && !self.touches(from, until) {
            return Err(Unfit::TooFar);
        }
        self.segment_count += 1;
        if let (Some(place), Some(bytes)) = (self.bytes.get_mut(from..until), payload.get(..kept)) {
            place.copy_from_slice(bytes);
        }
        // A FIN stands behind all data: one that was cut off with the data in front of it comes again.
        if fin && kept == payload.len() {
            self.fin = Some(until);
        }
        let known = apart && self.ahead.iter().any(|run| run.start <= from && until <= run.end);
        self.merge(from, until);
        Ok((self.whole, self.is_finished()) != before || (apart && !known))
    }

    fn touches(&self, from: usize, until: usize) -> bool {
        self.ahead.iter().any(|run| from <= run.end && run.start <= until)
    }

    fn merge(&mut self, from: usize, until: usize) {
        let mut new = from..until;
        if new.start > self.whole {
            self.ahead.retain(|run| {
                let apart = run.end < new.start || new.end < run.start;
                if !apart {
                    new = new.start.min(run.start)..new.end.max(run.end);
                }
                apart
            });
            if !new.is_empty() {
                let place = self.ahead.partition_point(|run| run.start < new.start);
                self.ahead.insert(place, new); // within the capacity allocated at start
            }
            return;
        }
        self.whole = self.whole.max(new.end);
        let whole = &mut self.whole;
        self.ahead.retain(|run| {
            let apart = run.start > *whole;
            if !apart {
                *whole = (*whole).max(run.end);
            }
            apart
        });
    }

    /// Keeps what `write` writes instead of what was kept, as bytes the switch sends from `first` on; `write` returns how many
    /// there are.
    pub(super) fn put_page(
        &mut self,
        first: Seq,
        client: PageClient,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) {
        self.begin(first);
        self.duty = Duty::Page { step: 0, client };
        self.whole = write(&mut self.bytes).min(HEAD_BYTES_MAX);
        self.fin = Some(self.whole);
    }
}

/// Some of the kept bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// How many bytes lie in front of them.
    pub(super) offset: usize,
    /// The bytes.
    pub(super) bytes: &'a [u8],
    /// Whether the FIN follows.
    pub(super) is_last: bool,
}

/// A fixed number of places to keep bytes in, allocated at start, with a deadline each.
#[derive(Debug)]
pub(super) struct HoldPool {
    holds: Vec<Hold>,
    free: Vec<HoldIndex>,
    deadlines: Deadlines,
    /// Where the search for what can give way stands.
    hand: usize,
}

impl HoldPool {
    /// Allocates `count` places of about 32 KB; memory that was never used stays with the operating system.
    pub(super) fn new(count: u16) -> Self {
        Self {
            holds: (0..count).map(|_| Hold::new()).collect(),
            free: (0..count).rev().map(HoldIndex).collect(),
            deadlines: Deadlines::new(count),
            hand: 0,
        }
    }

    /// Returns how many places are taken.
    pub(super) const fn in_use(&self) -> usize {
        self.holds.len() - self.free.len()
    }

    /// Takes a place for bytes that start at `first`; `None` when all are taken.
    pub(super) fn acquire(&mut self, first: Seq, now: Micros) -> Option<HoldIndex> {
        let index = self.free.pop()?;
        let hold = self.get_mut(index)?;
        hold.begin(first);
        hold.began = now;
        Some(index)
    }

    /// Finds what can give way when all places are taken: an error page or an unfinished head that has been there for a second.
    /// What is owed to a backend stays. Looks at a few places each time, going round.
    pub(super) fn victim(&mut self, now: Micros) -> Option<HoldIndex> {
        for _ in 0..VICTIM_LOOKS_MAX.min(self.holds.len()) {
            self.hand = (self.hand + 1) % self.holds.len();
            let may_go = self.holds.get(self.hand).is_some_and(|hold| {
                hold.is_page_delivered()
                    || !matches!(hold.duty, Duty::Owed { .. }) && now.since(hold.began) >= VICTIM_AGE
            });
            if may_go {
                return u16::try_from(self.hand).ok().map(HoldIndex);
            }
        }
        None
    }

    /// Gives a place back.
    pub(super) fn release(&mut self, index: HoldIndex) {
        debug_assert!(!self.free.contains(&index), "released twice");
        self.deadlines.cancel(index.0);
        self.free.push(index);
    }

    /// Returns what is kept.
    pub(super) fn get(&self, index: HoldIndex) -> Option<&Hold> {
        self.holds.get(usize::from(index.0))
    }

    /// Returns what is kept, for changing.
    pub(super) fn get_mut(&mut self, index: HoldIndex) -> Option<&mut Hold> {
        self.holds.get_mut(usize::from(index.0))
    }

    /// Sets the deadline of what is kept.
    pub(super) fn set_deadline(&mut self, index: HoldIndex, due: Micros) {
        self.deadlines.set(index.0, due);
    }

    /// Takes the deadline of what is kept back.
    pub(super) fn cancel_deadline(&mut self, index: HoldIndex) {
        self.deadlines.cancel(index.0);
    }

    /// Returns what is due, once per deadline.
    pub(super) fn due(&mut self, now: Micros) -> Option<HoldIndex> {
        self.deadlines.pop(now).map(HoldIndex)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn started(first: Seq) -> Hold {
        let mut hold = Hold::new();
        hold.begin(first);
        hold
    }

    #[test]
    fn bytes_come_back_in_order_and_places_are_used_again() {
        let mut pool = HoldPool::new(1);
        let index = pool.acquire(Seq(u32::MAX), Micros(0)).expect("one place");
        assert_eq!(pool.acquire(Seq(0), Micros(0)), None, "only one");
        let hold = pool.get_mut(index).expect("acquired");
        assert_eq!(hold.put(Seq(4), b" HTTP", true), Ok(true), "ahead of a gap");
        assert_eq!((hold.bytes(), hold.next()), (&b""[..], Seq(u32::MAX)));
        assert_eq!(hold.put(Seq(u32::MAX), b"GET /", false), Ok(true));
        assert_eq!((hold.bytes(), hold.next()), (&b"GET / HTTP"[..], Seq(10)), "the FIN counts");
        let pieces: Vec<_> =
            hold.pieces(0, 6).map(|piece| (piece.offset, piece.bytes, piece.is_last)).collect();
        assert_eq!(pieces, [(0, &b"GET / "[..], false), (6, b"HTTP", true)]);
        pool.release(index);
        let again = pool.acquire(Seq(7), Micros(0)).and_then(|index| pool.get(index)).expect("released");
        assert_eq!((again.bytes(), again.next()), (&b""[..], Seq(7)));
    }

    #[test]
    fn what_was_kept_stays_whatever_else_comes() {
        let mut hold = started(Seq(10));
        assert_eq!(hold.put(Seq(10), b"abc", false), Ok(true));
        assert_eq!(hold.put(Seq(11), b"bcde", false), Ok(true), "agrees and adds");
        assert_eq!(hold.put(Seq(12), b"c", false), Ok(false), "nothing new");
        assert_eq!(hold.put(Seq(17), b"h", false), Ok(true));
        assert_eq!(hold.put(Seq(17), b"h", false), Ok(false), "nothing new ahead either");
        for (seq, bytes) in [(10, &b"aX"[..]), (14, b"Xf"), (15, b"fgX"), (8, b"..X")] {
            assert!(!hold.agrees(Seq(seq), bytes), "at {seq}");
            assert!(
                matches!(hold.put(Seq(seq), bytes, false), Err(Unfit::Differs | Unfit::TooFar)),
                "at {seq}"
            );
        }
        assert_eq!(hold.bytes(), b"abcde");
    }

    #[test]
    fn bytes_pieces_and_segments_are_bounded() {
        let mut hold = started(Seq(0));
        assert_eq!(hold.put(Seq(0), &[b'a'; HEAD_BYTES_MAX + 1], true), Ok(true), "as much as fits");
        assert!(hold.is_full() && !hold.is_finished());
        let beyond = hold.next();
        assert_eq!(hold.put(beyond, b"b", false), Err(Unfit::TooFar));

        let mut hold = started(Seq(0));
        for piece in 1..=8 {
            assert_eq!(hold.put(Seq(piece * 2), b"x", false), Ok(true), "piece {piece}");
        }
        assert_eq!(hold.put(Seq(18), b"x", false), Err(Unfit::TooFar), "one piece too many");
        assert_eq!(hold.put(Seq(17), b"y", false), Ok(true), "joins the last piece");
        for segment in 9..SEGMENT_COUNT_MAX {
            assert_eq!(hold.put(Seq(2), b"x", false), Ok(false), "segment {segment}");
        }
        assert_eq!(hold.put(Seq(2), b"x", false), Err(Unfit::TooMany));
    }

    proptest! {
        /// However a head is cut, repeated and shuffled: once every byte has come, it is there as it was sent.
        #[test]
        fn a_head_is_put_together_from_segments_in_any_order(
            first in any::<u32>(),
            cuts in proptest::collection::vec((0..200_usize, 1..60_usize), 1..60),
        ) {
            let sent: Vec<u8> = (0..200_u8).collect();
            let mut hold = started(Seq(first));
            let mut came = [false; 200];
            for (from, len) in cuts {
                let payload = &sent[from..200.min(from + len)];
                let fin = from + len >= 200;
                match hold.put(Seq(first).add(u32::try_from(from).expect("small")), payload, fin) {
                    Ok(new) => {
                        let added = came[from..from + payload.len()].iter().any(|came| !came);
                        prop_assert!(new || !added, "new bytes are told");
                        came[from..from + payload.len()].fill(true);
                    }
                    Err(unfit) => prop_assert_eq!(unfit, Unfit::TooFar),
                }
                let whole = came.iter().position(|came| !came).unwrap_or(200);
                prop_assert_eq!(hold.bytes(), &sent[..whole]);
                prop_assert_eq!(hold.is_finished(), whole == 200);
                let kept: usize = hold.pieces(0, 7).map(|piece| piece.bytes.len()).sum();
                prop_assert_eq!(kept, came.iter().filter(|came| **came).count());
                for piece in hold.pieces(0, 7) {
                    prop_assert_eq!(piece.bytes, &sent[piece.offset..piece.offset + piece.bytes.len()]);
                }
            }
        }
    }
}
