//! What the values of the configuration may be.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handoff_proto::control::VIPS_MAX;
use handoff_proto::{KeyRing, Vip};

use super::{ConfigError, raw};

/// Longest name of an interface: `IFNAMSIZ` less the final zero.
const INTERFACE_BYTES_MAX: usize = 15;
/// Longest name of a backend.
const NAME_BYTES_MAX: usize = 63;

/// The configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the backend, as in the switch's configuration.
    pub name: String,
    /// The interface on which handoffs arrive.
    pub interface: String,
    /// This host on the data network.
    pub address: Ipv4Addr,
    /// Where the switch waits for agents.
    pub switch: SocketAddr,
    /// The keys shared with the switch.
    pub keys: KeyRing,
    /// Where the agent remembers what it changed on the host.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned.
    pub pin_dir: PathBuf,
    /// Whether the agent may change the host, or only check and explain.
    pub manage_host: bool,
    /// Entries of the replay memory.
    pub records: u32,
    /// How often the local servers are probed.
    pub health_interval: Duration,
    /// How long a probe may take.
    pub health_timeout: Duration,
    /// The VIPs this backend serves, at least one.
    pub vips: Vec<ServedVip>,
}

/// A VIP this backend serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedVip {
    /// The VIP's address; IPv6 is not supported yet.
    pub address: Ipv4Addr,
    /// The VIP's port.
    pub port: u16,
    /// How to find out whether the local server is well.
    pub health: HealthProbe,
}

impl ServedVip {
    /// Returns the VIP as the protocol has it.
    pub const fn vip(&self) -> Vip {
        Vip { address: IpAddr::V4(self.address), port: self.port }
    }
}

/// How to find out whether a local server is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthProbe {
    /// It accepts a connection.
    Tcp,
    /// It answers a GET of this path with a status of 200 to 399.
    Http {
        /// The path, beginning with a slash.
        path: String,
    },
}

/// Names the file and the key of a fault.
struct Place<'a> {
    file: &'a Path,
}

impl Place<'_> {
    fn value(&self, key: &str, found: impl std::fmt::Display, allowed: &'static str) -> ConfigError {
        ConfigError::Value {
            file: self.file.to_owned(),
            key: key.to_owned(),
            found: format!("`{found}`"),
            allowed,
        }
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        key: &str,
        text: &str,
        allowed: &'static str,
    ) -> Result<T, ConfigError> {
        text.parse().map_err(|_| self.value(key, text, allowed))
    }

    fn absolute(&self, key: &str, path: String) -> Result<PathBuf, ConfigError> {
        if path.starts_with('/') && path.len() > 1 {
            Ok(path.into())
        } else {
            Err(self.value(key, path, "an absolute path of a directory of the agent's own"))
        }
    }

    fn within(
        &self,
        key: &str,
        value: u64,
        range: std::ops::RangeInclusive<u64>,
        allowed: &'static str,
    ) -> Result<u64, ConfigError> {
        if range.contains(&value) { Ok(value) } else { Err(self.value(key, value, allowed)) }
    }
}

pub(super) fn check(file: &Path, raw: raw::File) -> Result<Config, ConfigError> {
    let place = Place { file };
    let agent = raw.agent;
    let named = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if agent.name.is_empty() || agent.name.len() > NAME_BYTES_MAX || !named(&agent.name) {
        return Err(place.value(
            "agent.name",
            agent.name,
            "1 to 63 letters, digits, dots, dashes, underscores",
        ));
    }
    if agent.interface.is_empty()
        || agent.interface.len() > INTERFACE_BYTES_MAX
        || agent.interface.contains(['/', ' '])
    {
        return Err(place.value("agent.interface", agent.interface, "the name of an interface"));
    }
    let interval = place.within(
        "agent.health_interval_ms",
        agent.health_interval_ms,
        50..=400,
        "50 to 400 milliseconds: a failed server must be known within a second",
    )?;
    let timeout = place.within(
        "agent.health_timeout_ms",
        agent.health_timeout_ms,
        20..=400,
        "20 to 400 milliseconds: a failed server must be known within a second",
    )?;
    Ok(Config {
        address: host_address(&place, "agent.address", &agent.address)?,
        switch: place.parsed("agent.switch", &agent.switch, "an IP address and a port, as 10.70.0.1:7170")?,
        keys: key_ring(Path::new(&agent.key_file))?,
        state_dir: place.absolute("agent.state_dir", agent.state_dir)?,
        pin_dir: place.absolute("agent.pin_dir", agent.pin_dir)?,
        manage_host: agent.manage_host,
        records: u32::try_from(place.within(
            "agent.records",
            agent.records.into(),
            1_024..=16_777_216,
            "1024 to 16777216: twice the new connections of six seconds, and the open ones",
        )?)
        .unwrap_or(u32::MAX),
        health_interval: Duration::from_millis(interval),
        health_timeout: Duration::from_millis(timeout),
        vips: vips(&place, &raw.vip)?,
        name: agent.name,
        interface: agent.interface,
    })
}

fn host_address(place: &Place<'_>, key: &str, text: &str) -> Result<Ipv4Addr, ConfigError> {
    let allowed = "the IPv4 address of one host";
    let address: Ipv4Addr = place.parsed(key, text, allowed)?;
    if address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_link_local()
    {
        return Err(place.value(key, address, allowed));
    }
    Ok(address)
}

fn vips(place: &Place<'_>, raw: &[raw::Vip]) -> Result<Vec<ServedVip>, ConfigError> {
    if raw.is_empty() || raw.len() > VIPS_MAX {
        return Err(place.value("vip", format_args!("{} tables", raw.len()), "1 to 64 [[vip]] tables"));
    }
    let mut vips: Vec<ServedVip> = Vec::with_capacity(raw.len());
    for (position, vip) in raw.iter().enumerate() {
        let key = |name: &str| format!("vip[{position}].{name}");
        let address = host_address(place, &key("address"), &vip.address)?;
        if vip.port == 0 {
            return Err(place.value(&key("port"), 0, "1 to 65535"));
        }
        if vips.iter().any(|other| other.address == address && other.port == vip.port) {
            return Err(place.value(&key("port"), vip.port, "an address and port that no other [[vip]] has"));
        }
        vips.push(ServedVip {
            address,
            port: vip.port,
            health: health_probe(place, &key("health"), &vip.health)?,
        });
    }
    Ok(vips)
}

fn health_probe(place: &Place<'_>, key: &str, text: &str) -> Result<HealthProbe, ConfigError> {
    let printable = |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    match text.strip_prefix("http:") {
        None if text == "tcp" => Ok(HealthProbe::Tcp),
        Some(path) if printable(path) => Ok(HealthProbe::Http { path: path.to_owned() }),
        _ => Err(place.value(key, text, "\"tcp\", or \"http:\" and a path, as \"http:/healthz\"")),
    }
}

fn key_ring(file: &Path) -> Result<KeyRing, ConfigError> {
    let read = |source| ConfigError::Read { file: file.to_owned(), source };
    let mode = std::fs::metadata(file).map_err(read)?.permissions().mode() & 0o7777;
    if mode & !0o600 != 0 || mode & 0o400 == 0 {
        return Err(ConfigError::KeyPermissions { file: file.to_owned(), mode });
    }
    let text = std::fs::read_to_string(file).map_err(read)?;
    KeyRing::from_toml(&text).map_err(|source| ConfigError::Keys { file: file.to_owned(), source })
}
