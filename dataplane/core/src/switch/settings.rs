//! What a switch is told: once at start ([`Settings`]), and whenever control has something new ([`Snapshot`]).

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use handoff_proto::{KeyRing, Micros, Vip};
use smoltcp::wire::EthernetAddress;

use crate::http::ErrorPages;
use crate::policy::{Class, Overload, Pool, RuleAnswer, Rules, VipIndex};

/// Which lcore a switch runs on, and the port it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lcore {
    /// Counted from 0. Lcore 0 asks and announces by ARP, all learn.
    pub number: u8,
    /// How many lcores there are.
    pub count: u8,
    /// Hardware address of the port.
    pub mac: EthernetAddress,
}

/// What does not change while the switch runs; the same for all lcores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The switch's place on the data network.
    pub network: Network,
    /// Largest IP packet the data network carries, in bytes.
    pub mtu_bytes: u16,
    /// Entries the flow table can hold.
    pub flow_count_max: usize,
    /// Unfinished request heads that can be held at a time.
    pub hold_count_max: usize,
    /// How long after its first byte a request head may be unfinished.
    pub hold_timeout: Micros,
    /// How long a flow lives whose client has not yet acknowledged a byte of the backend, after its last packet.
    pub unconfirmed_timeout: Micros,
    /// How long an established flow lives after its last packet.
    pub established_timeout: Micros,
    /// How long a flow lives after its client's FIN or RST and its last packet.
    pub closing_timeout: Micros,
    /// Window shift announced in SYN-ACKs, 0 to 14.
    pub window_scale: u8,
}

/// The switch's place on the data network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The switch's own address.
    pub address: Ipv4Addr,
    /// Bits of the network's prefix, 0 to 32.
    pub prefix_bits: u8,
    /// Next hop towards backends that are not on this network.
    pub gateway: Option<Ipv4Addr>,
}

impl Network {
    /// Says whether `address` is on the network's own segment.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// Says whether a host can have `address`: networks of up to 30 bits lose their first and last.
    pub fn is_host(&self, address: Ipv4Addr) -> bool {
        let host = address.to_bits() & !self.mask();
        !self.contains(address) || self.prefix_bits > 30 || (host != 0 && host != !self.mask())
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_bits.min(32))).unwrap_or(0)
    }
}

/// What control publishes: immutable, complete, replaced as a whole.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The VIPs; positions are `policy::VipIndex`.
    pub vips: Vec<Service>,
    /// The backends; positions are `policy::BackendIndex` and never change meaning while the switch runs.
    pub backends: Vec<Backend>,
    /// The pools; positions are `policy::PoolIndex` and never change meaning while the switch runs.
    pub pools: Vec<Pool>,
    /// What becomes of which request.
    pub rules: Rules,
    /// The service classes; positions are `policy::ClassIndex`. The first is that of rules which name none.
    pub classes: Vec<Class>,
    /// When requests are refused since there are too many.
    pub overload: Overload,
    /// What rules answer themselves; positions are `policy::AnswerIndex`.
    pub answers: Arc<[RuleAnswer]>,
    /// What clients are told whose request cannot be served.
    pub error_pages: Arc<ErrorPages>,
    /// Keys of cookies and tags.
    pub keys: KeyRing,
}

impl Snapshot {
    /// Makes a snapshot in which nothing is served.
    pub fn bare(keys: KeyRing) -> Self {
        Self {
            vips: Vec::new(),
            backends: Vec::new(),
            pools: Vec::new(),
            rules: Rules::default(),
            classes: vec![Class::default()],
            overload: Overload::default(),
            answers: Arc::default(),
            error_pages: Arc::default(),
            keys,
        }
    }

    /// Says what is looked at on connections to a VIP; request heads where it is none.
    pub fn inspect(&self, vip: VipIndex) -> Inspect {
        self.vips.get(usize::from(vip.0)).map_or(Inspect::Http, |service| service.inspect)
    }
}

/// A real server as the packet path sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its address on the data network, to which handoffs are sent.
    pub address: IpAddr,
    /// Whether it may get new connections.
    pub usable: bool,
    /// With how many established connections it gets no more.
    pub connections_max: Option<u32>,
}

impl Backend {
    /// Makes a usable backend without a limit.
    pub const fn at(address: IpAddr) -> Self {
        Self { address, usable: true, connections_max: None }
    }
}

/// A VIP as the packet path sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its address and port.
    pub vip: Vip,
    /// What is looked at before a backend is chosen.
    pub inspect: Inspect,
}

impl Service {
    /// Makes a VIP for HTTP.
    pub const fn http(vip: Vip) -> Self {
        Self { vip, inspect: Inspect::Http }
    }
}

/// What is looked at before a backend is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Inspect {
    /// The head of the first HTTP/1 request.
    #[default]
    Http,
    /// The ClientHello; the connection is handed over still encrypted.
    Tls,
    /// Nothing: the first data is handed over as it is, the content-blind scheme.
    None,
}
