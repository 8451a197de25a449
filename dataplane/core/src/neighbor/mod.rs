//! Next hops: which hardware address an IPv4 address has (RFC 826).
//!
//! The room keeps a small fixed set of addresses (backends on the data network, the gateway), says when to ask for them, and
//! takes in what ARP says. A known address is asked for again every [`REFRESH`] and used until it stays silent for
//! [`FORGET`].

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use handoff_proto::Micros;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

/// How often an unknown next hop is asked for.
pub const RETRY: Micros = Micros::from_millis(500);
/// How often a known next hop is asked for again.
pub const REFRESH: Micros = Micros::from_secs(10);
/// How long a next hop is believed in without an answer.
pub const FORGET: Micros = Micros::from_secs(45);
/// Bytes of an ARP frame.
pub const ARP_FRAME_BYTES: usize = 14 + 28;

/// Position of a next hop in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopIndex(u16);

#[derive(Clone, Copy, Debug)]
struct Hop {
    address: Ipv4Addr,
    mac: Option<EthernetAddress>,
    confirmed: Micros,
    ask_at: Micros,
}

/// The next hops.
#[derive(Debug, Default)]
pub struct Neighbors {
    hops: Vec<Hop>,
    /// Where in `hops` an address stands.
    positions: BTreeMap<Ipv4Addr, HopIndex>,
    /// No hop is to be asked for before: spares the look at each of them in nearly every turn of the burst loop.
    none_before: Micros,
}

impl Neighbors {
    /// Returns the entry of an address, made if there is none. Called when a snapshot is applied, not per packet.
    ///
    /// There are at most as many as there ever were backends ([`BACKENDS_MAX`](crate::metrics::BACKENDS_MAX)), and the gateway.
    pub fn entry(&mut self, address: Ipv4Addr, now: Micros) -> HopIndex {
        *self.positions.entry(address).or_insert_with(|| {
            let index = HopIndex(u16::try_from(self.hops.len()).unwrap_or(u16::MAX));
            self.hops.push(Hop { address, mac: None, confirmed: now, ask_at: now });
            self.none_before = self.none_before.min(now);
            index
        })
    }

    /// Returns the hardware address of a next hop, if known.
    pub fn mac(&self, hop: HopIndex) -> Option<EthernetAddress> {
        self.hops.get(usize::from(hop.0))?.mac
    }

    /// Takes in that `address` is at `mac`. Says whether that is news about a next hop; `None` if it is none.
    pub fn learn(&mut self, address: Ipv4Addr, mac: EthernetAddress, now: Micros) -> Option<bool> {
        let HopIndex(position) = *self.positions.get(&address)?;
        let hop = self.hops.get_mut(usize::from(position))?;
        let news = hop.mac != Some(mac);
        hop.mac = Some(mac);
        hop.confirmed = now;
        hop.ask_at = now.plus(REFRESH);
        Some(news)
    }

    /// Returns the next address to ask for, if one is due, and notes that it is being asked for.
    pub fn due(&mut self, now: Micros) -> Option<Ipv4Addr> {
        if now < self.none_before {
            return None;
        }
        let Some(hop) = self.hops.iter_mut().find(|hop| hop.ask_at <= now) else {
            // What is learned from here on only puts questions off.
            self.none_before = self.hops.iter().map(|hop| hop.ask_at).min().unwrap_or(Micros(u64::MAX));
            return None;
        };
        hop.ask_at = now.plus(RETRY);
        if hop.mac.is_some() && now.since(hop.confirmed) > FORGET {
            hop.mac = None;
        }
        Some(hop.address)
    }

    /// Lists the next hops.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, Option<EthernetAddress>)> {
        self.hops.iter().map(|hop| (hop.address, hop.mac))
    }
}

/// An ARP packet for IPv4 over Ethernet, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// It asks; otherwise it answers.
    pub is_request: bool,
    /// Who says it.
    pub sender: Ipv4Addr,
    /// Where the sender is.
    pub sender_mac: EthernetAddress,
    /// Whom it asks for, or answers.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads the ARP packet of a frame; `None` if it is not one for IPv4 over Ethernet or its sender is no unicast address.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let is_request = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return None,
        };
        source_hardware_addr.is_unicast().then_some(Self {
            is_request,
            sender: source_protocol_addr,
            sender_mac: source_hardware_addr,
            target: target_protocol_addr,
        })
    }
}

/// Builds the reply that `address` is at `mac`, to `to`.
pub fn reply(address: Ipv4Addr, mac: EthernetAddress, to: &Arp) -> [u8; ARP_FRAME_BYTES] {
    emit(ArpOperation::Reply, (address, mac), (to.sender, to.sender_mac), to.sender_mac)
}

/// Builds the broadcast question where `address` is.
pub fn request(address: Ipv4Addr, from: Ipv4Addr, mac: EthernetAddress) -> [u8; ARP_FRAME_BYTES] {
    let unknown = EthernetAddress([0; 6]);
    emit(ArpOperation::Request, (from, mac), (address, unknown), EthernetAddress::BROADCAST)
}

/// Builds the announcement that `address` is at `mac` (RFC 5227, section 2.3).
pub fn announcement(address: Ipv4Addr, mac: EthernetAddress) -> [u8; ARP_FRAME_BYTES] {
    request(address, address, mac)
}

fn emit(
    operation: ArpOperation,
    (source_protocol_addr, source_hardware_addr): (Ipv4Addr, EthernetAddress),
    (target_protocol_addr, target_hardware_addr): (Ipv4Addr, EthernetAddress),
    destination: EthernetAddress,
) -> [u8; ARP_FRAME_BYTES] {
    let mut bytes = [0; ARP_FRAME_BYTES];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    EthernetRepr { src_addr: source_hardware_addr, dst_addr: destination, ethertype: EthernetProtocol::Arp }
        .emit(&mut frame);
    let arp = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    };
    arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

#[cfg(test)]
mod tests;
