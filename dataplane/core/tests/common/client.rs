//! A client of the VIP: it writes its own frames and remembers what the handshake told it.

use handoff_proto::FourTuple;

use super::packets::{ACK, CWR, ECE, FIN, Ip, Mac, PSH, RST, SYN, TcpFrame, read_options};
use super::world::{ROUTER_MAC, SWITCH_MAC, VIP};

/// What a SYN offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) mss: Option<u16>,
    pub(crate) wscale: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    pub(crate) ecn: bool,
}

/// What current stacks offer.
pub(crate) const USUAL: Offer =
    Offer { mss: Some(1460), wscale: Some(9), sack: true, timestamps: true, ecn: false };
/// A client that offers nothing at all.
pub(crate) const BARE: Offer = Offer { mss: None, wscale: None, sack: false, timestamps: false, ecn: false };

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) mac: Mac,
    pub(crate) address: Ip,
    pub(crate) port: u16,
    pub(crate) vip: Ip,
    pub(crate) vip_port: u16,
    pub(crate) isn: u32,
    pub(crate) offer: Offer,
    /// Its timestamp clock.
    pub(crate) clock: u32,
    /// The other side's initial sequence number, once known.
    pub(crate) peer_isn: u32,
    /// The last TSval of the other side.
    pub(crate) echo: u32,
    /// Bytes of the other side it has acknowledged.
    pub(crate) read: u32,
}

impl Client {
    /// A client behind the router, with everything current stacks offer.
    pub(crate) fn new() -> Self {
        Self::with(USUAL)
    }

    pub(crate) fn with(offer: Offer) -> Self {
        Self {
            mac: ROUTER_MAC,
            address: [10, 50, 0, 11],
            port: 33_333,
            vip: VIP,
            vip_port: 80,
            isn: 0xffff_ff00, // close to the wrap, which every story then crosses
            offer,
            clock: 0x0102_0304,
            peer_isn: 0,
            echo: 0,
            read: 0,
        }
    }

    pub(crate) fn at_port(port: u16) -> Self {
        Self { port, ..Self::new() }
    }

    pub(crate) fn tuple(&self) -> FourTuple {
        FourTuple {
            client: self.address.into(),
            client_port: self.port,
            vip: self.vip.into(),
            vip_port: self.vip_port,
        }
    }

    fn bare(&self, seq: u32, ack: u32, flags: u8) -> TcpFrame {
        TcpFrame {
            to: SWITCH_MAC,
            from: self.mac,
            source: self.address,
            destination: self.vip,
            source_port: self.port,
            destination_port: self.vip_port,
            seq,
            ack,
            flags,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    pub(crate) fn syn(&self) -> TcpFrame {
        let Offer { mss, wscale, sack, timestamps, ecn } = self.offer;
        let flags = SYN | if ecn { ECE | CWR } else { 0 };
        let mut options = Vec::new();
        if let Some(mss) = mss {
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
        }
        if sack {
            options.extend([4, 2]);
        }
        if timestamps {
            options.extend([8, 10]);
            options.extend(self.clock.to_be_bytes());
            options.extend([0; 4]);
        }
        if let Some(shift) = wscale {
            options.extend([1, 3, 3, shift]);
        }
        TcpFrame { options, ..self.bare(self.isn, 0, flags) }
    }

    /// Takes in the answer to the SYN.
    pub(crate) fn take_syn_ack(&mut self, answer: &TcpFrame) {
        assert_eq!(answer.flags & (SYN | ACK | FIN | RST), SYN | ACK);
        assert_eq!(answer.ack, self.isn.wrapping_add(1));
        self.peer_isn = answer.seq;
        self.read = 0;
        if let Some((_, stamps)) = read_options(&answer.options).iter().find(|(kind, _)| *kind == 8) {
            self.echo = u32::from_be_bytes(stamps[..4].try_into().expect("four bytes"));
        }
    }

    /// A segment whose first byte is `at` bytes behind the SYN.
    pub(crate) fn segment(&self, at: u32, flags: u8, payload: &[u8]) -> TcpFrame {
        let seq = self.isn.wrapping_add(1).wrapping_add(at);
        let ack = self.peer_isn.wrapping_add(1).wrapping_add(self.read);
        let mut options = Vec::new();
        if self.offer.timestamps {
            options.extend([1, 1, 8, 10]);
            options.extend(self.clock.wrapping_add(7).to_be_bytes());
            options.extend(self.echo.to_be_bytes());
        }
        TcpFrame { options, payload: payload.to_vec(), ..self.bare(seq, ack, flags) }
    }

    pub(crate) fn data(&self, at: u32, payload: &[u8]) -> Vec<u8> {
        self.segment(at, PSH | ACK, payload).frame()
    }

    pub(crate) fn ack(&self, at: u32) -> Vec<u8> {
        self.segment(at, ACK, b"").frame()
    }

    pub(crate) fn fin(&self, at: u32) -> Vec<u8> {
        self.segment(at, FIN | ACK, b"").frame()
    }

    pub(crate) fn rst(&self, at: u32) -> Vec<u8> {
        TcpFrame { options: Vec::new(), ..self.segment(at, RST, b"") }.frame()
    }
}

/// A request for `path`.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: www.example.org\r\n\r\n").into_bytes()
}

/// The length of some bytes as sequence numbers count.
pub(crate) fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("short")
}
