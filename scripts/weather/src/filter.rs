//! Which frames the weather is for.

use std::fmt;
use std::str::FromStr;

use etherparse::{IpNumber, LaxSlicedPacket, TransportSlice};
use thiserror::Error;

/// Most kinds a filter may name.
pub const KINDS_MAX: usize = 16;

/// A set of kinds of frames; a frame of any of them meets the weather, every other passes untouched.
///
/// The default is all of IP. What is left alone then, ARP above all, is not what transports are built to survive: one
/// lost ARP answer is a second of silence that tells of the kernel's neighbour table and of nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    All,
    Ip,
    Tcp(Option<u16>),
    Udp(Option<u16>),
}

/// Why a text is no filter.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// Not one of the known kinds.
    #[error("{0:?} is none of: all, ip, tcp, udp, tcp:PORT, udp:PORT (several: with commas between)")]
    Unknown(String),
    /// More than [`KINDS_MAX`].
    #[error("at most {KINDS_MAX} kinds")]
    TooMany,
}

impl Default for Filter {
    fn default() -> Self {
        Self { kinds: vec![Kind::Ip] }
    }
}

impl Filter {
    /// Whether an Ethernet frame is of a kind that this filter names. A port matches as source and as destination; in
    /// later fragments there is none, so only `all`, `ip`, `tcp` and `udp` match those.
    #[must_use]
    pub fn matches(&self, frame: &[u8]) -> bool {
        if self.kinds.contains(&Kind::All) {
            return true;
        }
        let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return false };
        let Some(ip) = packet.net.as_ref().and_then(|net| net.ip_payload_ref()) else { return false };
        let ports = match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
            Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
            _ => None,
        };
        let is = |number: IpNumber, port: Option<u16>| {
            ip.ip_number == number
                && port.is_none_or(|port| ports.is_some_and(|(from, to)| from == port || to == port))
        };
        self.kinds.iter().any(|kind| match *kind {
            Kind::All | Kind::Ip => true,
            Kind::Tcp(port) => is(IpNumber::TCP, port),
            Kind::Udp(port) => is(IpNumber::UDP, port),
        })
    }
}

impl FromStr for Kind {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let unknown = || FilterError::Unknown(text.to_owned());
        let (protocol, port) = match text.split_once(':') {
            Some((protocol, port)) => (protocol, Some(port.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (protocol, port) {
            ("all", None) => Ok(Self::All),
            ("ip", None) => Ok(Self::Ip),
            ("tcp", port) => Ok(Self::Tcp(port)),
            ("udp", port) => Ok(Self::Udp(port)),
            _ => Err(unknown()),
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let kinds = text.split(',').map(str::parse).collect::<Result<Vec<Kind>, _>>()?;
        if kinds.len() > KINDS_MAX { Err(FilterError::TooMany) } else { Ok(Self { kinds }) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => write!(formatter, "all"),
            Self::Ip => write!(formatter, "ip"),
            Self::Tcp(None) => write!(formatter, "tcp"),
            Self::Udp(None) => write!(formatter, "udp"),
            Self::Tcp(Some(port)) => write!(formatter, "tcp:{port}"),
            Self::Udp(Some(port)) => write!(formatter, "udp:{port}"),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, kind) in self.kinds.iter().enumerate() {
            write!(formatter, "{}{kind}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const ARP: [u8; 42] = {
        let mut frame = [0; 42];
        // Ethertype ARP; Ethernet and IPv4 addresses of 6 and 4 bytes; a question.
        (frame[12], frame[13], frame[15], frame[16]) = (0x08, 0x06, 1, 0x08);
        (frame[18], frame[19], frame[21]) = (6, 4, 1);
        frame
    };

    fn v4() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
    }

    fn udp_v4(from: u16, to: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        v4().udp(from, to).write(&mut frame, b"payload").expect("it fits");
        frame
    }

    fn tcp_v6(from: u16, to: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([1; 16], [2; 16], 64)
            .tcp(from, to, 1, 1000)
            .write(&mut frame, b"payload")
            .expect("it fits");
        frame
    }

    fn filter(text: &str) -> Filter {
        text.parse().expect(text)
    }

    #[test]
    fn each_kind_matches_its_own() {
        let (udp, tcp) = (udp_v4(5000, 7171), tcp_v6(5000, 80));
        for (text, on_udp, on_tcp, on_arp) in [
            ("all", true, true, true),
            ("ip", true, true, false),
            ("udp", true, false, false),
            ("tcp", false, true, false),
            ("udp:7171", true, false, false),
            ("udp:5000", true, false, false),
            ("udp:80", false, false, false),
            ("tcp:80", false, true, false),
            ("tcp:7171", false, false, false),
            ("tcp:80,udp:7171", true, true, false),
        ] {
            let filter = filter(text);
            assert_eq!(filter.matches(&udp), on_udp, "{text} on UDP");
            assert_eq!(filter.matches(&tcp), on_tcp, "{text} on TCP");
            assert_eq!(filter.matches(&ARP), on_arp, "{text} on ARP");
            assert_eq!(filter.to_string(), text);
        }
        assert_eq!(Filter::default(), filter("ip"));
    }

    #[test]
    fn a_later_fragment_has_no_port() {
        let mut fragment = udp_v4(5000, 7171);
        (fragment[20], fragment[21]) = (0, 1); // offset 8 bytes
        assert!(filter("udp").matches(&fragment));
        assert!(!filter("udp:7171").matches(&fragment));
    }

    #[test]
    fn no_cut_frame_confuses_it() {
        let every = filter("tcp:80,udp:7171,tcp,udp,ip");
        for frame in [udp_v4(5000, 7171), tcp_v6(5000, 80), ARP.to_vec()] {
            for length in 0..frame.len() {
                let _ = every.matches(&frame[..length]);
            }
        }
        assert!(!every.matches(&udp_v4(1, 2)[..13]), "no Ethernet header, no kind");
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in ["", "arp", "ip:80", "all:1", "tcp:", "tcp:65536", "tcp:80:80", "udp,"] {
            assert!(matches!(text.parse::<Filter>(), Err(FilterError::Unknown(_))), "{text:?}");
        }
        assert_eq!(vec!["tcp"; KINDS_MAX + 1].join(",").parse::<Filter>(), Err(FilterError::TooMany));
    }
}
