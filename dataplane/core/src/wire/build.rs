//! Segments of the switch's own making: answers in place of the frame they answer, and whole ones to clients and to backends.

use core::net::{IpAddr, Ipv4Addr};

use handoff_proto::{FourTuple, Seq};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, IpAddress, IpProtocol, Ipv4Packet,
    Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};

use crate::frame::{Frame, NoRoom};
use crate::wire::{ETHERNET_BYTES, IPV4_BYTES, MacAddress, Segment, Timestamps};

const HOP_LIMIT: u8 = 64;

/// What a segment of the switch's own making says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpAnswer {
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgment number, if the ACK flag is to be set.
    pub ack: Option<Seq>,
    /// SYN, FIN, RST or none.
    pub control: TcpControl,
    /// Window as it stands in the header.
    pub window: u16,
    /// Only with SYN: maximum segment size.
    pub mss: Option<u16>,
    /// Only with SYN: window shift.
    pub window_scale: Option<u8>,
    /// Only with SYN: selective acknowledgments permitted.
    pub sack_permitted: bool,
    /// Timestamps, if the connection uses them.
    pub timestamps: Option<Timestamps>,
    /// ECN echo: on a SYN-ACK, agreement to ECN.
    pub ece: bool,
}

impl TcpAnswer {
    /// An empty segment without options, to be completed.
    pub const fn new(seq: Seq, ack: Option<Seq>, control: TcpControl) -> Self {
        Self {
            seq,
            ack,
            control,
            window: 0,
            mss: None,
            window_scale: None,
            sack_permitted: false,
            timestamps: None,
            ece: false,
        }
    }
}

/// From where to where a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Hardware address it comes from.
    pub source_mac: MacAddress,
    /// Hardware address of its next hop.
    pub destination_mac: MacAddress,
    /// Address and port of its sender.
    pub source: (Ipv4Addr, u16),
    /// Address and port of its receiver.
    pub destination: (Ipv4Addr, u16),
}

impl Way {
    /// From the VIP to the client of a connection; `None` if it is not IPv4.
    pub const fn to_client(
        tuple: &FourTuple,
        source_mac: MacAddress,
        destination_mac: MacAddress,
    ) -> Option<Self> {
        match (tuple.vip, tuple.client) {
            (IpAddr::V4(vip), IpAddr::V4(client)) => Some(Self {
                source_mac,
                destination_mac,
                source: (vip, tuple.vip_port),
                destination: (client, tuple.client_port),
            }),
            _ => None,
        }
    }

    /// As if from the client to the VIP of a connection; `None` if it is not IPv4.
    pub const fn to_vip(
        tuple: &FourTuple,
        source_mac: MacAddress,
        destination_mac: MacAddress,
    ) -> Option<Self> {
        match Self::to_client(tuple, source_mac, destination_mac) {
            Some(way) => Some(Self { source: way.destination, destination: way.source, ..way }),
            None => None,
        }
    }
}

/// Turns the frame that carried `segment` into `answer`, back to the hardware address it came from.
///
/// # Errors
/// The buffer is too small for the answer, which is at most 94 bytes.
pub fn answer_tcp(frame: &mut Frame<'_>, segment: &Segment, answer: &TcpAnswer) -> Result<(), NoRoom> {
    let view = EthernetFrame::new_unchecked(frame.bytes());
    let way = Way::to_client(&segment.tuple, view.dst_addr(), view.src_addr());
    way.map_or(Err(NoRoom(0)), |way| write_tcp(frame, &way, answer, &[])) // segments are read from IPv4 packets only
}

