//! Handoff messages as a backend reads them.

use core::net::Ipv4Addr;

use handoff_proto::header::{HEADER_BYTES, TAGGED_BYTES};
use handoff_proto::tcp::MSS_MIN;
use handoff_proto::{FourTuple, Header, MessageType, Tag, TagKey};
use smoltcp::wire::{EthernetAddress, IpProtocol, Ipv4Packet, TcpPacket};

use crate::packet;

/// How an answer goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ways {
    /// The backend's hardware address, and that of whom it answers.
    pub(super) own: EthernetAddress,
    pub(super) peer: EthernetAddress,
    pub(super) switch: Ipv4Addr,
    /// The UDP source port, which an answer keeps.
    pub(super) port: u16,
}

/// A handoff message, read.
pub(super) struct Message<'a> {
    pub(super) frame: &'a [u8],
    pub(super) header: Header,
    covered: [u8; TAGGED_BYTES],
    tag: Tag,
    pub(super) tuple: FourTuple,
    pub(super) inner: &'a [u8],
    pub(super) ways: Ways,
}

impl<'a> Message<'a> {
    /// Reads what came from a switch's address and port; `None` if the programs would drop it.
    pub(super) fn read(frame: &'a [u8], from: (Ipv4Addr, u16), payload: &'a [u8]) -> Option<Self> {
        let (header, tag) = Header::parse(payload).ok()?;
        let covered = payload.first_chunk()?;
        let inner = payload.get(HEADER_BYTES..)?;
        let (own, peer) = packet::addresses(frame)?;
        let ip = Ipv4Packet::new_checked(inner).ok()?;
        // As in the programs: exactly as long as the tunnel says, TCP, without options.
        let is_exact = usize::from(ip.total_len()) == inner.len() && ip.header_len() == 20;
        if !is_exact || ip.next_header() != IpProtocol::Tcp {
            return None;
        }
        let tcp = TcpPacket::new_checked(inner.get(20..)?).ok()?;
        let tuple = FourTuple {
            client: ip.src_addr().into(),
            client_port: tcp.src_port(),
            vip: ip.dst_addr().into(),
            vip_port: tcp.dst_port(),
        };
        let ways = Ways { own, peer, switch: from.0, port: from.1 };
        // What the kernel would not take for an MSS.
        let is_possible = header.kind != MessageType::Handoff || header.negotiated.mss >= MSS_MIN;
        (is_possible && !tcp.syn()).then_some(Self {
            frame,
            header,
            covered: *covered,
            tag,
            tuple,
            inner,
            ways,
        })
    }

    /// Says whether a holder of the key wrote it.
    pub(super) fn is_authentic(&self, key: &TagKey) -> bool {
        self.tag.verify(key, &self.covered, &self.tuple)
    }
}
