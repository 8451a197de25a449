//! The handoff header: what travels in front of a client's packet from switch to backend, and back.
//!
//! It is the payload of a UDP datagram to [`HANDOFF_PORT`](crate::HANDOFF_PORT); the client's IP packet follows.
//! All fields are in network byte order; `docs/PROTOCOL.md` draws them, `tests/golden.rs` pins them, and
//! `handoff-agent/src/bpf/intf.h` is the C side of the same layout.

use thiserror::Error;

use crate::addr::FourTuple;
use crate::keys::KeyId;
use crate::seq::Seq;
use crate::tag::{Tag, TagKey};
use crate::tcp::{Negotiated, TcpState, WSCALE_MAX, WindowScale};
use crate::time::Micros;

/// Bytes of the header on the wire.
pub const HEADER_BYTES: usize = 56;
/// Bytes of the header the tag covers: everything in front of the tag.
pub const TAGGED_BYTES: usize = HEADER_BYTES - 8;
/// Bytes that wrapping adds in front of an IPv4 packet: outer IPv4 and UDP headers, then ours.
pub const TUNNEL_BYTES_V4: usize = 20 + 8 + HEADER_BYTES;
/// First four bytes: "BTON".
pub const MAGIC: [u8; 4] = *b"BTON";
/// The version this code speaks.
pub const VERSION: u8 = 1;
/// The `lcore` of a message that no lcore asked for: whichever has the flow.
pub const LCORE_ANY: u8 = 255;

const FLAG_WSCALE: u16 = 1 << 0;
const FLAG_SACK: u16 = 1 << 1;
const FLAG_TIMESTAMPS: u16 = 1 << 2;
const FLAG_ECN: u16 = 1 << 3;
const FLAGS_KNOWN: u16 = FLAG_WSCALE | FLAG_SACK | FLAG_TIMESTAMPS | FLAG_ECN;

/// What a message asks or says. The numbers are the wire values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// Switch to backend: a client packet of an unconfirmed flow; its base segment may create the socket.
    Handoff = 1,
    /// Switch to backend: a client packet of a confirmed flow; never creates a socket.
    Forward = 2,
    /// Switch to backend: give the flow up if it is quiet.
    Kill = 3,
    /// Backend to switch: the flow was given up.
    Killed = 4,
    /// Backend to switch: the flow is not quiet and stays.
    Busy = 5,
    /// Backend to switch: no such flow here; `generation` is the newest one known.
    Gone = 6,
    /// Backend to switch: the handoff was not taken; the client's packet comes back behind the header.
    Refused = 7,
    /// Switch to backend: do you own this flow?
    WhoHas = 8,
    /// Backend to switch: yes; `base_seq` is its rcv_nxt, `base_ack` its snd_nxt, the detail its TCP state.
    Mine = 9,
    /// Switch to backend: an ICMP error about one of its packets, whole, behind the header.
    Icmp = 10,
}

impl MessageType {
    /// Returns the type with this wire value.
    pub const fn from_wire(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Handoff,
            2 => Self::Forward,
            3 => Self::Kill,
            4 => Self::Killed,
            5 => Self::Busy,
            6 => Self::Gone,
            7 => Self::Refused,
            8 => Self::WhoHas,
            9 => Self::Mine,
            10 => Self::Icmp,
            _ => return None,
        })
    }
}

/// Why an answer says what it says, and of `Mine` the state of the socket: the `detail` field. The numbers are the wire
/// values; a state has its own, so that the type of the message tells which is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Detail {
    /// Nothing to add.
    #[default]
    None = 0,
    /// Nothing listens at the VIP on this backend.
    NoListener = 1,
    /// The listener's accept queue is full.
    QueueFull = 2,
    /// The agent has not declared this backend ready.
    NotReady = 3,
    /// The kernel would not take the connection (`bpf_sk_assign_tcp_reqsk` failed).
    KernelRefused = 4,
    /// Too many recent connections to remember them all: taking one more would weaken replay protection.
    RecordsFull = 5,
    /// A live socket holds the 4-tuple and nothing proves that it is older.
    Occupied = 6,
    /// The generation is not newer than one already used for this 4-tuple.
    OldGeneration = 7,
    /// The packet belongs to no socket.
    NoSocket = 8,
    /// The socket is in this state: with `Mine`, and only there.
    State(TcpState),
}

