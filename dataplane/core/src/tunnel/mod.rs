//! The tunnel between switch and backend: UDP over IPv4, the handoff header, the client's packet.
//!
//! The room puts the outer headers on and reads those of answers. It knows nothing of flows. The UDP checksum is zero (RFC
//! 768; the tag protects what matters), the outer packet is never fragmented and not ECN-capable.

use core::net::{IpAddr, Ipv4Addr};

use handoff_proto::header::{HEADER_BYTES, TAGGED_BYTES, TUNNEL_BYTES_V4};
use handoff_proto::{FourTuple, HANDOFF_PORT, Header, HeaderError, Micros, Seq, Tag};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, UdpPacket,
};
use thiserror::Error;

use crate::frame::{Frame, NoRoom};

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
const TCP_BYTES: usize = 20;
const HOP_LIMIT: u8 = 64;
/// Where the handoff header lies in a frame.
const HEADER_AT: usize = ETHERNET_BYTES + IPV4_BYTES + UDP_BYTES;
/// Where the client's packet lies in a frame.
const INNER_AT: usize = HEADER_AT + HEADER_BYTES;

const _: () = assert!(IPV4_BYTES + UDP_BYTES + HEADER_BYTES == TUNNEL_BYTES_V4);

/// The outer addresses of a tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Hardware address of the switch's port.
    pub source_mac: EthernetAddress,
    /// Hardware address of the next hop.
    pub destination_mac: EthernetAddress,
    /// The switch.
    pub source: Ipv4Addr,
    /// The backend.
    pub destination: Ipv4Addr,
    /// UDP source port: a hash of the flow, so that RSS and ECMP spread flows and keep each together.
    pub source_port: u16,
}

/// Why a packet cannot be wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WrapError {
    /// The buffer has too little headroom.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The outer packet would be longer than the MTU.
    #[error("{bytes} bytes do not fit an MTU of {mtu_bytes}")]
    TooLong {
        /// Length of the outer IP packet.
        bytes: usize,
        /// What the network carries.
        mtu_bytes: u16,
    },
}

/// Puts tunnel headers between the Ethernet header and the IP packet of `frame`.
///
/// # Errors
/// [`WrapError`]; the frame is unchanged then.
pub fn wrap(
    frame: &mut Frame<'_>,
    outer: &Outer,
    header: &[u8; HEADER_BYTES],
    mtu_bytes: u16,
) -> Result<(), WrapError> {
    let outer_bytes = frame.len().saturating_sub(ETHERNET_BYTES) + TUNNEL_BYTES_V4;
    if outer_bytes > usize::from(mtu_bytes) {
        return Err(WrapError::TooLong { bytes: outer_bytes, mtu_bytes });
    }
    frame.prepend(TUNNEL_BYTES_V4)?;
    write_outer(frame.bytes_mut(), outer, header);
    Ok(())
}

/// Writes new tunnel headers over those of a packet that came back.
///
/// # Errors
/// [`WrapError::TooLong`] as for [`wrap`].
pub fn rewrap(
    frame: &mut Frame<'_>,
    outer: &Outer,
    header: &[u8; HEADER_BYTES],
    mtu_bytes: u16,
) -> Result<(), WrapError> {
    let bytes = frame.len().saturating_sub(ETHERNET_BYTES);
    if bytes > usize::from(mtu_bytes) {
        return Err(WrapError::TooLong { bytes, mtu_bytes });
    }
    write_outer(frame.bytes_mut(), outer, header);
    Ok(())
}

fn write_outer(bytes: &mut [u8], outer: &Outer, header: &[u8; HEADER_BYTES]) {
    let udp_bytes = bytes.len().saturating_sub(ETHERNET_BYTES + IPV4_BYTES);
    let mut ethernet = EthernetFrame::new_unchecked(&mut *bytes);
    ethernet.set_src_addr(outer.source_mac);
    ethernet.set_dst_addr(outer.destination_mac);
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let ip = Ipv4Repr {
        src_addr: outer.source,
        dst_addr: outer.destination,
        next_header: IpProtocol::Udp,
        payload_len: udp_bytes,
        hop_limit: HOP_LIMIT,
    };
    let packet = bytes.get_mut(ETHERNET_BYTES..).unwrap_or_default();
    ip.emit(&mut Ipv4Packet::new_unchecked(packet), &ChecksumCapabilities::default());
    let datagram = bytes.get_mut(ETHERNET_BYTES + IPV4_BYTES..).unwrap_or_default();
    let mut udp = UdpPacket::new_unchecked(datagram);
    udp.set_src_port(outer.source_port);
    udp.set_dst_port(HANDOFF_PORT);
    udp.set_len(u16::try_from(udp_bytes).unwrap_or(u16::MAX));
    udp.set_checksum(0);
    if let Some(place) = bytes.get_mut(HEADER_AT..INNER_AT) {
        place.copy_from_slice(header);
    }
}

