//! What is missing or wrong on a host, from the facts alone.

use std::net::{IpAddr, Ipv4Addr};

use super::facts::{Facts, Wanted};
use super::firewall::{Endpoint, RuleKind};
use crate::sys::mounts::BPFFS;

/// The first kernel with `bpf_sk_assign_tcp_reqsk`.
const KERNEL_MIN: (u32, u32) = (6, 8);
/// What the switch sends at most, unless it is configured otherwise.
const MTU_MIN: u32 = 1500;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Handoffs fail.
    Error,
    /// Handoffs may fail, or work less well.
    Warning,
}

/// What a finding means before the agent is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It stays as bad as it is.
    Stays(Severity),
    /// The agent mends it when it starts.
    SetAtStart,
}

/// Whose business a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The host's: it keeps the backend from being ready.
    Host,
    /// The server's, which may start and stop: the self-test and the health probes judge that.
    Server,
}

/// What the agent can do about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Write a setting.
    Sysctl {
        /// Its path below `/proc/sys`.
        name: String,
        /// The value it needs.
        value: i64,
    },
    /// Give the loopback interface a VIP.
    AddVip(Ipv4Addr),
    /// Take the VIPs out of connection tracking.
    Notrack,
    /// Mount the BPF file system.
    MountBpffs,
}

/// Something missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: String,
    /// Why that matters, in plain words.
    pub why: &'static str,
    /// What an operator can do.
    pub remedy: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whose business it is.
    pub scope: Scope,
    /// What the agent can do, if it may.
    pub mend: Option<Mend>,
}

impl Finding {
    fn error(what: impl Into<String>, why: &'static str, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why,
            remedy: remedy.into(),
            severity: Severity::Error,
            scope: Scope::Host,
            mend: None,
        }
    }

    /// Says what is to be expected of an agent that may change the host (`manage_host`), or may not.
    pub const fn outlook(&self, manage_host: bool) -> Outlook {
        if manage_host && self.mend.is_some() { Outlook::SetAtStart } else { Outlook::Stays(self.severity) }
    }

    fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    fn of_the_server(self) -> Self {
        Self { scope: Scope::Server, ..self }
    }

    fn mended_by(self, mend: Mend) -> Self {
        Self { mend: Some(mend), ..self }
    }

    /// A setting with the wrong value.
    fn sysctl(facts: &Facts, name: String, value: i64, why: &'static str) -> Self {
        let found = facts.sysctls.get(&name).map_or("missing".to_owned(), i64::to_string);
        Self::error(format!("{name} is {found}"), why, format!("echo {value} > /proc/sys/{name}"))
            .mended_by(Mend::Sysctl { name, value })
    }
}

/// Returns everything that is missing or wrong, the most basic first.
pub fn check(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = kernel(facts, wanted);
    findings.extend(tcp_settings(facts));
    findings.extend(interface(facts, wanted));
    // Of an interface that does not exist, the settings do not either.
    if facts.interface.is_some() {
        findings.extend(interface_settings(facts, &wanted.interface));
    }
    findings.extend(addresses(facts, wanted));
    findings.extend(wanted.vips.iter().filter_map(|vip| listener(facts, *vip)));
    findings.extend(firewall(facts, wanted));
    findings
}

fn kernel(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.kernel < KERNEL_MIN {
        let ((major, minor), (least, least_minor)) = (facts.kernel, KERNEL_MIN);
        findings.push(Finding::error(
            format!("the kernel is Linux {major}.{minor}"),
            "the function that turns a client's packet into a connection came with Linux 6.8",
            format!("install Linux {least}.{least_minor} or later"),
        ));
    }
    if !facts.btf {
        findings.push(Finding::error(
            "the kernel has no type information (/sys/kernel/btf/vmlinux)",
            "the BPF programs find their way in the kernel's structures by it",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        ));
    }
    if !facts.privileged {
        findings.push(Finding::error(
            "the agent lacks privileges",
            "loading BPF programs and changing interfaces needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW",
            "run it as root, or give it these capabilities",
        ));
    }
    if !facts.bpffs {
        let pins = wanted.pin_dir.display();
        // Elsewhere it is the value that is wrong, whatever this process sees of /sys/fs/bpf.
        let (remedy, mend) = if !wanted.pin_dir.starts_with(BPFFS) {
            (format!("choose a directory below {BPFFS} for agent.pin_dir, as {BPFFS}/baton"), None)
        } else if facts.private_mounts {
            let remedy = "enter the network namespace with `nsenter --net=...`: `ip netns exec` hides the BPF file system";
            (remedy.to_owned(), None)
        } else {
            (format!("mount -t bpf bpf {BPFFS}"), Some(Mend::MountBpffs))
        };
        let finding = Finding::error(
            format!("{pins} is not on a BPF file system"),
            "what is pinned there keeps traffic going while the agent is away",
            remedy,
        );
        findings.push(Finding { mend, ..finding });
    }
    findings
}

