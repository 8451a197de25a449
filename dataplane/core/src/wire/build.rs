//! Answers, built in place of the frame they answer.

use core::net::{IpAddr, Ipv4Addr};

use handoff_proto::Seq;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, IpAddress, IpProtocol, Ipv4Packet,
    Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};

use crate::frame::{Frame, NoRoom};
use crate::wire::{ETHERNET_BYTES, IPV4_BYTES, MacAddress, Segment, Timestamps};

const HOP_LIMIT: u8 = 64;

/// A segment that answers another.
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

/// Turns the frame that carried `segment` into `answer`, back to the hardware address it came from.
///
/// # Errors
/// The buffer is too small for the answer, which is at most 94 bytes.
pub fn answer_tcp(frame: &mut Frame<'_>, segment: &Segment, answer: &TcpAnswer) -> Result<(), NoRoom> {
    let (IpAddr::V4(client), IpAddr::V4(vip)) = (segment.tuple.client, segment.tuple.vip) else {
        return Err(NoRoom(0)); // unreachable: segments are read from IPv4 packets only
    };
    let tcp = TcpRepr {
        src_port: segment.tuple.vip_port,
        dst_port: segment.tuple.client_port,
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
        payload: &[],
    };
    let tcp_bytes = tcp.buffer_len();
    frame.resize(ETHERNET_BYTES + IPV4_BYTES + tcp_bytes)?;
    return_to_sender(frame);
    write_ipv4(frame, vip, client, IpProtocol::Tcp, tcp_bytes);
    let bytes = frame.bytes_mut().get_mut(ETHERNET_BYTES + IPV4_BYTES..).unwrap_or_default();
    let mut view = TcpPacket::new_unchecked(bytes);
    let (source, destination) = (IpAddress::Ipv4(vip), IpAddress::Ipv4(client));
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
