//! Who is where: the addresses of a world, the same in all of them.
//!
//! Clients hang on a router, the router, the switch and most backends on one fabric; the last backend is behind the router, so that
//! its packets always travel in the tunnel.

use core::net::Ipv4Addr;

use smoltcp::wire::EthernetAddress;

/// Backends of a world.
pub const BACKEND_COUNT: usize = 3;
/// The backend that is behind the router.
pub const ROUTED_BACKEND: usize = 2;
/// The switch's address.
pub const SWITCH: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
/// Where clients connect to.
pub const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 60, 0, 100), 80);
/// The router's address on the fabric.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 254);
/// Bits of the fabric's network.
pub const PREFIX_BITS: u8 = 24;
/// MTU of the fabric.
pub const FABRIC_MTU: u16 = 1500;

/// The address of a client host.
#[must_use]
pub fn client(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 50, 0, 11_u8.saturating_add(small(host)))
}

/// The client host with an address.
#[must_use]
pub fn client_of(address: Ipv4Addr) -> Option<usize> {
    let [10, 50, 0, last] = address.octets() else { return None };
    last.checked_sub(11).map(usize::from)
}

/// The address of a backend.
#[must_use]
pub fn backend(number: usize) -> Ipv4Addr {
    let network = if number == ROUTED_BACKEND { 61 } else { 60 };
    Ipv4Addr::new(10, network, 0, 11_u8.saturating_add(small(number)))
}

/// The backend with an address.
#[must_use]
pub fn backend_of(address: Ipv4Addr) -> Option<usize> {
    (0..BACKEND_COUNT).find(|number| backend(*number) == address)
}

/// Hardware addresses.
pub mod mac {
    use super::{EthernetAddress, small};

    /// The switch's port.
    pub const SWITCH: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    /// All interfaces of the router.
    pub const ROUTER: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 254]);

    /// A client host.
    #[must_use]
    pub fn client(host: usize) -> EthernetAddress {
        EthernetAddress([2, 0, 0, 0, 1, small(host)])
    }

    /// A backend.
    #[must_use]
    pub fn backend(number: usize) -> EthernetAddress {
        EthernetAddress([2, 0, 0, 0, 2, small(number)])
    }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
