//! The tunnel between switch and backend: UDP over IPv4, the handoff header, the client's packet.
//!
//! The room puts the outer headers on and reads those of answers. It knows nothing of flows. The UDP checksum is zero (RFC
//! 768; the tag protects what matters), the outer packet is never fragmented and not ECN-capable.

use core::net::{IpAddr, Ipv4Addr};

use handoff_proto::header::{HEADER_BYTES, TAGGED_BYTES, TUNNEL_BYTES_V4};
use handoff_proto::{FourTuple, HANDOFF_PORT, Header, HeaderError, Micros, Tag};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
};
use thiserror::Error;

use crate::frame::{Frame, NoRoom};

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
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
    tag: Tag,
    tagged: [u8; TAGGED_BYTES],
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
        let tuple = inner_tuple(inner).ok_or(UnwrapError::Inner)?;
        Ok(Self { header, tuple, tag, tagged })
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

/// Reads the 4-tuple of the client's packet; its payload may have been cut off.
fn inner_tuple(packet: &[u8]) -> Option<FourTuple> {
    let [first, ..] = *packet else { return None };
    let ip = packet.first_chunk::<IPV4_BYTES>()?;
    let ports: [u8; 4] = *packet.get(IPV4_BYTES..)?.first_chunk()?;
    let [_, _, _, _, _, _, _, _, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *ip;
    let [p0, p1, p2, p3] = ports;
    // Version 4, header of 20 bytes, TCP: the switch wraps nothing else.
    (first == 0x45 && protocol == 6).then_some(FourTuple {
        client: IpAddr::from([s0, s1, s2, s3]),
        client_port: u16::from_be_bytes([p0, p1]),
        vip: IpAddr::from([d0, d1, d2, d3]),
        vip_port: u16::from_be_bytes([p2, p3]),
    })
}

#[cfg(test)]
mod tests;