/// What a setting must be: its name, which values are good, which one the agent sets, and why it matters.
type Need = (&'static str, fn(i64) -> bool, i64, &'static str);

fn tcp_settings(facts: &Facts) -> Vec<Finding> {
    const OFFERED: &str =
        "the switch agrees with clients on this option; the kernel refuses handoffs that carry it";
    let needs: [Need; 6] = [
        ("tcp_syncookies", |v| v >= 1, 1, "with it off, the kernel answers every handoff with a reset"),
        ("tcp_timestamps", |v| v >= 1, 1, OFFERED),
        ("tcp_sack", |v| v >= 1, 1, OFFERED),
        ("tcp_window_scaling", |v| v >= 1, 1, OFFERED),
        (
            "tcp_ecn",
            |v| v >= 1,
            2,
            "the switch agrees with clients on congestion notification; the server would not keep to it",
        ),
        (
            "tcp_rfc1337",
            |v| v == 0,
            0,
            "with it on, a client that uses a port again waits for the old connection's TIME_WAIT",
        ),
    ];
    needs
        .into_iter()
        .filter_map(|(name, good, value, why)| {
            let name = format!("net/ipv4/{name}");
            let fine = facts.sysctls.get(&name).is_some_and(|value| good(*value));
            (!fine).then(|| Finding::sysctl(facts, name, value, why))
        })
        .collect()
}

fn interface(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let name = &wanted.interface;
    let Some(interface) = &facts.interface else {
        return vec![Finding::error(
            format!("there is no interface `{name}` in this network namespace"),
            "handoffs arrive on it",
            "correct agent.interface, or start the agent in the server's network namespace",
        )];
    };
    let mut findings = Vec::new();
    if !interface.ethernet {
        findings.push(Finding::error(
            format!("{name} is not an Ethernet interface"),
            "answers to the switch go to the MAC address a handoff came from",
            "use the Ethernet interface towards the switch",
        ));
    }
    if !interface.running {
        findings.push(Finding::error(
            format!("{name} is down or has no carrier"),
            "handoffs arrive on it",
            format!("ip link set {name} up, and check the cable"),
        ));
    }
    if interface.mtu < MTU_MIN {
        findings.push(
            Finding::error(
                format!("the MTU of {name} is {}", interface.mtu),
                "the switch's packets of full size do not fit, unless its own MTU is set as low",
                format!("ip link set {name} mtu {MTU_MIN}"),
            )
            .warning(),
        );
    }
    let own = (Some(name.clone()), IpAddr::V4(wanted.address));
    if !facts.addresses.contains(&own) {
        findings.push(Finding::error(
            format!("{name} does not have the address {}", wanted.address),
            "the switch sends handoffs there",
            format!("correct agent.address, or ip address add {}/... dev {name}", wanted.address),
        ));
    }
    findings
}

/// Settings of which the kernel takes the larger of `all` and the interface.
fn interface_settings(facts: &Facts, interface: &str) -> Vec<Finding> {
    let value = |scope: &str, setting: &str| {
        facts.sysctls.get(&format!("net/ipv4/conf/{scope}/{setting}")).copied().unwrap_or(0)
    };
    let needs: [Need; 3] = [
        (
            "rp_filter",
            |v| v != 1,
            2,
            "strict filtering drops clients whose way back is another interface, after the kernel took the handoff",
        ),
        (
            "arp_ignore",
            |v| v == 1 || v == 2,
            1,
            "this host would answer ARP for the VIP and take clients away from the switch",
        ),
        (
            "arp_announce",
            |v| v >= 2,
            2,
            "this host would put the VIP into its own ARP requests and take clients away from the switch",
        ),
    ];
    let mut findings = Vec::new();
    for (setting, good, needed, why) in needs {
        let all = value("all", setting);
        if good(all.max(value(interface, setting))) {
            continue;
        }
        let name = format!("net/ipv4/conf/{interface}/{setting}");
        let mut finding = Finding::sysctl(facts, name.clone(), needed, why);
        if !good(all.max(needed)) {
            finding.what =
                format!("net/ipv4/conf/all/{setting} is {all}, which no value of {name} outweighs");
            finding.remedy = format!("echo {needed} > /proc/sys/net/ipv4/conf/all/{setting}");
            finding.mend = None;
        } else if all > value(interface, setting) {
            finding.what = format!("net/ipv4/conf/all/{setting} is {all}");
        }
        findings.push(finding);
    }
    findings
}

