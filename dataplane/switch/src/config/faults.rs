//! Collecting what is wrong with a configuration, all of it, each with its place.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::ops::RangeInclusive;

/// One thing that is wrong, or unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a path: `pool[2].backends[0]`, positions counted from 0.
    pub key: String,
    /// What stands there, as it would be written; empty where something is missing.
    pub found: String,
    /// What is allowed, or what to do.
    pub allowed: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found.as_str() {
            "" => write!(f, "{}: {}", self.key, self.allowed),
            found => write!(f, "{} = {found}: {}", self.key, self.allowed),
        }
    }
}

/// How many faults, and how many warnings, are told: who wrote more has a program to mend, not a file.
pub(super) const TOLD_MAX: usize = 1_000;

/// Faults and warnings found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
    /// How many of the faults are that something cannot change while the switch runs.
    pub(super) fixed: usize,
    /// Faults beyond [`TOLD_MAX`].
    untold: usize,
}

impl Findings {
    /// Notes a fault.
    pub(super) fn fault(
        &mut self,
        key: impl Into<String>,
        found: impl fmt::Display,
        allowed: impl Into<String>,
    ) {
        if self.faults.len() < TOLD_MAX {
            self.faults.push(Fault { key: key.into(), found: found.to_string(), allowed: allowed.into() });
        } else {
            self.untold += 1;
        }
    }

    /// Ends the search; returns the faults, the last of which says so if there were too many to be told.
    pub(super) fn into_faults(mut self) -> Vec<Fault> {
        if self.untold > 0 {
            let allowed = format!("{} further faults; correct these first", self.untold);
            self.faults.push(Fault { key: "and more".to_owned(), found: String::new(), allowed });
        }
        self.faults
    }

    /// Notes something that works but is hardly meant.
    pub(super) fn warn(
        &mut self,
        key: impl Into<String>,
        found: impl fmt::Display,
        advice: impl Into<String>,
    ) {
        if self.warnings.len() < TOLD_MAX {
            self.warnings.push(Fault { key: key.into(), found: found.to_string(), allowed: advice.into() });
        }
    }

    /// Takes a number within `range`, or the default if none is given. A faulty one becomes the start of the range, so
    /// that the search for further faults goes on.
    pub(super) fn number<N>(
        &mut self,
        key: &str,
        found: Option<i64>,
        default: N,
        range: RangeInclusive<N>,
    ) -> N
    where
        N: TryFrom<i64> + PartialOrd + fmt::Display + Copy,
    {
        let Some(found) = found else {
            return default;
        };
        match N::try_from(found) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.fault(key, found, format!("allowed are {} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    /// Takes a value that has no default; `needed` says what it should be.
    pub(super) fn required<T>(&mut self, key: &str, found: Option<T>, needed: &str) -> Option<T> {
        if found.is_none() {
            self.fault(key, "", format!("missing; {needed}"));
        }
        found
    }

    /// Takes a unicast IPv4 address on the data network.
    pub(super) fn address(&mut self, key: &str, found: Option<&str>) -> Option<Ipv4Addr> {
        let found = self.required(key, found, ADDRESS_NEEDED)?;
        host_address(found).map_err(|needed| self.fault(key, quoted(found), needed)).ok()
    }

    /// Takes an address with port to listen on.
    pub(super) fn socket(&mut self, key: &str, found: Option<&str>) -> Option<SocketAddr> {
        const NEEDED: &str = "an address with a port from 1 to 65535 is needed, such as \"10.70.0.1:7170\"";
        let found = self.required(key, found, NEEDED)?;
        match found.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Some(address),
            _ => {
                self.fault(key, quoted(found), NEEDED);
                None
            }
        }
    }
}

/// What is said where an address is missing or none.
const ADDRESS_NEEDED: &str = "an IPv4 address such as \"10.60.0.1\" is needed";

/// Reads a unicast IPv4 address, or says what is needed instead.
pub(super) fn host_address(text: &str) -> Result<Ipv4Addr, &'static str> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) if is_unicast(address) => Ok(address),
        Ok(IpAddr::V4(_)) => {
            Err("a host's own address is needed, not a multicast, broadcast, loopback or reserved one")
        }
        Ok(IpAddr::V6(_)) => Err("IPv6 is not supported on the data network yet; an IPv4 address is needed"),
        Err(_) => Err(ADDRESS_NEEDED),
    }
}

/// Shows text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Says whether a host can have this address.
fn is_unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    // RFC 1122, section 3.2.1.3: 0/8 and 127/8 never appear on a wire; RFC 1112, section 4: 224/4 are groups and
    // 240/4 is reserved, the limited broadcast among it.
    first != 0 && first != 127 && first < 224
}
