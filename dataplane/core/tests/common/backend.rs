//! The side of a backend: what the switch sends it, read; a socket that puts a stream together as a kernel does; and
//! its answers to questions.

use std::collections::BTreeMap;

use super::packets::{FIN, Message, be16, be32, checksum, read_message, read_options};
use super::world::Answer;

/// Types of messages.
pub(crate) const HANDOFF: u8 = 1;
pub(crate) const FORWARD: u8 = 2;
pub(crate) const WHO_HAS: u8 = 8;
pub(crate) const MINE: u8 = 9;

/// A client's segment as it comes out of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// TSval and TSecr.
    pub(crate) stamps: Option<(u32, u32)>,
    pub(crate) payload: Vec<u8>,
}

/// Reads the client's segment of a message and insists on its checksums, as the backend's kernel does.
pub(crate) fn inner_of(message: &Message) -> Inner {
    let packet = &message.inner;
    assert_eq!(checksum(&packet[..20]), 0, "inner IPv4 header checksum");
    assert_eq!(usize::from(be16(packet, 2)), packet.len(), "inner total length");
    let segment = &packet[20..];
    let length = u16::try_from(segment.len()).expect("short").to_be_bytes();
    assert_eq!(checksum(&[&packet[12..20], &[0, 6], &length, segment].concat()), 0, "inner TCP checksum");
    let header_bytes = usize::from(segment[12] >> 4) * 4;
    let options = read_options(&segment[20..header_bytes]);
    let stamps = options.iter().find(|(kind, _)| *kind == 8);
    Inner {
        seq: be32(segment, 4),
        ack: be32(segment, 8),
        flags: segment[13],
        window: be16(segment, 14),
        stamps: stamps.map(|(_, stamps)| (be32(stamps, 0), be32(stamps, 4))),
        payload: segment[header_bytes..].to_vec(),
    }
}

/// Splits what was sent to backends into packets of clients and questions.
pub(crate) fn sort(frames: &[Vec<u8>]) -> (Vec<Message>, Vec<Message>) {
    frames.iter().map(|frame| read_message(frame)).partition(|message| message.kind != WHO_HAS)
}

/// A socket made by a handoff.
#[derive(Clone, Debug, Default)]
pub(crate) struct Socket {
    /// Sequence number of the first byte, once the base segment has come.
    base: Option<u32>,
    /// What came, by its place in the stream.
    bytes: BTreeMap<u32, u8>,
    /// Behind which byte the FIN stands.
    fin: Option<u32>,
    /// TSval of the segment that came last in order.
    recent: u32,
}

impl Socket {
    /// Takes a message as the kernel would: only the base segment makes a socket, a segment with an older TSval than
    /// the last in order is not taken (RFC 7323, section 5), and what came first stays.
    pub(crate) fn take(&mut self, message: &Message) {
        let inner = inner_of(message);
        if self.base.is_none() && message.kind == HANDOFF && inner.seq == message.base_seq {
            assert_eq!(inner.ack, message.base_ack, "the kernel makes no socket of another acknowledgment");
            self.base = Some(message.base_seq);
            self.recent = message.tsval;
        }
        let Some(base) = self.base else { return };
        if let Some((tsval, _)) = inner.stamps {
            if tsval.wrapping_sub(self.recent) >= 1 << 31 {
                return;
            }
            // Nothing of a segment that lies wholly in front of what is expected counts, its TSval neither.
            let (from, taken) = (inner.seq.wrapping_sub(base), self.taken());
            if from <= taken && from.wrapping_add(u32::try_from(inner.payload.len()).expect("short")) >= taken
            {
                self.recent = tsval;
            }
        }
        for (at, byte) in (inner.seq.wrapping_sub(base)..).zip(&inner.payload) {
            self.bytes.entry(at).or_insert(*byte);
        }
        if inner.flags & FIN != 0 {
            let end = inner.seq.wrapping_sub(base) + u32::try_from(inner.payload.len()).expect("short");
            self.fin = Some(end);
        }
    }

    /// How many bytes came without a gap.
    fn taken(&self) -> u32 {
        (0..).take_while(|at| self.bytes.contains_key(at)).last().map_or(0, |last| last + 1)
    }

    /// What the server can read so far.
    pub(crate) fn stream(&self) -> Vec<u8> {
        (0..).map_while(|at| self.bytes.get(&at).copied()).collect()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.fin == Some(self.taken())
    }

    /// The answer to a question, if there is a socket to answer for.
    pub(crate) fn answer(&self, question: &Message) -> Option<Vec<u8>> {
        let next = self.base?.wrapping_add(self.taken()).wrapping_add(u32::from(self.is_finished()));
        Some(mine(question, next))
    }
}

/// MINE: everything in front of `next` is there.
pub(crate) fn mine(question: &Message, next: u32) -> Vec<u8> {
    assert_eq!(question.kind, WHO_HAS);
    let mut answer = Answer::of(question, MINE);
    answer.covered[12..16].copy_from_slice(&next.to_be_bytes());
    answer.frame()
}
