//! Frames of the self-test: a client's segment, wrapped as the switch wraps it, and what comes back.

use std::net::{IpAddr, Ipv4Addr};

use handoff_proto::header::{HEADER_BYTES, TUNNEL_BYTES_V4};
use handoff_proto::{FourTuple, HANDOFF_PORT, Header, HeaderError, Seq, TagKey};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IPV4_HEADER_LEN,
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    TcpTimestampRepr, UDP_HEADER_LEN, UdpPacket, UdpRepr,
};
use thiserror::Error;

/// Time to live of what we send.
const HOPS: u8 = 64;

/// A MAC address.
pub type Mac = [u8; 6];

/// A TCP segment of a client.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgment number; a segment without ACK has none.
    pub ack: Option<Seq>,
    /// FIN, RST, SYN, PSH or none of these.
    pub control: TcpControl,
    /// TSval and TSecr, if there is the option.
    pub timestamps: Option<(u32, u32)>,
    /// What the client says.
    pub payload: &'a [u8],
}

/// Where a tunnelled frame comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// MAC address of the sender.
    pub source_mac: Mac,
    /// MAC address of the receiver.
    pub destination_mac: Mac,
    /// Outer source.
    pub source: Ipv4Addr,
    /// Outer destination.
    pub destination: Ipv4Addr,
    /// UDP source port: entropy only.
    pub port: u16,
}

/// Why a received frame is not what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Not of the protocol, or cut short, or its lengths disagree.
    #[error("not a packet of the expected kind")]
    Form,
    /// The handoff header is not one.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The tag is wrong.
    #[error("the tag is wrong")]
    Tag,
}

/// An answer of the BPF program, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its header.
    pub header: Header,
    /// What stands behind the header: the client's packet, or the beginning of it.
    pub inner: Vec<u8>,
}

/// A segment that came from a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The connection.
    pub tuple: FourTuple,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgment number, 0 without ACK.
    pub ack: Seq,
    /// Whether it carries SYN, FIN or RST.
    pub syn_fin_rst: bool,
    /// Whether it carries RST.
    pub rst: bool,
    /// What the server says.
    pub payload: Vec<u8>,
}

/// Builds the IPv4 packet of a segment; IPv6 tuples give `None`.
pub fn client_packet(tuple: &FourTuple, segment: &Segment<'_>) -> Option<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (tuple.client, tuple.vip) else {
        return None;
    };
    let tcp = TcpRepr {
        src_port: tuple.client_port,
        dst_port: tuple.vip_port,
        control: segment.control,
        seq_number: sequence(segment.seq),
        ack_number: segment.ack.map(sequence),
        window_len: 502,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: segment.timestamps.map(|(tsval, tsecr)| TcpTimestampRepr { tsval, tsecr }),
        payload: segment.payload,
    };
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: HOPS,
    };
    let mut packet = vec![0; ip.buffer_len() + ip.payload_len];
    let checksums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet[..]), &checksums);
    tcp.emit(
        &mut TcpPacket::new_unchecked(&mut packet[IPV4_HEADER_LEN..]),
        &IpAddress::Ipv4(source),
        &IpAddress::Ipv4(destination),
        &checksums,
    );
    Some(packet)
}

/// Wraps a client's packet as the switch does: Ethernet, IPv4, UDP with checksum 0, handoff header.
pub fn wrapped(path: &Path, header: &Header, tuple: &FourTuple, key: &TagKey, inner: &[u8]) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: path.source,
        dst_addr: path.destination,
        next_header: IpProtocol::Udp,
        payload_len: TUNNEL_BYTES_V4 - IPV4_HEADER_LEN + inner.len(),
        hop_limit: HOPS,
    };
    let udp = UdpRepr { src_port: path.port, dst_port: HANDOFF_PORT };
    let mut checksums = ChecksumCapabilities::default();
    checksums.udp = smoltcp::phy::Checksum::None;
    let mut frame = ethernet(path, ip.buffer_len() + ip.payload_len);
    let packet = &mut frame[ETHERNET_HEADER_LEN..];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet[..]), &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut packet[IPV4_HEADER_LEN..]),
        &IpAddress::Ipv4(path.source),
        &IpAddress::Ipv4(path.destination),
        HEADER_BYTES + inner.len(),
        |payload| {
            payload[..HEADER_BYTES].copy_from_slice(&header.emit(tuple, key));
            payload[HEADER_BYTES..].copy_from_slice(inner);
        },
        &checksums,
    );
    frame
}

/// Puts an Ethernet header in front of `bytes` zero bytes.
fn ethernet(path: &Path, bytes: usize) -> Vec<u8> {
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(path.source_mac),
        dst_addr: EthernetAddress(path.destination_mac),
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut frame = vec![0; ETHERNET_HEADER_LEN + bytes];
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    frame
}

/// Reads a frame as an answer about `tuple`.
///
/// # Errors
/// It is none, or not tagged with `key` for `tuple`.
pub fn answer(frame: &[u8], tuple: &FourTuple, key: &TagKey) -> Result<Answer, FrameError> {
    let ip = ipv4(frame)?;
    let udp = UdpPacket::new_checked(ip.payload()).map_err(|_| FrameError::Form)?;
    if ip.next_header() != IpProtocol::Udp || udp.dst_port() != HANDOFF_PORT || !ip.verify_checksum() {
        return Err(FrameError::Form);
    }
    let payload = udp.payload();
    let (header, tag) = Header::parse(payload)?;
    let Some(tagged) = payload.first_chunk() else { return Err(FrameError::Form) };
    if !tag.verify(key, tagged, tuple) {
        return Err(FrameError::Tag);
    }
    Ok(Answer { header, inner: payload[HEADER_BYTES..].to_vec() })
}

/// Reads a frame as a segment from a VIP to a client.
///
/// # Errors
/// It is none.
pub fn reply(frame: &[u8]) -> Result<Reply, FrameError> {
    let ip = ipv4(frame)?;
    let tcp = TcpPacket::new_checked(ip.payload()).map_err(|_| FrameError::Form)?;
    if ip.next_header() != IpProtocol::Tcp {
        return Err(FrameError::Form);
    }
    Ok(Reply {
        tuple: FourTuple {
            client: ip.dst_addr().into(),
            client_port: tcp.dst_port(),
            vip: ip.src_addr().into(),
            vip_port: tcp.src_port(),
        },
        seq: Seq(tcp.seq_number().0.cast_unsigned()),
        ack: Seq(tcp.ack_number().0.cast_unsigned()),
        syn_fin_rst: tcp.syn() || tcp.fin() || tcp.rst(),
        rst: tcp.rst(),
        payload: tcp.payload().to_vec(),
    })
}

fn ipv4(frame: &[u8]) -> Result<Ipv4Packet<&[u8]>, FrameError> {
    let ethernet = EthernetFrame::new_checked(frame).map_err(|_| FrameError::Form)?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return Err(FrameError::Form);
    }
    Ipv4Packet::new_checked(frame.get(ETHERNET_HEADER_LEN..).unwrap_or_default())
        .map_err(|_| FrameError::Form)
}

fn sequence(seq: Seq) -> TcpSeqNumber {
    TcpSeqNumber(seq.0.cast_signed())
}

const _: () = assert!(TUNNEL_BYTES_V4 == IPV4_HEADER_LEN + UDP_HEADER_LEN + HEADER_BYTES);
