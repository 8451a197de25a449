//! Frames as the hosts of a world make and read them.

use core::net::Ipv4Addr;

use handoff_proto::FourTuple;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol,
    Ipv4Packet, TcpPacket, TcpRepr, UdpPacket,
};

/// An Ethernet frame, without preamble and checksum.
pub type Bytes = Vec<u8>;

/// Bytes of an Ethernet header.
pub const ETHERNET_BYTES: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4_BYTES: usize = 20;

/// Puts an Ethernet header in front of an IPv4 packet.
#[must_use]
pub fn ethernet(source: EthernetAddress, destination: EthernetAddress, packet: &[u8]) -> Bytes {
    let mut frame = vec![0; ETHERNET_BYTES + packet.len()];
    frame[..6].copy_from_slice(destination.as_bytes());
    frame[6..12].copy_from_slice(source.as_bytes());
    frame[12..14].copy_from_slice(&u16::from(EthernetProtocol::Ipv4).to_be_bytes());
    frame[ETHERNET_BYTES..].copy_from_slice(packet);
    frame
}

/// Makes an ARP packet in its frame; a question goes to everybody.
#[must_use]
pub fn arp(
    operation: ArpOperation,
    source: (Ipv4Addr, EthernetAddress),
    target: (Ipv4Addr, EthernetAddress),
) -> Bytes {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: source.1,
        source_protocol_addr: source.0,
        target_hardware_addr: target.1,
        target_protocol_addr: target.0,
    };
    let mut frame = vec![0; ETHERNET_BYTES + repr.buffer_len()];
    let destination = if operation == ArpOperation::Request { EthernetAddress::BROADCAST } else { target.1 };
    frame[..6].copy_from_slice(destination.as_bytes());
    frame[6..12].copy_from_slice(source.1.as_bytes());
    frame[12..14].copy_from_slice(&u16::from(EthernetProtocol::Arp).to_be_bytes());
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[ETHERNET_BYTES..]));
    frame
}

/// Reads an ARP packet.
#[must_use]
pub fn read_arp(frame: &[u8]) -> Option<ArpRepr> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).ok()?).ok()
}

/// The hardware addresses of a frame: destination, source.
#[must_use]
pub fn addresses(frame: &[u8]) -> Option<(EthernetAddress, EthernetAddress)> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    Some((ethernet.dst_addr(), ethernet.src_addr()))
}

/// The IPv4 packet in a frame, without what pads the frame; `None` unless its header is sound.
#[must_use]
pub fn ipv4_of(frame: &[u8]) -> Option<&[u8]> {
    let payload = frame.get(ETHERNET_BYTES..)?;
    if frame.get(12..14)? != u16::from(EthernetProtocol::Ipv4).to_be_bytes() {
        return None;
    }
    let packet = Ipv4Packet::new_checked(payload).ok()?;
    if packet.version() != 4 || !packet.verify_checksum() {
        return None;
    }
    payload.get(..usize::from(packet.total_len()))
}

/// A TCP segment over IPv4 that was found sound: lengths agree and both checksums hold.
#[derive(Debug)]
pub struct Segment<'a> {
    /// Where it comes from.
    pub source: (Ipv4Addr, u16),
    /// Where it goes to.
    pub destination: (Ipv4Addr, u16),
    /// Its TCP header and payload.
    pub tcp: TcpPacket<&'a [u8]>,
}

impl<'a> Segment<'a> {
    /// Reads the segment in an IPv4 packet.
    #[must_use]
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        if ip.next_header() != IpProtocol::Tcp || !ip.verify_checksum() {
            return None;
        }
        let (source, destination) = (ip.src_addr(), ip.dst_addr());
        let segment = packet.get(usize::from(ip.header_len())..usize::from(ip.total_len()))?;
        let tcp = TcpPacket::new_checked(segment).ok()?;
        if !tcp.verify_checksum(&source.into(), &destination.into()) {
            return None;
        }
        let (from, to) = (tcp.src_port(), tcp.dst_port());
        Some(Self { source: (source, from), destination: (destination, to), tcp })
    }

    /// The 4-tuple of a segment that goes to the VIP.
    #[must_use]
    pub fn tuple_to_vip(&self) -> FourTuple {
        FourTuple {
            client: self.source.0.into(),
            client_port: self.source.1,
            vip: self.destination.0.into(),
            vip_port: self.destination.1,
        }
    }

    /// The 4-tuple of a segment that comes from the VIP.
    #[must_use]
    pub fn tuple_from_vip(&self) -> FourTuple {
        FourTuple {
            client: self.destination.0.into(),
            client_port: self.destination.1,
            vip: self.source.0.into(),
            vip_port: self.source.1,
        }
    }
}

/// The payload of a UDP datagram to `port`, with its source address and port. Its checksum may be absent.
#[must_use]
pub fn read_udp(packet: &[u8], port: u16) -> Option<(Ipv4Addr, u16, &[u8])> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    if ip.next_header() != IpProtocol::Udp {
        return None;
    }
    let datagram = packet.get(usize::from(ip.header_len())..usize::from(ip.total_len()))?;
    let udp = UdpPacket::new_checked(datagram).ok()?;
    let payload = datagram.get(8..usize::from(udp.len()))?;
    (udp.dst_port() == port).then_some((ip.src_addr(), udp.src_port(), payload))
}

/// Makes a UDP datagram without checksum (RFC 768) in its IPv4 packet.
#[must_use]
pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len();
    let mut packet = vec![0; IPV4_BYTES + length];
    {
        let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
        ip.set_version(4);
        ip.set_header_len(20);
        ip.set_total_len(u16::try_from(IPV4_BYTES + length).unwrap_or(u16::MAX));
        ip.set_hop_limit(64);
        ip.set_next_header(IpProtocol::Udp);
        ip.set_src_addr(source.0);
        ip.set_dst_addr(destination.0);
        ip.fill_checksum();
    }
    let mut udp = UdpPacket::new_unchecked(&mut packet[IPV4_BYTES..]);
    udp.set_src_port(source.1);
    udp.set_dst_port(destination.1);
    udp.set_len(u16::try_from(length).unwrap_or(u16::MAX));
    udp.payload_mut().copy_from_slice(payload);
    packet
}

/// Makes a TCP segment in its IPv4 packet.
#[must_use]
pub fn tcp(repr: &TcpRepr<'_>, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let length = IPV4_BYTES + repr.buffer_len();
    let mut packet = vec![0; length];
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    ip.set_version(4);
    ip.set_header_len(20);
    ip.set_total_len(u16::try_from(length).unwrap_or(u16::MAX));
    ip.set_hop_limit(64);
    ip.set_next_header(IpProtocol::Tcp);
    ip.set_src_addr(source);
    ip.set_dst_addr(destination);
    ip.fill_checksum();
    repr.emit(
        &mut TcpPacket::new_unchecked(&mut packet[IPV4_BYTES..]),
        &source.into(),
        &destination.into(),
        &smoltcp::phy::ChecksumCapabilities::default(),
    );
    packet
}