/// Makes the frame, whatever it was, a segment with this payload; the buffer keeps its headroom.
///
/// # Errors
/// The buffer is too small: headers take at most 94 bytes.
pub fn write_tcp(frame: &mut Frame<'_>, way: &Way, answer: &TcpAnswer, payload: &[u8]) -> Result<(), NoRoom> {
    let tcp = TcpRepr {
        src_port: way.source.1,
        dst_port: way.destination.1,
        control: answer.control,
        seq_number: smoltcp_seq(answer.seq),
        ack_number: answer.ack.map(smoltcp_seq),
        window_len: answer.window,
        window_scale: answer.window_scale,
        max_seg_size: answer.mss,
        sack_permitted: answer.sack_permitted,
        sack_ranges: [None; 3],
        timestamp: answer
            .timestamps
            .map(|stamps| TcpTimestampRepr { tsval: stamps.value, tsecr: stamps.echo }),
        payload,
    };
    let tcp_bytes = tcp.buffer_len();
    frame.resize(ETHERNET_BYTES + IPV4_BYTES + tcp_bytes)?;
    let mut ethernet = EthernetFrame::new_unchecked(frame.bytes_mut());
    ethernet.set_src_addr(way.source_mac);
    ethernet.set_dst_addr(way.destination_mac);
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    write_ipv4(frame, way.source.0, way.destination.0, IpProtocol::Tcp, tcp_bytes);
    let bytes = frame.bytes_mut().get_mut(ETHERNET_BYTES + IPV4_BYTES..).unwrap_or_default();
    let mut view = TcpPacket::new_unchecked(bytes);
    let (source, destination) = (IpAddress::Ipv4(way.source.0), IpAddress::Ipv4(way.destination.0));
    tcp.emit(&mut view, &source, &destination, &ChecksumCapabilities::ignored());
    view.set_ece(answer.ece);
    view.fill_checksum(&source, &destination);
    Ok(())
}

/// Returns the RST that ends the connection of `segment` at its sender (RFC 9293, section 3.5.2).
pub const fn reset_for(segment: &Segment) -> TcpAnswer {
    if segment.flags.ack {
        TcpAnswer::new(segment.ack, None, TcpControl::Rst)
    } else {
        let end = segment.seq.add(segment.payload_bytes).add(segment.flags.syn as u32);
        TcpAnswer::new(Seq(0), Some(end), TcpControl::Rst)
    }
}

/// Turns an ICMP echo request into its reply (RFC 792); says whether the frame was one.
pub fn answer_echo(frame: &mut Frame<'_>) -> bool {
    let icmp_at = ETHERNET_BYTES + IPV4_BYTES;
    let request = frame.bytes().get(icmp_at..).is_some_and(|bytes| {
        Icmpv4Packet::new_checked(bytes).is_ok_and(|icmp| {
            icmp.msg_type() == Icmpv4Message::EchoRequest && icmp.msg_code() == 0 && icmp.verify_checksum()
        })
    });
    if !request {
        return false;
    }
    return_to_sender(frame);
    if let Some(bytes) = frame.bytes_mut().get_mut(ETHERNET_BYTES..) {
        let mut ip = Ipv4Packet::new_unchecked(bytes);
        let (source, destination) = (ip.src_addr(), ip.dst_addr());
        ip.set_src_addr(destination);
        ip.set_dst_addr(source);
        ip.set_hop_limit(HOP_LIMIT);
        ip.fill_checksum();
        let mut icmp = Icmpv4Packet::new_unchecked(ip.payload_mut());
        icmp.set_msg_type(Icmpv4Message::EchoReply);
        icmp.fill_checksum();
    }
    true
}

/// Sends a frame on its way to another next hop by rewriting its hardware addresses.
pub fn redirect(frame: &mut Frame<'_>, source: MacAddress, destination: MacAddress) {
    let mut view = EthernetFrame::new_unchecked(frame.bytes_mut());
    view.set_src_addr(source);
    view.set_dst_addr(destination);
}

fn return_to_sender(frame: &mut Frame<'_>) {
    let mut view = EthernetFrame::new_unchecked(frame.bytes_mut());
    let (source, destination) = (view.src_addr(), view.dst_addr());
    view.set_src_addr(destination);
    view.set_dst_addr(source);
    view.set_ethertype(EthernetProtocol::Ipv4);
}

fn write_ipv4(
    frame: &mut Frame<'_>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: IpProtocol,
    payload_len: usize,
) {
    let repr = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: protocol,
        payload_len,
        hop_limit: HOP_LIMIT,
    };
    let bytes = frame.bytes_mut().get_mut(ETHERNET_BYTES..).unwrap_or_default();
    repr.emit(&mut Ipv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
}

const fn smoltcp_seq(seq: Seq) -> TcpSeqNumber {
    TcpSeqNumber(seq.0.cast_signed())
}
