//! The IPv4 header (RFC 791).

use core::net::Ipv4Addr;

use smoltcp::wire::{IpProtocol, Ipv4Packet};

use crate::wire::{ETHERNET_BYTES, Fault, IPV4_BYTES};

/// What an IPv4 packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// Anything else.
    Other,
}

/// An IPv4 header, read and found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source.
    pub source: Ipv4Addr,
    /// Destination.
    pub destination: Ipv4Addr,
    /// Payload.
    pub protocol: Protocol,
    /// Length of header and payload in bytes: the frame may be longer by padding.
    pub total_bytes: usize,
}

impl Ipv4 {
    /// Reads the header of the packet behind the Ethernet header of `frame`.
    ///
    /// # Errors
    /// Anything that keeps a packet from being a whole IPv4 packet without options from a host that can be answered.
    pub fn parse(frame: &[u8]) -> Result<Self, Fault> {
        let packet = frame.get(ETHERNET_BYTES..).ok_or(Fault::Malformed)?;
        let view = Ipv4Packet::new_checked(packet).map_err(|_| Fault::Malformed)?;
        if view.version() != 4 || usize::from(view.header_len()) < IPV4_BYTES {
            return Err(Fault::Malformed);
        }
        if !view.verify_checksum() {
            return Err(Fault::IpChecksum);
        }
        if usize::from(view.header_len()) != IPV4_BYTES {
            return Err(Fault::IpOptions);
        }
        if view.more_frags() || view.frag_offset() != 0 {
            return Err(Fault::IpFragment);
        }
        let (source, destination) = (view.src_addr(), view.dst_addr());
        if source.is_multicast()
            || source.is_broadcast()
            || source.is_unspecified()
            || source.is_loopback()
            || source == destination
        {
            return Err(Fault::SourceInvalid);
        }
        let protocol = match view.next_header() {
            IpProtocol::Tcp => Protocol::Tcp,
            IpProtocol::Udp => Protocol::Udp,
            IpProtocol::Icmp => Protocol::Icmp,
            _ => Protocol::Other,
        };
        Ok(Self { source, destination, protocol, total_bytes: usize::from(view.total_len()) })
    }
}
