//! What a switch has to say beside the verdict on a frame.

use core::net::Ipv4Addr;

use smoltcp::wire::EthernetAddress;

/// Where a switch puts further frames and news for its siblings. The front implements it.
pub trait Outbox {
    /// Sends a copy of `frame` out of the port. Says whether there was a buffer for it.
    fn transmit(&mut self, frame: &[u8]) -> bool;

    /// Tells the switches of the other lcores what this one learned; they take it with `Switch::learn`.
    fn share(&mut self, news: Learned);
}

/// The hardware address of a next hop, as ARP gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The next hop's address.
    pub address: Ipv4Addr,
    /// Its hardware address.
    pub mac: EthernetAddress,
}