fn addresses(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !facts.loopback_up {
        findings.push(Finding::error(
            "the loopback interface is down",
            "the VIP lives on it",
            "ip link set lo up",
        ));
    }
    let mut seen: Vec<Ipv4Addr> = Vec::new();
    for vip in &wanted.vips {
        if seen.contains(&vip.address) {
            continue;
        }
        seen.push(vip.address);
        let on: Vec<&Option<String>> =
            facts.addresses.iter().filter(|(_, a)| *a == vip.address).map(|(name, _)| name).collect();
        if on.iter().any(|name| name.as_deref() == Some(wanted.interface.as_str())) {
            findings.push(Finding::error(
                format!("the VIP {} is an address of {}", vip.address, wanted.interface),
                "this host would answer ARP for the VIP and take clients away from the switch",
                format!(
                    "ip address del {}/... dev {}, and let the agent put it on lo",
                    vip.address, wanted.interface
                ),
            ));
        } else if on.is_empty() {
            findings.push(
                Finding::error(
                    format!("the VIP {} is not an address of this host", vip.address),
                    "the kernel would forward or drop what clients send there",
                    format!("ip address add {}/32 dev lo", vip.address),
                )
                .mended_by(Mend::AddVip(vip.address)),
            );
        }
    }
    findings
}

fn listener(facts: &Facts, vip: Endpoint) -> Option<Finding> {
    let Endpoint { address, port } = vip;
    let serving: Vec<_> = facts.listeners.iter().filter(|listener| listener.serves(address, port)).collect();
    let finding = if serving.is_empty() {
        Finding::error(
            format!("nothing listens at {address}:{port} in this network namespace"),
            "handoffs go to the listener's queue",
            "start the server, and let it listen at the VIP or at all addresses; a container needs an agent of its own",
        )
    } else if serving.iter().all(|listener| listener.mptcp) {
        Finding::error(
            format!("the listener at {address}:{port} speaks MPTCP"),
            "the kernel hands nothing to MPTCP listeners; programs in Go 1.24 and later listen so by default",
            "let the server listen without MPTCP (Go: GODEBUG=multipathtcp=0), or set net.mptcp.enabled=0 and restart it",
        )
    } else if serving.iter().all(|listener| {
        listener.interface != 0 && Some(listener.interface) != facts.interface.as_ref().map(|i| i.index)
    }) {
        Finding::error(
            format!("the listener at {address}:{port} is bound to another interface"),
            "handoffs arrive on the data interface",
            "let the server listen on all interfaces",
        )
    } else {
        return None;
    };
    Some(finding.of_the_server())
}

fn firewall(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let exposed: Vec<Endpoint> =
        wanted.vips.iter().copied().filter(|vip| !facts.firewall.exempt.contains(vip)).collect();
    let notrack = |finding: Finding| {
        if facts.firewall.has_nft { finding.mended_by(Mend::Notrack) } else { finding }
    };
    let remedy = "take the VIP out of connection tracking: `ip daddr VIP tcp dport PORT notrack` at priority raw in \
                  prerouting, `ip saddr VIP tcp sport PORT notrack` in output; in prerouting, ICMP errors to the \
                  VIP as well";
    let mut findings = Vec::new();
    for rule in &facts.firewall.rules {
        let Some(vip) = exposed.iter().find(|vip| rule.may_match(**vip)) else { continue };
        let Endpoint { address, port } = vip;
        findings.push(match rule.kind {
            RuleKind::Dnat => notrack(Finding::error(
                format!("a firewall rule may redirect {address}:{port}: {}", rule.text),
                "the client's packets go elsewhere, after the kernel took the handoff: it is lost, or reset",
                format!("exclude the VIP from the rule; or {remedy}"),
            )),
            RuleKind::NewMustBeSyn => notrack(Finding::error(
                format!(
                    "a firewall rule drops connections to {address}:{port} that begin without SYN: {}",
                    rule.text
                ),
                "a handoff is one: it is dropped silently, after the kernel took it",
                remedy,
            )),
        });
    }
    let loose = facts.sysctls.get("net/netfilter/nf_conntrack_tcp_loose");
    if loose == Some(&0) && facts.firewall.uses_conntrack && !exposed.is_empty() {
        findings.push(notrack(Finding::error(
            "net/netfilter/nf_conntrack_tcp_loose is 0 and the firewall looks at connection tracking",
            "connections that begin without SYN, as handoffs do, count as invalid there",
            remedy,
        )));
    }
    findings
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
