//! The router between clients, fabric and the backend behind it: forwards IPv4, asks for the VIP by ARP, answers for itself.

use core::net::Ipv4Addr;

use handoff_proto::Micros;
use smoltcp::wire::{ArpOperation, ArpRepr, EthernetAddress, Ipv4Packet};

use crate::addresses::{self, mac};
use crate::link::End;
use crate::packet::{self, Bytes};

/// How often it asks for a hardware address it lacks.
const ASK_INTERVAL: Micros = Micros::from_millis(200);

/// The router. It learns where the VIP is; everybody else is where they are.
#[derive(Debug, Default)]
pub struct Router {
    vip_mac: Option<EthernetAddress>,
    asked: Option<Micros>,
}

impl Router {
    /// Takes a frame; what it sends goes to `out` with the end of the cable it leaves by.
    pub fn receive(&mut self, frame: &[u8], now: Micros, out: &mut Vec<(End, Bytes)>) {
        if let Some(arp) = packet::read_arp(frame) {
            self.arp(&arp, out);
            return;
        }
        let for_us = packet::addresses(frame).is_some_and(|(destination, _)| destination == mac::ROUTER);
        let Some(ip) = packet::ipv4_of(frame).filter(|_| for_us) else { return };
        let destination = Ipv4Packet::new_unchecked(ip).dst_addr();
        if let Some((end, next_hop)) = self.way_to(destination, now, out) {
            out.push((end, packet::ethernet(mac::ROUTER, next_hop, &hop(ip))));
        }
    }

    fn way_to(
        &mut self,
        destination: Ipv4Addr,
        now: Micros,
        out: &mut Vec<(End, Bytes)>,
    ) -> Option<(End, EthernetAddress)> {
        if let Some(host) = addresses::client_of(destination) {
            return Some((End::RouterToClient(host), mac::client(host)));
        }
        match addresses::backend_of(destination) {
            Some(addresses::ROUTED_BACKEND) => {
                let number = addresses::ROUTED_BACKEND;
                return Some((End::RouterToBackend(number), mac::backend(number)));
            }
            Some(number) => return Some((End::RouterToFabric, mac::backend(number))),
            None => {}
        }
        if destination == addresses::SWITCH {
            return Some((End::RouterToFabric, mac::SWITCH));
        }
        if destination != addresses::VIP.0 {
            return None;
        }
        if self.vip_mac.is_none() && self.asked.is_none_or(|asked| now.since(asked) >= ASK_INTERVAL) {
            self.asked = Some(now);
            let question = packet::arp(
                ArpOperation::Request,
                (addresses::ROUTER, mac::ROUTER),
                (addresses::VIP.0, EthernetAddress::default()),
            );
            out.push((End::RouterToFabric, question));
        }
        self.vip_mac.map(|mac| (End::RouterToFabric, mac))
    }

    fn arp(&mut self, arp: &ArpRepr, out: &mut Vec<(End, Bytes)>) {
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = arp
        else {
            return;
        };
        if *source_protocol_addr == addresses::VIP.0 {
            self.vip_mac = Some(*source_hardware_addr);
        }
        if *operation == ArpOperation::Request && *target_protocol_addr == addresses::ROUTER {
            let answer = packet::arp(
                ArpOperation::Reply,
                (addresses::ROUTER, mac::ROUTER),
                (*source_protocol_addr, *source_hardware_addr),
            );
            out.push((End::RouterToFabric, answer));
        }
    }
}

/// The packet one hop further (RFC 1812, section 5.3.1).
fn hop(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let mut ip = Ipv4Packet::new_unchecked(&mut packet[..]);
    ip.set_hop_limit(ip.hop_limit().saturating_sub(1));
    ip.fill_checksum();
    packet
}
