//! Who talks to whom: virtual addresses and the 4-tuple of a connection.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A virtual IP with its port: the address clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vip {
    /// The virtual IP address.
    pub address: IpAddr,
    /// The TCP port, host byte order.
    pub port: u16,
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// The 4-tuple of a client's connection to a VIP, seen from the client: source first. Ports in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FourTuple {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The virtual IP.
    pub vip: IpAddr,
    /// The port at the virtual IP.
    pub vip_port: u16,
}

impl FourTuple {
    /// Returns the VIP half of the tuple.
    pub const fn service(&self) -> Vip {
        Vip { address: self.vip, port: self.vip_port }
    }

    /// Returns the canonical 40 bytes that keyed hashes run over, network byte order: client (16), VIP (16),
    /// client port (2), VIP port (2), four zero bytes. IPv4 addresses stand as IPv4-mapped IPv6 ones (RFC 4291,
    /// section 2.5.5.2), so that both families share one form.
    pub fn to_bytes(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&mapped(self.client));
        bytes[16..32].copy_from_slice(&mapped(self.vip));
        bytes[32..34].copy_from_slice(&self.client_port.to_be_bytes());
        bytes[34..36].copy_from_slice(&self.vip_port.to_be_bytes());
        bytes
    }
}

impl fmt::Display for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", SocketAddr::new(self.client, self.client_port), self.service())
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_bytes_are_network_order_and_ipv4_is_mapped() {
        let tuple = FourTuple {
            client: IpAddr::from([10, 50, 0, 11]),
            client_port: 0x8235,
            vip: IpAddr::from([10, 60, 0, 100]),
            vip_port: 80,
        };
        let mut want = [0u8; 40];
        want[10..16].copy_from_slice(&[0xff, 0xff, 10, 50, 0, 11]);
        want[26..32].copy_from_slice(&[0xff, 0xff, 10, 60, 0, 100]);
        want[32..36].copy_from_slice(&[0x82, 0x35, 0, 80]);
        assert_eq!(tuple.to_bytes(), want);
        assert_eq!(tuple.to_string(), "10.50.0.11:33333 -> 10.60.0.100:80");
    }
}
