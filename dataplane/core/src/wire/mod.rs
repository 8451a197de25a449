//! Frames as they are on the wire: what one is, what a segment says, and how answers are built.
//!
//! Owns everything between bytes and meaning for Ethernet, IPv4, TCP and ICMP, over `smoltcp::wire`. Decides nothing:
//! whoever asks gets a checked view's content or the [`Fault`] that stands in the way.

mod build;
mod icmp;
mod ipv4;
mod segment;
mod syn;

pub use build::{TcpAnswer, Way, answer_echo, answer_tcp, redirect, reset_for, write_tcp};
pub use icmp::quoted_by_icmp_error;
pub use ipv4::{Ipv4, Protocol};
pub use segment::{Flags, Segment, Timestamps};
pub use smoltcp::wire::EthernetAddress as MacAddress;
pub use syn::SynOptions;

use smoltcp::wire::{EthernetFrame, EthernetProtocol};

/// Bytes of an Ethernet header without VLAN tag.
pub const ETHERNET_BYTES: usize = 14;
/// Bytes of an IPv4 header without options; Baton drops packets with options.
pub const IPV4_BYTES: usize = 20;

/// Bytes that timestamps take of every segment (RFC 7323, appendix A).
pub const TIMESTAMPS_BYTES: usize = 12;

/// What stands in the way of understanding a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Lengths or headers contradict each other, or the frame ends too early.
    Malformed,
    /// A wrong IPv4 header checksum.
    IpChecksum,
    /// A fragment.
    IpFragment,
    /// IPv4 options.
    IpOptions,
    /// A source address no client can have.
    SourceInvalid,
    /// Flags that contradict each other, or urgent data.
    TcpFlags,
    /// TCP options that cannot be read.
    TcpOptions,
}

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// ARP.
    Arp,
    /// IPv4.
    Ipv4,
    /// Anything else.
    Other,
}

/// The Ethernet header, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub destination: MacAddress,
    /// Source.
    pub source: MacAddress,
    /// Payload.
    pub carries: Carries,
}

impl Ethernet {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Fault::Malformed`] if the frame is shorter than a header.
    pub fn parse(frame: &[u8]) -> Result<Self, Fault> {
        let view = EthernetFrame::new_checked(frame).map_err(|_| Fault::Malformed)?;
        let carries = match view.ethertype() {
            EthernetProtocol::Arp => Carries::Arp,
            EthernetProtocol::Ipv4 => Carries::Ipv4,
            _ => Carries::Other,
        };
        Ok(Self { destination: view.dst_addr(), source: view.src_addr(), carries })
    }
}

#[cfg(test)]
mod tests;
