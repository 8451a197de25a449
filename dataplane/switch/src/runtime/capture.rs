//! Copies of the frames of chosen connections, as one lcore receives and sends them.
//!
//! A [`Tap`] is made by control and put into an lcore for as long as a capture runs. The lcore copies matching frames into
//! buffers that were made with it; control takes them out and gives the buffers back. Where none is free, the frame is
//! counted as lost: the packet path neither waits nor allocates. Without a capture it pays for asking whether there is one.

use core::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_core::wire::ETHERNET_BYTES;
use crossbeam::queue::ArrayQueue;
use handoff_proto::header::HEADER_BYTES;
use handoff_proto::{HANDOFF_PORT, Micros};

/// Longest frame that is kept whole, in bytes; of longer ones the beginning. No frame of the door is longer.
pub const SNAP_BYTES: usize = 2048;

const ETHERTYPE_AT: usize = 12;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const IPV4_BYTES: usize = 20;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const UDP_BYTES: usize = 8;
const ICMP_BYTES: usize = 8;
/// Destination unreachable, time exceeded, parameter problem (RFC 792): these quote a packet.
const ICMP_ERRORS: [u8; 3] = [3, 11, 12];
/// A packet in an ICMP error in the tunnel is the deepest there is.
const DEPTH_MAX: usize = 3;

/// Address and port.
type Endpoint = (Ipv4Addr, u16);

/// Whose frames are kept. Both directions belong to a connection, and so do its packets in the tunnel and ICMP errors about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The client.
    pub client: Ipv4Addr,
    /// Its port; any if none.
    pub client_port: Option<u16>,
    /// The VIP; any if none.
    pub vip: Option<(Ipv4Addr, u16)>,
}

impl Filter {
    /// Says whether an Ethernet frame belongs to such a connection. Frames that are not what they should be do not.
    pub fn matches(&self, frame: &[u8]) -> bool {
        let is_ipv4 = frame.get(ETHERTYPE_AT..ETHERNET_BYTES).is_some_and(|found| found == ETHERTYPE_IPV4);
        let packet = frame.get(ETHERNET_BYTES..).filter(|_| is_ipv4);
        packet
            .and_then(|packet| ends(packet, DEPTH_MAX))
            .is_some_and(|(one, other)| self.is_between(one, other) || self.is_between(other, one))
    }

    fn is_between(&self, client: Endpoint, vip: Endpoint) -> bool {
        client.0 == self.client
            && self.client_port.is_none_or(|port| port == client.1)
            && self.vip.is_none_or(|wanted| wanted == vip)
    }
}

/// Finds source and destination of the TCP segment in an IPv4 packet: its own, one in the tunnel, one that an ICMP error quotes.
/// Only headers are read; what is behind them may be cut off.
fn ends(packet: &[u8], depth: usize) -> Option<(Endpoint, Endpoint)> {
    let header: &[u8; IPV4_BYTES] = packet.first_chunk()?;
    let header_bytes = usize::from(header[0] & 0x0f) * 4;
    let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    if header[0] >> 4 != 4 || header_bytes < IPV4_BYTES || !is_first || depth == 0 {
        return None;
    }
    let content = packet.get(header_bytes..)?;
    match header[9] {
        PROTOCOL_TCP => {
            let [s0, s1, d0, d1] = *content.first_chunk()?;
            let address = |at: usize| Some(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?));
            let (source, destination) = (address(12)?, address(16)?);
            Some(((source, u16::from_be_bytes([s0, s1])), (destination, u16::from_be_bytes([d0, d1]))))
        }
        PROTOCOL_UDP => {
            let [_, _, d0, d1] = *content.first_chunk()?;
            let is_handoff = u16::from_be_bytes([d0, d1]) == HANDOFF_PORT;
            ends(content.get(UDP_BYTES + HEADER_BYTES..).filter(|_| is_handoff)?, depth - 1)
        }
        PROTOCOL_ICMP => {
            let is_error = ICMP_ERRORS.contains(content.first()?);
            ends(content.get(ICMP_BYTES..).filter(|_| is_error)?, depth - 1)
        }
        _ => None,
    }
}

