//! A connection that was handed off: what the kernel makes of a base segment and the header beside it, played by smoltcp.
//!
//! smoltcp makes no sockets in the middle of a connection. So it is led through a handshake with the options the header
//! names, and from then on the numbers it chose for itself are translated into those the switch had promised the client:
//! its sequence numbers, its window scale and its timestamps. Everything else is its own.

use core::net::Ipv4Addr;

use handoff_proto::header::Header;
use handoff_proto::tcp::TcpState;
use handoff_proto::{Micros, Seq};
use smoltcp::socket::tcp;
use smoltcp::wire::{TcpControl, TcpOption, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use crate::backend::server::Server;
use crate::packet::{self, IPV4_BYTES, Segment};
use crate::stack::{Stack, StackSettings, timestamp_at};

/// How long a server repeats what nobody acknowledges: about what Linux takes (tcp_retries2).
const PATIENCE: Micros = Micros::from_secs(15 * 60);

/// What does not change between the sockets of a host.
#[derive(Clone, Copy, Debug)]
pub struct HostSettings {
    /// MTU of its interface.
    pub mtu_bytes: usize,
    /// Receive buffer of a socket.
    pub receive_bytes: usize,
    /// Send buffer of a socket.
    pub send_bytes: usize,
}

/// A socket made by a handoff, and the server's side of it.
pub struct HandedOff {
    stack: Stack,
    server: Server,
    created: Micros,
    client: (Ipv4Addr, u16),
    vip: (Ipv4Addr, u16),
    /// Added to smoltcp's sequence numbers on their way out.
    shift: u32,
    /// Window shift smoltcp applies, and the one the switch announced.
    window_shifts: (u8, u8),
    has_timestamps: bool,
    /// The client's latest TSval in order (RFC 7323, section 4.3): older ones are not taken.
    recent: u32,
    /// Sequence number of the first byte the server reads.
    base_seq: Seq,
    snd_nxt: Seq,
    has_finished: bool,
    server_next: Option<Micros>,
}

impl HandedOff {
    /// Makes the socket of a handoff. `None` if smoltcp would not.
    #[must_use]
    pub fn new(header: &Header, packet: &[u8], host: &HostSettings, seed: u64, now: Micros) -> Option<Self> {
        let segment = Segment::read(packet)?;
        let negotiated = header.negotiated;
        let (client, vip) = (segment.source, segment.destination);
        // The kernel goes on from the timestamp the client echoes, which is the switch's own.
        let offset = header.tsecr.wrapping_sub(timestamp_at(now, 0));
        let settings = StackSettings {
            address: vip.0,
            mtu_bytes: host.mtu_bytes,
            receive_bytes: host.receive_bytes,
            send_bytes: host.send_bytes,
            timestamps: negotiated.timestamps.then_some(offset),
            patience: PATIENCE,
            seed,
        };
        let mut stack = Stack::new(&settings, now);
        stack.socket().listen(vip.1).ok()?;
        let syn = TcpRepr {
            src_port: client.1,
            dst_port: vip.1,
            control: TcpControl::Syn,
            seq_number: number(header.base_seq.sub(1)),
            ack_number: None,
            window_len: 65_535,
            window_scale: negotiated.wscale.map(|scale| scale.send),
            max_seg_size: Some(negotiated.mss),
            sack_permitted: negotiated.sack,
            sack_ranges: [None; 3],
            timestamp: negotiated.timestamps.then_some(TcpTimestampRepr { tsval: header.tsval, tsecr: 0 }),
            payload: &[],
        };
        stack.take(packet::tcp(&syn, client.0, vip.0));
        let answer = stack.poll(now).pop()?;
        let (own_isn, own_shift) = read_syn_ack(&answer)?;
        let ack = TcpRepr {
            control: TcpControl::None,
            seq_number: number(header.base_seq),
            ack_number: Some(number(own_isn.add(1))),
            window_len: segment.tcp.window_len(),
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            timestamp: negotiated.timestamps.then_some(TcpTimestampRepr { tsval: header.tsval, tsecr: 0 }),
            ..syn
        };
        stack.take(packet::tcp(&ack, client.0, vip.0));
        stack.poll(now);
        let announced = negotiated.wscale.map_or(0, |scale| scale.receive);
        Some(Self {
            stack,
            server: Server::default(),
            created: now,
            client,
            vip,
            shift: header.base_ack.0.wrapping_sub(own_isn.add(1).0),
            window_shifts: (own_shift, announced),
            has_timestamps: negotiated.timestamps,
            recent: header.tsval,
            base_seq: header.base_seq,
            snd_nxt: header.base_ack,
            has_finished: false,
            server_next: None,
        })
    }

    /// What the server did.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Gives up the socket, keeps what the server did.
    #[must_use]
    pub fn into_server(self) -> Server {
        self.server
    }

    /// When it was made.
    #[must_use]
    pub const fn created(&self) -> Micros {
        self.created
    }

    /// The state of the socket, `None` once it is closed.
    #[must_use]
    pub fn state(&self) -> Option<TcpState> {
        Some(match self.stack.state() {
            tcp::State::Closed | tcp::State::Listen => return None,
            tcp::State::SynSent => TcpState::SynSent,
            tcp::State::SynReceived => TcpState::SynReceived,
            tcp::State::Established => TcpState::Established,
            tcp::State::FinWait1 => TcpState::FinWait1,
            tcp::State::FinWait2 => TcpState::FinWait2,
            tcp::State::CloseWait => TcpState::CloseWait,
            tcp::State::Closing => TcpState::Closing,
            tcp::State::LastAck => TcpState::LastAck,
            tcp::State::TimeWait => TcpState::TimeWait,
        })
    }

    /// The sequence number it expects next.
    #[must_use]
    pub fn rcv_nxt(&self) -> Seq {
        let bytes = self.server.read.len() + self.stack.unread_bytes();
        let received = self.base_seq.add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.has_finished { received.add(1) } else { received }
    }

    /// The sequence number it sends next.
    #[must_use]
    pub fn snd_nxt(&self) -> Seq {
        self.snd_nxt
    }

    /// Ends it at once: its client is told nothing.
    pub fn vanish(&mut self, now: Micros) {
        self.stack.socket().abort();
        self.stack.poll(now);
    }

    /// Takes a client's packet whose checksums hold.
    pub fn take(&mut self, packet: &[u8]) {
        let Some(segment) = Segment::read(packet) else { return };
        if self.has_timestamps && self.is_old(&segment) {
            return;
        }
        let mut packet = packet.to_vec();
        let mut tcp = TcpPacket::new_unchecked(&mut packet[IPV4_BYTES..]);
        if tcp.ack() {
            let ack = sequence(tcp.ack_number()).sub(self.shift);
            tcp.set_ack_number(number(ack));
            tcp.fill_checksum(&self.client.0.into(), &self.vip.0.into());
        }
        self.stack.take(packet);
    }

    /// PAWS (RFC 7323, section 5): smoltcp takes what Linux would drop.
    fn is_old(&mut self, segment: &Segment<'_>) -> bool {
        if segment.tcp.rst() {
            return false;
        }
        let Some(stamps) = stamps_of(&segment.tcp) else { return false };
        if Seq(stamps.tsval).before(Seq(self.recent)) {
            return true;
        }
        let (from, next) = (sequence(segment.tcp.seq_number()), self.rcv_nxt());
        let length = u32::try_from(segment.tcp.payload().len()).unwrap_or(0);
        if !from.after(next) && !from.add(length).before(next) {
            self.recent = stamps.tsval;
        }
        false
    }

    /// Lets socket and server work; returns the packets it sends.
    pub fn poll(&mut self, now: Micros) -> Vec<Vec<u8>> {
        let mut packets = self.stack.poll(now);
        self.server_next = self.server.work(self.stack.socket(), now);
        self.note_fin();
        packets.extend(self.stack.poll(now));
        packets.iter_mut().for_each(|packet| self.translate(packet));
        packets
    }

    fn note_fin(&mut self) {
        self.has_finished |= matches!(
            self.state(),
            Some(TcpState::CloseWait | TcpState::LastAck | TcpState::Closing | TcpState::TimeWait)
        );
    }

    /// When it wants to be polled again.
    #[must_use]
    pub fn next_poll(&self) -> Option<Micros> {
        self.stack.next_poll().into_iter().chain(self.server_next).min()
    }

    fn translate(&mut self, packet: &mut [u8]) {
        let mut tcp = TcpPacket::new_unchecked(&mut packet[IPV4_BYTES..]);
        let seq = sequence(tcp.seq_number()).add(self.shift);
        tcp.set_seq_number(number(seq));
        let (own, announced) = self.window_shifts;
        let window = (u64::from(tcp.window_len()) << own) >> announced;
        tcp.set_window_len(u16::try_from(window).unwrap_or(u16::MAX));
        let length = u32::try_from(tcp.segment_len()).unwrap_or(0);
        let end = seq.add(length);
        if end.after(self.snd_nxt) && !tcp.rst() {
            self.snd_nxt = end;
        }
        tcp.fill_checksum(&self.vip.0.into(), &self.client.0.into());
    }
}

fn stamps_of(tcp: &TcpPacket<&[u8]>) -> Option<TcpTimestampRepr> {
    let mut options = tcp.options();
    while !options.is_empty() {
        let (rest, option) = TcpOption::parse(options).ok()?;
        if let TcpOption::TimeStamp { tsval, tsecr } = option {
            return Some(TcpTimestampRepr { tsval, tsecr });
        }
        options = rest;
    }
    None
}

/// The ISN and the window shift of smoltcp's SYN-ACK.
fn read_syn_ack(packet: &[u8]) -> Option<(Seq, u8)> {
    let segment = Segment::read(packet)?;
    let mut options = segment.tcp.options();
    let mut shift = 0;
    while !options.is_empty() {
        let (rest, option) = TcpOption::parse(options).ok()?;
        if let TcpOption::WindowScale(scale) = option {
            shift = scale;
        }
        options = rest;
    }
    let is_answer = segment.tcp.syn() && segment.tcp.ack();
    is_answer.then_some((sequence(segment.tcp.seq_number()), shift))
}

/// smoltcp's sequence number.
#[must_use]
pub fn number(seq: Seq) -> TcpSeqNumber {
    TcpSeqNumber(seq.0.cast_signed())
}

/// Ours.
#[must_use]
pub fn sequence(number: TcpSeqNumber) -> Seq {
    Seq(number.0.cast_unsigned())
}
