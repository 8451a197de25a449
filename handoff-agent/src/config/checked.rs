//! What the values of the configuration may be.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use handoff_proto::control::VIPS_MAX;
use handoff_proto::{KeyRing, Vip};

use super::faults::{Fault, Faults, quoted};
use super::{KeyFault, raw};
use crate::sys::mounts::BPFFS;

/// Longest name of an interface: `IFNAMSIZ` less the final zero.
const INTERFACE_BYTES_MAX: usize = 15;
/// Longest name of a backend.
const NAME_BYTES_MAX: usize = 63;

const STATE_DIR_DEFAULT: &str = "/run/baton-agent";
const PIN_DIR_DEFAULT: &str = "/sys/fs/bpf/baton";
const HEALTH_DEFAULT: &str = "tcp";
/// The group is found by who listens.
const CGROUP_DEFAULT: &str = "auto";
const RECORDS_DEFAULT: u32 = 262_144;
const HEALTH_INTERVAL_MS_DEFAULT: u64 = 150;
const HEALTH_TIMEOUT_MS_DEFAULT: u64 = 300;

const HOST_ADDRESS_ALLOWED: &str = "the IPv4 address of one host";
const KEY_FILE_ALLOWED: &str =
    "a key file: `batonctl keygen FILE` makes one, and the switch and every agent need that same file";

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
    /// Where the agent leaves what outlives it.
    pub places: Places,
    /// Whether the agent may change the host, or only check and explain.
    pub manage_host: bool,
    /// Entries of the replay memory.
    pub records: u32,
    /// How often the local servers are probed.
    pub health_interval: Duration,
    /// How long a probe may take.
    pub health_timeout: Duration,
    /// Directory of the control group whose load is reported; without one, it is found by who listens.
    pub cgroup: Option<PathBuf>,
    /// The VIPs this backend serves, at least one.
    pub vips: Vec<ServedVip>,
}

/// Where the agent leaves what outlives it: all that undoing it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Where the agent remembers what it changed on the host.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned.
    pub pin_dir: PathBuf,
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

/// Checks everything. `read_keys` is given the path of the key file.
pub(super) fn check(
    raw: raw::File,
    read_keys: impl FnOnce(&Path) -> Result<KeyRing, KeyFault>,
) -> Result<Config, Vec<Fault>> {
    let mut faults = Faults::default();
    let raw::File { agent, load, vip } = raw;
    let name = faults.text(
        "agent.name",
        agent.name.as_deref(),
        "1 to 63 letters, digits, dots, dashes, underscores",
        |text| is_name(text).then(|| text.to_owned()),
    );
    let interface = faults.text(
        "agent.interface",
        agent.interface.as_deref(),
        "the name of an interface, up to 15 characters",
        |text| is_interface(text).then(|| text.to_owned()),
    );
    let address = faults.text("agent.address", agent.address.as_deref(), HOST_ADDRESS_ALLOWED, host_address);
    let switch = faults.text(
        "agent.switch",
        agent.switch.as_deref(),
        "an IP address and a port, as 10.70.0.1:7170",
        |text| text.parse().ok().filter(|switch: &SocketAddr| switch.port() != 0),
    );
    let keys = keys(agent.key_file.as_deref(), &mut faults, read_keys);
    let places = places(&agent, &mut faults);
    let records = faults.number(
        "agent.records",
        agent.records,
        Some(RECORDS_DEFAULT),
        &(1_024..=16_777_216),
        "1024 to 16777216: twice the new connections of six seconds, and the open ones",
    );
    let interval = faults.number(
        "agent.health_interval_ms",
        agent.health_interval_ms,
        Some(HEALTH_INTERVAL_MS_DEFAULT),
        &(50..=400),
        "50 to 400 milliseconds: a failed server must be known within a second",
    );
    let timeout = faults.number(
        "agent.health_timeout_ms",
        agent.health_timeout_ms,
        Some(HEALTH_TIMEOUT_MS_DEFAULT),
        &(20..=400),
        "20 to 400 milliseconds: a failed server must be known within a second",
    );
    let cgroup = faults.text(
        "load.cgroup",
        Some(load.cgroup.as_deref().unwrap_or(CGROUP_DEFAULT)),
        "\"auto\", or the absolute path of a control group's directory, as /sys/fs/cgroup/system.slice/nginx.service",
        |text| if text == CGROUP_DEFAULT { Some(None) } else { absolute(text).map(Some) },
    );
    let vips = vips(&vip.0, &mut faults);
    let config = || {
        Some(Config {
            name: name?,
            interface: interface?,
            address: address?,
            switch: switch?,
            keys: keys?,
            places: places?,
            manage_host: agent.manage_host.unwrap_or(true),
            records: records?,
            health_interval: Duration::from_millis(interval?),
            health_timeout: Duration::from_millis(timeout?),
            cgroup: cgroup?,
            vips,
        })
    };
    faults.judge(config())
}