impl Detail {
    /// Returns the detail with this wire value in a message of type `kind`.
    pub const fn from_wire(kind: MessageType, value: u16) -> Option<Self> {
        if let MessageType::Mine = kind {
            return match TcpState::from_wire(value) {
                Some(state) => Some(Self::State(state)),
                None => None,
            };
        }
        Some(match value {
            0 => Self::None,
            1 => Self::NoListener,
            2 => Self::QueueFull,
            3 => Self::NotReady,
            4 => Self::KernelRefused,
            5 => Self::RecordsFull,
            6 => Self::Occupied,
            7 => Self::OldGeneration,
            8 => Self::NoSocket,
            _ => return None,
        })
    }

    /// Returns the wire value.
    pub const fn to_wire(self) -> u16 {
        match self {
            Self::None => 0,
            Self::NoListener => 1,
            Self::QueueFull => 2,
            Self::NotReady => 3,
            Self::KernelRefused => 4,
            Self::RecordsFull => 5,
            Self::Occupied => 6,
            Self::OldGeneration => 7,
            Self::NoSocket => 8,
            Self::State(state) => state as u16,
        }
    }

    /// Returns the state of the socket, which only `Mine` tells.
    pub const fn state(self) -> Option<TcpState> {
        match self {
            Self::State(state) => Some(state),
            _ => None,
        }
    }
}

/// Orders the handoffs of one 4-tuple across flows, switches and restarts.
///
/// It is the switch's clock in microseconds when the handoff was decided, or one more than the 4-tuple's previous
/// generation if that is later. Comparison is serial (RFC 1982) over 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// Says whether `self` was decided after `other`.
    pub const fn newer_than(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() > 0
    }

    /// Returns the generation of a handoff decided at `now` for a 4-tuple last handed off as `previous`.
    #[must_use]
    pub fn next(previous: Option<Self>, now: Micros) -> Self {
        let fresh = Self(now.0);
        match previous {
            Some(last) if !fresh.newer_than(last) => Self(last.0.wrapping_add(1)),
            _ => fresh,
        }
    }
}

/// The header, parsed. [`Header::emit`] and [`Header::parse`] are its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message asks or says.
    pub kind: MessageType,
    /// What the SYN carried.
    pub negotiated: Negotiated,
    /// Which key tagged it.
    pub key_id: KeyId,
    /// Sequence number of the first byte after the client's SYN: only this segment may create a socket. Of `Mine`, the
    /// socket's rcv_nxt.
    pub base_seq: Seq,
    /// Acknowledgment number of the base segment: the switch's ISN + 1. Of `Mine`, the socket's snd_nxt.
    pub base_ack: Seq,
    /// TSval of the base segment; 0 without timestamps.
    pub tsval: u32,
    /// TSecr of the base segment; 0 without timestamps.
    pub tsecr: u32,
    /// Why an answer says what it says, or the state of the socket.
    pub detail: Detail,
    /// The lcore of the switch that owns the flow; answers repeat it, so that they find their way. [`LCORE_ANY`] in
    /// what answers no message.
    pub lcore: u8,
    /// Orders the handoffs of a 4-tuple.
    pub generation: Generation,
    /// When this very copy left, by the switch's clock; answers repeat the question's.
    pub issued: Micros,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("{0} bytes are too few for a handoff header of {HEADER_BYTES}")]
    Truncated(usize),
    /// The first bytes are not ours.
    #[error("not a handoff header: the magic is {0:02x?}")]
    Magic([u8; 4]),
    /// A version this code does not speak.
    #[error("handoff header version {0}, this side speaks {VERSION}")]
    Version(u8),
    /// A type this version does not know.
    #[error("unknown handoff message type {0}")]
    Type(u8),
    /// A detail this version does not know, or of `Mine` no state of a connection.
    #[error("unknown handoff detail {0}")]
    Detail(u16),
    /// A flag this version does not know, a shift over 14, or a shift without its flag.
    #[error("handoff options that cannot be: flags {flags:#06x}, window scales {wscale:#04x}")]
    Options {
        /// The flags as received.
        flags: u16,
        /// Both shifts as received.
        wscale: u8,
    },
    /// The reserved byte is not zero.
    #[error("reserved byte of the handoff header is {0:#04x}, not zero")]
    Reserved(u8),
}

