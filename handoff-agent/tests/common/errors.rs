//! ICMP errors of a router about a backend's packets, in the tunnel and without.

use std::net::Ipv4Addr;

use handoff_agent::frame::wrapped;
use handoff_proto::header::Detail;
use handoff_proto::{Header, MessageType};

use super::*;

/// A router between the backend and the client.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 1);
/// Destination unreachable: fragmentation needed (RFC 792; RFC 1191 has the MTU in the second word).
pub const FRAGMENTATION_NEEDED: (u8, u8) = (3, 4);
pub const MTU: u32 = 1280;

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).expect("folded twice")).to_be_bytes()
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).expect("short");
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend_from_slice(payload);
    packet
}

/// What a router quotes of the backend's first packet to the client: its IPv4 header and `bytes` of what follows.
pub fn quoted(client: &Client, bytes: usize) -> Vec<u8> {
    let mut segment = Vec::from(client.tuple.vip_port.to_be_bytes());
    segment.extend_from_slice(&client.tuple.client_port.to_be_bytes());
    segment.extend_from_slice(&BASE_ACK.0.to_be_bytes());
    segment.extend_from_slice(&BASE_SEQ.add(18).0.to_be_bytes());
    segment.resize(1400, 0x50);
    let mut packet = ipv4(VIP, CLIENT, 6, &segment);
    packet.truncate(20 + bytes);
    packet
}

pub fn error((kind, code): (u8, u8), quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&MTU.to_be_bytes());
    message.extend_from_slice(quoted);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    ipv4(ROUTER, VIP, 1, &message)
}

/// The error in the tunnel, tagged for the client's 4-tuple.
pub fn tunnelled(client: &Client, error: &[u8]) -> Vec<u8> {
    let header = Header { kind: MessageType::Icmp, detail: Detail::None, ..client.header() };
    wrapped(&client.path(), &header, &client.tuple, &tag_key(), error)
}

pub fn plain(client: &Client, error: &[u8]) -> Vec<u8> {
    let mut frame = client.plain_frame(b"")[..14].to_vec();
    frame.extend_from_slice(error);
    frame
}
