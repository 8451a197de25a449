//! A TCP segment from a client, read once (RFC 9293, section 3.1).

use core::net::IpAddr;

use handoff_proto::{FourTuple, Seq};
use smoltcp::wire::{IpAddress, TcpOption, TcpPacket};

use crate::wire::{ETHERNET_BYTES, Fault, IPV4_BYTES, Ipv4};

/// The flags Baton decides by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags on the wire")]
pub struct Flags {
    /// Synchronize.
    pub syn: bool,
    /// Acknowledgment number is significant.
    pub ack: bool,
    /// The sender has finished.
    pub fin: bool,
    /// Reset.
    pub rst: bool,
    /// ECN echo; with [`Flags::cwr`] on a SYN it asks for ECN (RFC 3168, section 6.1.1).
    pub ece: bool,
    /// Congestion window reduced.
    pub cwr: bool,
}

/// A timestamps option (RFC 7323, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval.
    pub value: u32,
    /// TSecr.
    pub echo: u32,
}

/// A TCP segment behind the IPv4 header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose it is.
    pub tuple: FourTuple,
    /// Sequence number of its first byte.
    pub seq: Seq,
    /// Acknowledgment number; meaningful with [`Flags::ack`].
    pub ack: Seq,
    /// Its flags.
    pub flags: Flags,
    /// Its window, as it stands in the header.
    pub window: u16,
    /// Its timestamps option, if it has one.
    pub timestamps: Option<Timestamps>,
    /// Offset of the payload in the frame.
    pub payload_at: usize,
    /// Bytes of payload.
    pub payload_bytes: u32,
}

impl Segment {
    /// Reads the segment. `frame` must end where `ip` says; the checksum is verified by [`Segment::checksum_holds`].
    ///
    /// # Errors
    /// Lengths that contradict each other, and flags no sound segment has: SYN with FIN or RST, urgent data, none of
    /// SYN, ACK and RST.
    pub fn parse(frame: &[u8], ip: &Ipv4) -> Result<Self, Fault> {
        let view = view(frame)?;
        let flags = Flags {
            syn: view.syn(),
            ack: view.ack(),
            fin: view.fin(),
            rst: view.rst(),
            ece: view.ece(),
            cwr: view.cwr(),
        };
        let possible = flags.syn || flags.ack || flags.rst;
        if !possible || view.urg() || flags.syn && (flags.fin || flags.rst) {
            return Err(Fault::TcpFlags);
        }
        let header_bytes = usize::from(view.header_len());
        Ok(Self {
            tuple: FourTuple {
                client: IpAddr::V4(ip.source),
                client_port: view.src_port(),
                vip: IpAddr::V4(ip.destination),
                vip_port: view.dst_port(),
            },
            seq: Seq(number(view.seq_number())),
            ack: Seq(number(view.ack_number())),
            flags,
            window: view.window_len(),
            timestamps: timestamps(view.options()),
            payload_at: ETHERNET_BYTES + IPV4_BYTES + header_bytes,
            payload_bytes: u32::try_from(view.payload().len()).map_err(|_| Fault::Malformed)?,
        })
    }

    /// Verifies the checksum over pseudo-header, header and payload.
    pub fn checksum_holds(frame: &[u8], ip: &Ipv4) -> bool {
        view(frame).is_ok_and(|view| {
            view.verify_checksum(&IpAddress::Ipv4(ip.source), &IpAddress::Ipv4(ip.destination))
        })
    }

    /// Returns the payload.
    pub fn payload<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(self.payload_at..).unwrap_or_default()
    }

    /// Returns the sequence number behind the segment: behind its payload, SYN and FIN.
    pub fn end(&self) -> Seq {
        self.seq.add(self.payload_bytes).add(u32::from(self.flags.syn)).add(u32::from(self.flags.fin))
    }
}

/// Sees the TCP segment of a frame whose IPv4 header has no options.
fn view(frame: &[u8]) -> Result<TcpPacket<&[u8]>, Fault> {
    let bytes = frame.get(ETHERNET_BYTES + IPV4_BYTES..).ok_or(Fault::Malformed)?;
    TcpPacket::new_checked(bytes).map_err(|_| Fault::Malformed)
}

/// Takes smoltcp's sequence number, an `i32` inside, as the 32 bits it stands for.
const fn number(seq: smoltcp::wire::TcpSeqNumber) -> u32 {
    seq.0.cast_unsigned()
}

/// Finds the timestamps; options that cannot be read end the search, as a kernel's does.
fn timestamps(mut options: &[u8]) -> Option<Timestamps> {
    // RFC 7323, appendix A: the recommended layout, which every current stack sends.
    if let [1, 1, 8, 10, v0, v1, v2, v3, e0, e1, e2, e3, ..] = *options {
        return Some(Timestamps {
            value: u32::from_be_bytes([v0, v1, v2, v3]),
            echo: u32::from_be_bytes([e0, e1, e2, e3]),
        });
    }
    while !options.is_empty() {
        let (rest, option) = TcpOption::parse(options).ok()?;
        match option {
            TcpOption::TimeStamp { tsval, tsecr } => {
                return Some(Timestamps { value: tsval, echo: tsecr });
            }
            TcpOption::EndOfList => return None,
            _ => options = rest,
        }
    }
    None
}
