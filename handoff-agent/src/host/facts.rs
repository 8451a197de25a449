//! How the host is. Gathering reads only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::firewall::{self, Endpoint, Rule};
use crate::sys::command;
use crate::sys::diag::{self, State, TcpSocket};
use crate::sys::mounts;
use crate::sys::netlink::{Interface, Netlink};

/// How long a listing of firewall rules may take.
const LISTING_TIMEOUT: Duration = Duration::from_secs(5);
/// Capabilities the agent needs, by bit: `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_PERFMON`, `CAP_BPF`.
const CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// What the agent wants the host for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The data interface.
    pub interface: String,
    /// This host on the data network.
    pub address: Ipv4Addr,
    /// Where maps and links are to be pinned.
    pub pin_dir: PathBuf,
    /// The VIPs to serve.
    pub vips: Vec<Endpoint>,
}

/// The host, as far as handoffs care.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Version of the kernel.
    pub kernel: (u32, u32),
    /// Whether the kernel has its type information (BTF).
    pub btf: bool,
    /// Whether this process has the capabilities it needs.
    pub privileged: bool,
    /// Whether the pin directory is, or would be, on a BPF file system.
    pub bpffs: bool,
    /// Whether this process sees mounts of its own: what it mounts, it alone sees.
    pub private_mounts: bool,
    /// Values of the settings under `/proc/sys`, by path below it; those that do not exist are missing.
    pub sysctls: BTreeMap<String, i64>,
    /// The data interface.
    pub interface: Option<Interface>,
    /// Whether the loopback interface is up.
    pub loopback_up: bool,
    /// All addresses of the host, with the name of their interface where it is `lo` or the data interface.
    pub addresses: Vec<(Option<String>, IpAddr)>,
    /// All listeners of this network namespace.
    pub listeners: Vec<TcpSocket>,
    /// The firewall.
    pub firewall: FirewallFacts,
}

/// The firewall, as far as handoffs care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallFacts {
    /// Rules that can stand in the way.
    pub rules: Vec<Rule>,
    /// Whether any rule looks at connection tracking.
    pub uses_conntrack: bool,
    /// The VIPs our own table takes out of connection tracking.
    pub exempt: Vec<Endpoint>,
    /// Whether `nft` is installed: our own table needs it.
    pub has_nft: bool,
}

/// Names the settings that matter, as paths below `/proc/sys`.
fn sysctl_names(interface: &str) -> Vec<String> {
    let tcp =
        ["tcp_syncookies", "tcp_timestamps", "tcp_sack", "tcp_window_scaling", "tcp_ecn", "tcp_rfc1337"];
    let mut names: Vec<String> = tcp.iter().map(|name| format!("net/ipv4/{name}")).collect();
    for setting in ["rp_filter", "arp_ignore", "arp_announce"] {
        for scope in ["all", interface] {
            names.push(format!("net/ipv4/conf/{scope}/{setting}"));
        }
    }
    names.push("net/netfilter/nf_conntrack_tcp_loose".to_owned());
    names
}

/// Gathers everything; `firewall` is what [`gather_firewall`] said, which takes longer than the rest.
///
/// # Errors
/// The kernel does not answer.
pub fn gather(wanted: &Wanted, firewall: FirewallFacts) -> io::Result<Facts> {
    let netlink = Netlink::open()?;
    let interface = netlink.interface(&wanted.interface)?;
    let loopback = netlink.interface("lo")?;
    let name_of = |index: u32| {
        [&interface, &loopback]
            .into_iter()
            .flatten()
            .find(|interface| interface.index == index)
            .map(|interface| interface.name.clone())
    };
    let addresses = netlink.addresses()?.into_iter().map(|a| (name_of(a.interface), a.address)).collect();
    let sysctls = sysctl_names(&wanted.interface)
        .into_iter()
        .filter_map(|name| {
            let text = fs::read_to_string(Path::new("/proc/sys").join(&name)).ok()?;
            Some((name, text.trim().parse().ok()?))
        })
        .collect();
    Ok(Facts {
        kernel: kernel_version(&rustix::system::uname().release().to_string_lossy()),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        privileged: capabilities().is_some_and(|have| have & CAPABILITIES == CAPABILITIES),
        bpffs: mounts::on_bpffs(&wanted.pin_dir),
        private_mounts: mounts::private(),
        sysctls,
        loopback_up: loopback.is_some_and(|lo| lo.running),
        interface,
        addresses,
        listeners: diag::tcp_sockets(State::Listen, None)?,
        firewall,
    })
}

/// Lists the firewall's rules with the tools that are installed; without any, there is nothing to know.
pub fn gather_firewall() -> FirewallFacts {
    let mut facts = FirewallFacts::default();
    let nft = command::output("nft", &["-j", "list", "ruleset"], "", LISTING_TIMEOUT);
    facts.has_nft = !matches!(&nft, Err(error) if error.kind() == io::ErrorKind::NotFound);
    match nft {
        Ok(listing) => firewall::nft_rules(&listing, &mut facts),
        Err(error) if facts.has_nft => tracing::debug!(%error, "nft cannot list the rules"),
        Err(_) => {}
    }
    match command::output("iptables-save", &[], "", LISTING_TIMEOUT) {
        Ok(listing) => firewall::iptables_rules(&listing, &mut facts),
        Err(error) => tracing::debug!(%error, "iptables-save does not list rules"),
    }
    facts
}

/// Reads major and minor version from a release as `6.8.0-45-generic`.
pub(super) fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        assert_eq!(kernel_version("6.8.0-45-generic"), (6, 8));
        assert_eq!(kernel_version("6.18.44-fc-v657"), (6, 18));
        assert_eq!(kernel_version("6.1-rc3"), (6, 1));
        assert_eq!(kernel_version("none"), (0, 0));
    }
}