/// A copy of a frame.
#[derive(Debug)]
pub struct Captured {
    /// When the lcore began the turn in which it received or sent it, by the switch's clock.
    pub time: Micros,
    /// Bytes the frame had.
    pub frame_bytes: usize,
    buffer: Box<[u8; SNAP_BYTES]>,
}

impl Captured {
    fn empty() -> Self {
        Self { time: Micros(0), frame_bytes: 0, buffer: Box::new([0; SNAP_BYTES]) }
    }

    fn fill(&mut self, frame: &[u8], now: Micros) {
        let kept = frame.len().min(SNAP_BYTES);
        if let (Some(room), Some(bytes)) = (self.buffer.get_mut(..kept), frame.get(..kept)) {
            room.copy_from_slice(bytes);
        }
        (self.time, self.frame_bytes) = (now, frame.len());
    }

    /// Returns what was kept of the frame: its first [`SNAP_BYTES`].
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.frame_bytes.min(SNAP_BYTES)).unwrap_or_default()
    }
}

/// What one lcore keeps of the frames it receives and sends.
#[derive(Debug)]
pub struct Tap {
    filter: Filter,
    free: ArrayQueue<Captured>,
    kept: ArrayQueue<Captured>,
    lost: AtomicU64,
}

impl Tap {
    /// Makes a tap with room for `room` frames, at least 1, that control has not taken out yet.
    pub fn new(filter: Filter, room: usize) -> Self {
        let room = room.max(1);
        let free = ArrayQueue::new(room);
        for _ in 0..room {
            if free.push(Captured::empty()).is_err() {
                unreachable!("there are as many places as buffers")
            }
        }
        Self { filter, free, kept: ArrayQueue::new(room), lost: AtomicU64::new(0) }
    }

    /// Copies a frame if it belongs to a chosen connection. Only the lcore calls this.
    #[cold]
    pub fn look_at(&self, frame: &[u8], now: Micros) {
        if !self.filter.matches(frame) {
            return;
        }
        let kept = self.free.pop().and_then(|mut copy| {
            copy.fill(frame, now);
            self.kept.push(copy).ok()
        });
        if kept.is_none() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shows the oldest copy and makes its room free again; `None` if there is none. Only control calls this.
    pub fn take<T>(&self, show: impl FnOnce(&Captured) -> T) -> Option<T> {
        let copy = self.kept.pop()?;
        let shown = show(&copy);
        if self.free.push(copy).is_err() {
            unreachable!("there are as many places as buffers")
        }
        Some(shown)
    }

    /// Returns how many frames were not kept for lack of room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Endpoint = (Ipv4Addr::new(10, 50, 0, 11), 33_333);
    const VIP: Endpoint = (Ipv4Addr::new(10, 60, 0, 100), 80);
    const SWITCH: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
    const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 11);

