//! ICMP errors and the packets they quote (RFC 792).

use core::net::IpAddr;

use handoff_proto::FourTuple;
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet};

use crate::wire::{ETHERNET_BYTES, IPV4_BYTES};

/// Where the quoted packet begins: behind type, code, checksum and four bytes that depend on the type.
const QUOTE_AT: usize = ETHERNET_BYTES + IPV4_BYTES + 8;

/// Returns whose packet an ICMP error in `frame` quotes: the connection between the quoted destination, a client, and the quoted
/// source, a VIP. `None` if it is no whole error about a TCP segment of ours.
pub fn quoted_by_icmp_error(frame: &[u8]) -> Option<FourTuple> {
    let icmp = Icmpv4Packet::new_checked(frame.get(ETHERNET_BYTES + IPV4_BYTES..)?).ok()?;
    let is_error = matches!(
        icmp.msg_type(),
        Icmpv4Message::DstUnreachable | Icmpv4Message::TimeExceeded | Icmpv4Message::ParamProblem
    );
    if !is_error || !icmp.verify_checksum() {
        return None;
    }
    // Most of the quoted packet is cut off: its header is read, its length not checked.
    let quote = frame.get(QUOTE_AT..)?;
    let header = quote.get(..IPV4_BYTES)?;
    let ip = Ipv4Packet::new_unchecked(header);
    let is_ours = ip.version() == 4
        && usize::from(ip.header_len()) == IPV4_BYTES
        && ip.next_header() == IpProtocol::Tcp
        && ip.frag_offset() == 0;
    let [s0, s1, d0, d1] = *quote.get(IPV4_BYTES..)?.first_chunk()?;
    is_ours.then(|| FourTuple {
        client: IpAddr::V4(ip.dst_addr()),
        client_port: u16::from_be_bytes([d0, d1]),
        vip: IpAddr::V4(ip.src_addr()),
        vip_port: u16::from_be_bytes([s0, s1]),
    })
}