/// Checks nothing but the places.
pub(super) fn check_places(raw: raw::File) -> Result<Places, Vec<Fault>> {
    let mut faults = Faults::default();
    let places = places(&raw.agent, &mut faults);
    faults.judge(places)
}

fn places(agent: &raw::Agent, faults: &mut Faults) -> Option<Places> {
    let state_dir = faults.text(
        "agent.state_dir",
        Some(agent.state_dir.as_deref().unwrap_or(STATE_DIR_DEFAULT)),
        "an absolute path of a directory of the agent's own",
        absolute,
    );
    let pin_dir = faults.text(
        "agent.pin_dir",
        Some(agent.pin_dir.as_deref().unwrap_or(PIN_DIR_DEFAULT)),
        "an absolute path of a directory of the agent's own, as /sys/fs/bpf/baton: `baton-agent detach` removes it with \
         the pins in it",
        // What has the BPF file system in it, or is it, has the pins of others in it.
        |text| absolute(text).filter(|path| !Path::new(BPFFS).starts_with(path)),
    );
    Some(Places { state_dir: state_dir?, pin_dir: pin_dir? })
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_interface(text: &str) -> bool {
    (1..=INTERFACE_BYTES_MAX).contains(&text.len()) && !text.contains(['/', ' '])
}

/// Takes an absolute path with at least one name in it and no way back up, in its shortest form.
fn absolute(text: &str) -> Option<PathBuf> {
    let path: PathBuf = Path::new(text).components().collect();
    let up = path.components().any(|part| part == Component::ParentDir);
    (path.is_absolute() && path.file_name().is_some() && !up).then_some(path)
}

fn host_address(text: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = text.parse().ok()?;
    let special = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_link_local();
    (!special).then_some(address)
}

/// Takes those that are good; of the others the faults are noted.
fn vips(raw: &[raw::Vip], faults: &mut Faults) -> Vec<ServedVip> {
    const ALLOWED: &str = "1 to 64 [[vip]] tables";
    if raw.is_empty() {
        faults.note("vip", None, ALLOWED);
    } else if raw.len() > VIPS_MAX {
        faults.note("vip", format!("{} tables", raw.len()), ALLOWED);
    }
    let mut vips: Vec<ServedVip> = Vec::new();
    for (position, vip) in raw.iter().take(VIPS_MAX).enumerate() {
        let key = |name: &str| format!("vip[{position}].{name}");
        let address =
            faults.text(&key("address"), vip.address.as_deref(), HOST_ADDRESS_ALLOWED, host_address);
        let port = faults.number(&key("port"), vip.port, None, &(1..=u16::MAX), "1 to 65535");
        let health = faults.text(
            &key("health"),
            Some(vip.health.as_deref().unwrap_or(HEALTH_DEFAULT)),
            "\"tcp\", or \"http:\" and a path, as \"http:/healthz\"",
            health_probe,
        );
        let (Some(address), Some(port)) = (address, port) else { continue };
        if vips.iter().any(|other| other.address == address && other.port == port) {
            faults.note(&key("port"), quoted(port), "an address and port that no other [[vip]] has");
        }
        // Its place is kept whatever its health: another of the same address and port is a fault of its own.
        vips.push(ServedVip { address, port, health: health.unwrap_or(HealthProbe::Tcp) });
    }
    vips
}

fn health_probe(text: &str) -> Option<HealthProbe> {
    let printable = |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    match text.strip_prefix("http:") {
        None => (text == "tcp").then_some(HealthProbe::Tcp),
        Some(path) => printable(path).then(|| HealthProbe::Http { path: path.to_owned() }),
    }
}

fn keys(
    path: Option<&str>,
    faults: &mut Faults,
    read: impl FnOnce(&Path) -> Result<KeyRing, KeyFault>,
) -> Option<KeyRing> {
    const KEY: &str = "agent.key_file";
    let Some(path) = path else {
        faults.note(KEY, None, KEY_FILE_ALLOWED);
        return None;
    };
    read(Path::new(path)).map_err(|fault| faults.note_sentence(KEY, path, fault.to_string())).ok()
}