    /// An IPv4 packet (RFC 791, figure 4), checksums left 0.
    fn ipv4(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, content: &[u8]) -> Vec<u8> {
        let total = u16::try_from(20 + content.len()).expect("short").to_be_bytes();
        let head = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0];
        [&head[..], &source.octets(), &destination.octets(), content].concat()
    }

    fn tcp(source: Endpoint, destination: Endpoint) -> Vec<u8> {
        let ports = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
        ipv4(6, source.0, destination.0, &[&ports[..], &[0; 16]].concat())
    }

    /// A packet in the tunnel, as docs/PROTOCOL.md draws it: outer IPv4, UDP to port 7171, 56 bytes, the packet.
    fn tunnelled(port: u16, inner: &[u8]) -> Vec<u8> {
        let udp = [&[0xc0, 0x00][..], &port.to_be_bytes(), &[0; 4], b"BTON", &[0; 52], inner].concat();
        ipv4(17, SWITCH, BACKEND, &udp)
    }

    fn icmp(kind: u8, quoted: &[u8]) -> Vec<u8> {
        ipv4(1, Ipv4Addr::new(10, 50, 0, 254), VIP.0, &[&[kind, 1, 0, 0, 0, 0, 0, 0][..], quoted].concat())
    }

    fn frame(packet: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &[0x08, 0x00], packet].concat()
    }

    const ALL: Filter = Filter { client: CLIENT.0, client_port: None, vip: None };
    const ONE: Filter = Filter { client: CLIENT.0, client_port: Some(CLIENT.1), vip: Some(VIP) };

    #[test]
    fn a_connection_is_known_in_all_its_forms() {
        let (to, from) = (tcp(CLIENT, VIP), tcp(VIP, CLIENT));
        let forms = [
            to.clone(),
            from.clone(),
            tunnelled(7171, &to),
            tunnelled(7171, &to[..40]),
            icmp(3, &from),
            icmp(11, &from[..28]),
            tunnelled(7171, &icmp(3, &from[..28])),
        ];
        for (form, packet) in forms.iter().enumerate() {
            assert!(ONE.matches(&frame(packet)), "form {form}");
            assert!(ALL.matches(&frame(packet)), "form {form}");
            let strange = Filter { client: Ipv4Addr::new(10, 50, 0, 12), ..ALL };
            assert!(!strange.matches(&frame(packet)), "form {form}");
        }
    }

    #[test]
    fn ports_and_vips_tell_connections_apart() {
        let other_port = tcp((CLIENT.0, 33_334), VIP);
        let other_vip = tcp(CLIENT, (VIP.0, 81));
        let turned = tcp((VIP.0, CLIENT.1), (CLIENT.0, VIP.1));
        for packet in [&other_port, &other_vip, &turned] {
            assert!(ALL.matches(&frame(packet)));
            assert!(!ONE.matches(&frame(packet)));
            assert!(!ONE.matches(&frame(&tunnelled(7171, packet))));
        }
    }

    #[test]
    fn other_traffic_of_the_client_is_none_of_it() {
        let to = tcp(CLIENT, VIP);
        let fragment = [&to[..6], &[0x00, 0x01], &to[8..]].concat();
        let dns = ipv4(17, CLIENT.0, VIP.0, &[0x82, 0x35, 0, 53, 0, 8, 0, 0]);
        let deep = tunnelled(7171, &tunnelled(7171, &tunnelled(7171, &to)));
        for packet in [fragment, dns, tunnelled(7170, &to), icmp(8, &to), icmp(0, &to), deep] {
            assert!(!ALL.matches(&frame(&packet)), "{packet:02x?}");
        }
        let tagged = [&[2; 12][..], &[0x81, 0x00, 0, 1, 0x08, 0x00], &to].concat();
        assert!(!ALL.matches(&tagged));
    }

    #[test]
    fn no_cut_and_no_header_length_makes_it_read_beyond() {
        let whole = frame(&tunnelled(7171, &icmp(3, &tcp(VIP, CLIENT))));
        for cut in 0..whole.len() {
            let is_enough = cut >= 14 + 20 + 8 + 56 + 20 + 8 + 24;
            assert_eq!(ONE.matches(&whole[..cut]), is_enough, "cut at {cut}");
        }
        for first in 0..=255 {
            let mut packet = tcp(CLIENT, VIP);
            packet[0] = first;
            assert_eq!(ONE.matches(&frame(&packet)), first == 0x45, "{first:#x}");
        }
    }

    #[test]
    fn what_is_kept_is_taken_in_order_and_what_finds_no_room_is_counted() {
        let tap = Tap::new(ALL, 2);
        let kept = frame(&tcp(CLIENT, VIP));
        let long = [&kept[..], &[7; SNAP_BYTES]].concat();
        tap.look_at(&frame(&tcp(VIP, (SWITCH, 1))), Micros(1));
        assert!(tap.take(|_| ()).is_none(), "another's");
        tap.look_at(&kept, Micros(2));
        tap.look_at(&long, Micros(3));
        tap.look_at(&kept, Micros(4));
        assert_eq!(tap.lost(), 1);
        let shown = |copy: &Captured| (copy.time, copy.frame_bytes, copy.bytes().to_vec());
        assert_eq!(tap.take(shown), Some((Micros(2), kept.len(), kept.clone())));
        // A place is free again at once.
        tap.look_at(&kept, Micros(5));
        assert_eq!(tap.take(shown), Some((Micros(3), long.len(), long[..SNAP_BYTES].to_vec())));
        assert_eq!(tap.take(|copy| copy.time), Some(Micros(5)));
        assert!(tap.take(|_| ()).is_none());
        assert_eq!(tap.lost(), 1);
    }
}