/// A handoff message that came back, read but not yet believed.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Its header.
    pub header: Header,
    /// The connection it is about: of the client's packet behind the header.
    pub tuple: FourTuple,
    /// What else that packet says. The tag does not cover it.
    pub inner: Inner,
    tag: Tag,
    tagged: [u8; TAGGED_BYTES],
}

/// A client's packet that came back, perhaps cut off behind its TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Its sequence number.
    pub seq: Seq,
    /// Its acknowledgment number.
    pub ack: Seq,
    /// Bytes of payload it had when it was sent.
    pub payload_bytes: usize,
    /// Whether its sender has nothing more to send.
    pub fin: bool,
    /// Whether it resets the connection.
    pub rst: bool,
    /// Its payload, as far as it came back.
    payload_at: usize,
}

impl Inner {
    /// Returns the payload, as far as it came back in the frame this was read from.
    pub fn payload<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(self.payload_at..).unwrap_or_default()
    }
}

/// Why a datagram is no handoff message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnwrapError {
    /// Not a UDP datagram to the handoff port, or lengths that contradict each other.
    #[error("not a datagram to the handoff port")]
    Datagram,
    /// The header is not one.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// No TCP packet over IPv4 behind the header.
    #[error("no TCP packet behind the handoff header")]
    Inner,
}

impl Answer {
    /// Reads the answer in `frame`, whose outer IPv4 header was found good and has no options.
    ///
    /// # Errors
    /// Says what it is not.
    pub fn parse(frame: &[u8]) -> Result<Self, UnwrapError> {
        let datagram = frame.get(ETHERNET_BYTES + IPV4_BYTES..).ok_or(UnwrapError::Datagram)?;
        let udp = UdpPacket::new_checked(datagram).map_err(|_| UnwrapError::Datagram)?;
        if udp.dst_port() != HANDOFF_PORT || usize::from(udp.len()) != datagram.len() {
            return Err(UnwrapError::Datagram);
        }
        let (header, tag) = Header::parse(udp.payload())?;
        let tagged = *udp.payload().first_chunk().ok_or(UnwrapError::Datagram)?;
        let inner = frame.get(INNER_AT..).ok_or(UnwrapError::Inner)?;
        let (tuple, inner) = read_inner(inner).ok_or(UnwrapError::Inner)?;
        Ok(Self { header, tuple, inner, tag, tagged })
    }

    /// Says whether a holder of the key wrote this header for this connection.
    pub fn is_authentic(&self, key: &handoff_proto::TagKey) -> bool {
        self.tag.verify(key, &self.tagged, &self.tuple)
    }

    /// Says whether it answers something asked within the last `window`.
    pub fn is_fresh(&self, now: Micros, window: Micros) -> bool {
        self.header.issued <= now && now.since(self.header.issued) <= window
    }
}

/// Reads the headers of the client's packet; its payload may have been cut off.
fn read_inner(packet: &[u8]) -> Option<(FourTuple, Inner)> {
    let headers = packet.first_chunk::<{ IPV4_BYTES + TCP_BYTES }>()?;
    let (ip, tcp) = headers.split_at(IPV4_BYTES);
    let (ip, tcp) = (Ipv4Packet::new_unchecked(ip), TcpPacket::new_unchecked(tcp));
    // Without options in front of TCP: the switch wraps nothing else.
    let is_ours = ip.version() == 4
        && usize::from(ip.header_len()) == IPV4_BYTES
        && ip.next_header() == IpProtocol::Tcp
        && usize::from(tcp.header_len()) >= TCP_BYTES;
    let headers_bytes = IPV4_BYTES + usize::from(tcp.header_len());
    let tuple = FourTuple {
        client: IpAddr::V4(ip.src_addr()),
        client_port: tcp.src_port(),
        vip: IpAddr::V4(ip.dst_addr()),
        vip_port: tcp.dst_port(),
    };
    let inner = Inner {
        seq: Seq(tcp.seq_number().0.cast_unsigned()),
        ack: Seq(tcp.ack_number().0.cast_unsigned()),
        payload_bytes: usize::from(ip.total_len()).saturating_sub(headers_bytes),
        fin: tcp.fin(),
        rst: tcp.rst(),
        payload_at: INNER_AT + headers_bytes,
    };
    is_ours.then_some((tuple, inner))
}

#[cfg(test)]
mod tests;