impl Header {
    /// Returns the header as it stands on the wire, tagged for `tuple` with `key`. `Mine` must come with a state, and
    /// nothing else may: a reader would take the one for the other.
    pub fn emit(&self, tuple: &FourTuple, key: &TagKey) -> [u8; HEADER_BYTES] {
        debug_assert_eq!(self.kind == MessageType::Mine, self.detail.state().is_some());
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[5] = self.kind as u8;
        out[6..8].copy_from_slice(&self.flags().to_be_bytes());
        let scale = self.negotiated.wscale.unwrap_or(WindowScale { send: 0, receive: 0 });
        debug_assert!(scale.send <= WSCALE_MAX && scale.receive <= WSCALE_MAX);
        out[8] = scale.send << 4 | scale.receive & 0x0f;
        out[9] = self.key_id.0;
        out[10..12].copy_from_slice(&self.negotiated.mss.to_be_bytes());
        out[12..16].copy_from_slice(&self.base_seq.0.to_be_bytes());
        out[16..20].copy_from_slice(&self.base_ack.0.to_be_bytes());
        out[20..24].copy_from_slice(&self.tsval.to_be_bytes());
        out[24..28].copy_from_slice(&self.tsecr.to_be_bytes());
        out[28..30].copy_from_slice(&self.detail.to_wire().to_be_bytes());
        out[30] = self.lcore;
        out[32..40].copy_from_slice(&self.generation.0.to_be_bytes());
        out[40..48].copy_from_slice(&self.issued.0.to_be_bytes());
        let tag = Tag::of(key, first(&out), tuple);
        out[48..].copy_from_slice(&tag.to_bytes());
        out
    }

    /// Reads a header and the tag it came with. The tag is not yet believed: see [`Tag::verify`].
    ///
    /// # Errors
    /// Returns what is wrong with the first field that is not as version 1 has it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Tag), HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderError::Truncated(bytes.len()))?;
        let magic = take(bytes, 0);
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        if bytes[4] != VERSION {
            return Err(HeaderError::Version(bytes[4]));
        }
        let kind = MessageType::from_wire(bytes[5]).ok_or(HeaderError::Type(bytes[5]))?;
        let detail = u16::from_be_bytes(take(bytes, 28));
        let header = Self {
            kind,
            negotiated: negotiated(
                u16::from_be_bytes(take(bytes, 6)),
                bytes[8],
                u16::from_be_bytes(take(bytes, 10)),
            )?,
            key_id: KeyId(bytes[9]),
            base_seq: Seq(u32::from_be_bytes(take(bytes, 12))),
            base_ack: Seq(u32::from_be_bytes(take(bytes, 16))),
            tsval: u32::from_be_bytes(take(bytes, 20)),
            tsecr: u32::from_be_bytes(take(bytes, 24)),
            detail: Detail::from_wire(kind, detail).ok_or(HeaderError::Detail(detail))?,
            lcore: bytes[30],
            generation: Generation(u64::from_be_bytes(take(bytes, 32))),
            issued: Micros(u64::from_be_bytes(take(bytes, 40))),
        };
        if bytes[31] != 0 {
            return Err(HeaderError::Reserved(bytes[31]));
        }
        Ok((header, Tag::from_bytes(take(bytes, 48))))
    }

    fn flags(&self) -> u16 {
        let negotiated = &self.negotiated;
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        flag(negotiated.wscale.is_some(), FLAG_WSCALE)
            | flag(negotiated.sack, FLAG_SACK)
            | flag(negotiated.timestamps, FLAG_TIMESTAMPS)
            | flag(negotiated.ecn, FLAG_ECN)
    }
}

fn negotiated(flags: u16, wscale: u8, mss: u16) -> Result<Negotiated, HeaderError> {
    let (send, receive) = (wscale >> 4, wscale & 0x0f);
    let scaled = flags & FLAG_WSCALE != 0;
    let possible = if scaled { send <= WSCALE_MAX && receive <= WSCALE_MAX } else { wscale == 0 };
    if flags & !FLAGS_KNOWN != 0 || !possible {
        return Err(HeaderError::Options { flags, wscale });
    }
    Ok(Negotiated {
        mss,
        wscale: scaled.then_some(WindowScale { send, receive }),
        sack: flags & FLAG_SACK != 0,
        timestamps: flags & FLAG_TIMESTAMPS != 0,
        ecn: flags & FLAG_ECN != 0,
    })
}

/// Returns the part of the emitted header the tag covers.
fn first(header: &[u8; HEADER_BYTES]) -> &[u8; TAGGED_BYTES] {
    match header.first_chunk() {
        Some(covered) => covered,
        None => unreachable!("TAGGED_BYTES is less than HEADER_BYTES"),
    }
}

/// Copies `N` bytes at a constant offset of the header.
fn take<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
