//! Conditions on who asks.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most networks one condition may name.
pub const NETWORK_COUNT_MAX: usize = 4096;

/// Networks, in one of which the client must be. IPv4 clients that are written as IPv6 (RFC 4291, section 2.5.5.2) are IPv4
/// clients. Finding one of n networks takes log n comparisons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientNetworks {
    /// Sorted; none lies in another.
    v4: Box<[Prefix<u32>]>,
    /// Sorted; none lies in another.
    v6: Box<[Prefix<u128>]>,
}

/// The addresses from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix<Address> {
    first: Address,
    last: Address,
    bits: u8,
}

/// Why texts are no networks to compare with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// None is named, or too many.
    #[error("1 to {NETWORK_COUNT_MAX} networks are needed, these are {0}")]
    Count(usize),
    /// It is none.
    #[error("a network is needed, such as \"10.0.0.0/8\" or \"2001:db8::/32\", or an address; {0:?} is none")]
    NoNetwork(String),
    /// It is an address in a network.
    #[error("{written:?} has bits behind its prefix; the network it lies in is \"{meant}\"")]
    HostBits {
        /// What is written.
        written: String,
        /// The network.
        meant: String,
    },
}

impl ClientNetworks {
    /// Compares with these networks, written as prefixes (RFC 4632, section 3.1; RFC 4291, section 2.3) or addresses.
    ///
    /// # Errors
    /// If there is none or one of them is no network.
    pub fn new<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, NetworkError> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut count = 0;
        for text in networks {
            count += 1;
            if count > NETWORK_COUNT_MAX {
                return Err(NetworkError::Count(count));
            }
            match parse(text)? {
                Network::V4(prefix) => v4.push(prefix),
                Network::V6(prefix) => v6.push(prefix),
            }
        }
        if count == 0 {
            return Err(NetworkError::Count(0));
        }
        Ok(Self { v4: outermost(v4), v6: outermost(v6) })
    }

    /// Says whether `client` is in one of them.
    pub fn matches(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(address) => has(&self.v4, address.to_bits(), address.to_bits()),
            IpAddr::V6(address) => has(&self.v6, address.to_bits(), address.to_bits()),
        }
    }

    /// Says whether every network of `other` lies in one of these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.v4.iter().all(|prefix| has(&self.v4, prefix.first, prefix.last))
            && other.v6.iter().all(|prefix| has(&self.v6, prefix.first, prefix.last))
    }
}

/// Says whether one of the networks has all addresses from `first` to `last`.
fn has<Address: Copy + Ord>(networks: &[Prefix<Address>], first: Address, last: Address) -> bool {
    let after = networks.partition_point(|prefix| prefix.first <= first);
    let nearest = after.checked_sub(1).and_then(|at| networks.get(at));
    nearest.is_some_and(|prefix| last <= prefix.last)
}

/// Sorts networks and drops those that lie in others.
fn outermost<Address: Copy + Ord>(mut networks: Vec<Prefix<Address>>) -> Box<[Prefix<Address>]> {
    // Of networks that begin together the widest comes first; prefixes lie in each other or apart.
    networks.sort_unstable_by_key(|prefix| (prefix.first, prefix.bits));
    networks.dedup_by(|later, earlier| later.last <= earlier.last);
    networks.into()
}

enum Network {
    V4(Prefix<u32>),
    V6(Prefix<u128>),
}

fn parse(text: &str) -> Result<Network, NetworkError> {
    let none = || NetworkError::NoNetwork(text.chars().take(64).collect());
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let plain = |bits: &str| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits: Option<u8> = match bits {
        Some(bits) if plain(bits) => Some(bits.parse().map_err(|_| none())?),
        Some(_) => return Err(none()),
        None => None,
    };
    match address.parse().map_err(|_| none())? {
        IpAddr::V4(address) => {
            let bits = bits.unwrap_or(32);
            let beyond = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
            let first = address.to_bits() & !beyond;
            if bits > 32 {
                return Err(none());
            }
            if first != address.to_bits() {
                let meant = format!("{}/{bits}", Ipv4Addr::from_bits(first));
                return Err(NetworkError::HostBits { written: text.to_owned(), meant });
            }
            Ok(Network::V4(Prefix { first, last: first | beyond, bits }))
        }
        IpAddr::V6(address) => {
            let bits = bits.unwrap_or(128);
            let beyond = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
            let first = address.to_bits() & !beyond;
            if bits > 128 {
                return Err(none());
            }
            if first != address.to_bits() {
                let meant = format!("{}/{bits}", Ipv6Addr::from_bits(first));
                return Err(NetworkError::HostBits { written: text.to_owned(), meant });
            }
            Ok(Network::V6(Prefix { first, last: first | beyond, bits }))
        }
    }
}

impl fmt::Display for ClientNetworks {
    /// Writes `10.0.0.0/8|2001:db8::/32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self.v4.iter().map(|prefix| (IpAddr::V4(Ipv4Addr::from_bits(prefix.first)), prefix.bits));
        let v6 = self.v6.iter().map(|prefix| (IpAddr::V6(Ipv6Addr::from_bits(prefix.first)), prefix.bits));
        for (at, (address, bits)) in v4.chain(v6).enumerate() {
            let between = if at == 0 { "" } else { "|" };
            write!(f, "{between}{address}/{bits}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_in_one_of_the_networks_or_not() {
        let networks =
            ["10.2.0.0/16", "10.1.2.3", "10.1.0.0/24", "10.2.3.0/24", "2001:db8::/33", "10.1.0.0/25"];
        let networks = ClientNetworks::new(networks).expect("networks");
        for (client, expected) in [
            ("10.1.255.255", false),
            ("10.2.0.0", true),
            ("10.2.3.4", true),
            ("10.2.4.0", true), // behind the network within the network
            ("10.2.255.255", true),
            ("10.3.0.0", false),
            ("10.1.2.2", false),
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("10.0.255.255", false),
            ("10.1.0.255", true),
            ("10.1.1.0", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::ffff:10.2.0.1", true),
            ("::ffff:10.3.0.1", false),
            ("2001:db8::1", true),
            ("2001:db8:7fff:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db8:8000::", false),
            ("2001:db7:ffff::", false),
        ] {
            assert_eq!(networks.matches(client.parse().expect("an address")), expected, "{client}");
        }
        assert_eq!(networks.to_string(), "10.1.0.0/24|10.1.2.3/32|10.2.0.0/16|2001:db8::/33");
        let all = ClientNetworks::new(["0.0.0.0/0"]).expect("a network");
        assert!(
            all.matches([1, 2, 3, 4].into()) && all.matches([255; 4].into()) && all.matches([0; 4].into())
        );
        assert!(!all.matches(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/8",
            "10/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "::/256",
            "x",
            "10.0.0.0-10.0.0.9",
        ] {
            let expected = NetworkError::NoNetwork(text.to_owned());
            assert_eq!(ClientNetworks::new([text]), Err(expected), "{text}");
        }
        for (written, meant) in [("10.1.0.0/8", "10.0.0.0/8"), ("2001:db8::1/32", "2001:db8::/32")] {
            let expected = NetworkError::HostBits { written: written.to_owned(), meant: meant.to_owned() };
            assert_eq!(ClientNetworks::new([written]), Err(expected));
        }
        assert_eq!(ClientNetworks::new([]), Err(NetworkError::Count(0)));
        assert_eq!(ClientNetworks::new(["::1"; 4097]), Err(NetworkError::Count(4097)));
    }
}
