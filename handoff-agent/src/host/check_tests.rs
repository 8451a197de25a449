//! Each fact spoiled in turn on a host where all is well.

use super::super::facts::FirewallFacts;
use super::super::firewall::{iptables_rules, nft_rules};
use super::*;
use crate::sys::diag::TcpSocket;
use crate::sys::netlink::Interface;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 100);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 11);

fn wanted() -> Wanted {
    Wanted {
        interface: "data0".into(),
        address: HOST,
        pin_dir: "/sys/fs/bpf/baton".into(),
        vips: vec![Endpoint { address: VIP, port: 80 }],
    }
}

fn listener() -> TcpSocket {
    TcpSocket {
        address: Ipv4Addr::UNSPECIFIED.into(),
        port: 80,
        interface: 0,
        v6only: false,
        mptcp: false,
        rx_queue: 0,
        tx_queue: 511,
        inode: 4711,
        cgroup: None,
    }
}

/// A host on which handoffs work.
fn fit() -> Facts {
    let sysctls = [
        ("tcp_syncookies", 1),
        ("tcp_timestamps", 1),
        ("tcp_sack", 1),
        ("tcp_window_scaling", 1),
        ("tcp_ecn", 2),
        ("tcp_rfc1337", 0),
        ("conf/all/rp_filter", 0),
        ("conf/data0/rp_filter", 2),
        ("conf/all/arp_ignore", 0),
        ("conf/data0/arp_ignore", 1),
        ("conf/all/arp_announce", 0),
        ("conf/data0/arp_announce", 2),
    ];
    let mut sysctls: std::collections::BTreeMap<String, i64> =
        sysctls.into_iter().map(|(name, value)| (format!("net/ipv4/{name}"), value)).collect();
    sysctls.insert("net/netfilter/nf_conntrack_tcp_loose".into(), 1);
    Facts {
        kernel: (6, 8),
        btf: true,
        privileged: true,
        bpffs: true,
        private_mounts: false,
        sysctls,
        interface: Some(Interface {
            index: 2,
            name: "data0".into(),
            mtu: 1500,
            running: true,
            ethernet: true,
            mac: [2, 0, 0, 0, 0, 11],
            rx_bytes: 0,
            tx_bytes: 0,
        }),
        loopback_up: true,
        addresses: vec![
            (Some("lo".into()), Ipv4Addr::LOCALHOST.into()),
            (Some("lo".into()), VIP.into()),
            (Some("data0".into()), HOST.into()),
            (None, Ipv4Addr::new(10, 70, 0, 11).into()),
        ],
        listeners: vec![listener()],
        firewall: FirewallFacts { has_nft: true, ..FirewallFacts::default() },
    }
}

/// The one finding about a host that is fit but for `spoil`.
#[track_caller]
fn only(spoil: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = fit();
    spoil(&mut facts);
    let mut findings = check(&facts, &wanted());
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let finding = findings.remove(0);
    assert!(!finding.why.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
    finding
}

fn set(name: &str, value: i64) -> impl FnOnce(&mut Facts) {
    let name = format!("net/ipv4/{name}");
    move |facts| {
        facts.sysctls.insert(name, value);
    }
}

fn sysctl(name: &str, value: i64) -> Option<Mend> {
    Some(Mend::Sysctl { name: format!("net/ipv4/{name}"), value })
}

#[test]
fn nothing_is_found_on_a_fit_host() {
    assert_eq!(check(&fit(), &wanted()), []);
}

#[test]
fn the_kernel_must_be_new_enough_and_let_us() {
    assert_eq!(only(|facts| facts.kernel = (6, 7)).what, "the kernel is Linux 6.7");
    assert_eq!(only(|facts| facts.kernel = (5, 15)).severity, Severity::Error);
    assert!(only(|facts| facts.btf = false).what.contains("/sys/kernel/btf/vmlinux"));
    assert!(only(|facts| facts.privileged = false).why.contains("CAP_BPF"));
    for newer in [(6, 18), (7, 0)] {
        assert_eq!(check(&Facts { kernel: newer, ..fit() }, &wanted()), []);
    }
}

#[test]
fn pins_need_a_bpf_file_system_that_others_see() {
    assert_eq!(only(|facts| facts.bpffs = false).mend, Some(Mend::MountBpffs));
    let hidden = only(|facts| (facts.bpffs, facts.private_mounts) = (false, true));
    assert_eq!(hidden.mend, None);
    assert!(hidden.remedy.contains("nsenter"), "{}", hidden.remedy);
    // A mount at /sys/fs/bpf would not help there, and hide what others pinned.
    // Nor would another way into the namespace: it is the value that is wrong.
    let elsewhere = Wanted { pin_dir: "/run/baton-pins".into(), ..wanted() };
    for private_mounts in [false, true] {
        let findings = check(&Facts { bpffs: false, private_mounts, ..fit() }, &elsewhere);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert_eq!(findings[0].mend, None);
        let remedy = "choose a directory below /sys/fs/bpf for agent.pin_dir, as /sys/fs/bpf/baton";
        assert_eq!(findings[0].remedy, remedy, "private mounts: {private_mounts}");
    }
}

#[test]
fn each_tcp_setting_is_wanted_as_the_switch_announces() {
    for (name, bad, good) in [
        ("tcp_syncookies", 0, 1),
        ("tcp_timestamps", 0, 1),
        ("tcp_sack", 0, 1),
        ("tcp_window_scaling", 0, 1),
        ("tcp_ecn", 0, 2),
        ("tcp_rfc1337", 1, 0),
    ] {
        let finding = only(set(name, bad));
        assert_eq!((finding.severity, &finding.mend), (Severity::Error, &sysctl(name, good)), "{name}");
        assert_eq!(finding.what, format!("net/ipv4/{name} is {bad}"));
        let path = format!("net/ipv4/{name}");
        assert_eq!(
            only(|facts| assert!(facts.sysctls.remove(&path).is_some())).what,
            format!("{path} is missing")
        );
    }
    for (name, also_good) in [("tcp_syncookies", 2), ("tcp_timestamps", 2), ("tcp_ecn", 1), ("tcp_ecn", 3)] {
        let mut facts = fit();
        set(name, also_good)(&mut facts);
        assert_eq!(check(&facts, &wanted()), [], "{name} {also_good}");
    }
}

#[test]
fn the_larger_of_all_and_the_interface_counts() {
    let two = |all: (&'static str, i64), own: (&'static str, i64)| {
        move |facts: &mut Facts| {
            set(all.0, all.1)(facts);
            set(own.0, own.1)(facts);
        }
    };
    let strict = only(set("conf/data0/rp_filter", 1));
    assert_eq!(strict.mend, sysctl("conf/data0/rp_filter", 2));
    let strict = only(two(("conf/all/rp_filter", 1), ("conf/data0/rp_filter", 0)));
    assert_eq!(strict.what, "net/ipv4/conf/all/rp_filter is 1");
    assert_eq!(strict.mend, sysctl("conf/data0/rp_filter", 2), "loose outweighs strict");
    for (all, own) in [(1, 2), (2, 1), (0, 0), (2, 0)] {
        let mut facts = fit();
        two(("conf/all/rp_filter", all), ("conf/data0/rp_filter", own))(&mut facts);
        assert_eq!(check(&facts, &wanted()), [], "rp_filter {all} {own}");
    }
    assert_eq!(only(set("conf/data0/arp_ignore", 0)).mend, sysctl("conf/data0/arp_ignore", 1));
    assert_eq!(only(set("conf/data0/arp_ignore", 8)).mend, sysctl("conf/data0/arp_ignore", 1));
    assert_eq!(only(set("conf/all/arp_ignore", 8)).mend, None, "the agent sets the interface only");
    assert_eq!(only(set("conf/data0/arp_announce", 1)).mend, sysctl("conf/data0/arp_announce", 2));
    let mut facts = fit();
    two(("conf/all/arp_announce", 2), ("conf/data0/arp_announce", 0))(&mut facts);
    two(("conf/all/arp_ignore", 1), ("conf/data0/arp_ignore", 0))(&mut facts);
    assert_eq!(check(&facts, &wanted()), []);
}

#[test]
fn the_interface_must_be_there_up_and_ours() {
    let change = |change: fn(&mut Interface)| {
        move |facts: &mut Facts| change(facts.interface.as_mut().expect("there"))
    };
    // With the interface its settings are missing, too: that is no finding of its own.
    let gone = only(|facts| {
        facts.interface = None;
        facts.addresses.remove(2);
        facts.sysctls.retain(|name, _| !name.contains("/data0/"));
    });
    assert!(gone.what.contains("no interface `data0`"), "{gone:?}");
    assert!(only(change(|interface| interface.running = false)).what.contains("down"));
    assert!(only(change(|interface| interface.ethernet = false)).what.contains("Ethernet"));
    let small = only(change(|interface| interface.mtu = 1400));
    assert_eq!((small.severity, small.what.as_str()), (Severity::Warning, "the MTU of data0 is 1400"));
    assert!(
        only(|facts| drop(facts.addresses.remove(2))).what.contains("does not have the address 10.60.0.11")
    );
    assert!(only(|facts| facts.loopback_up = false).what.contains("loopback"));
}

#[test]
fn the_vip_belongs_on_the_host_but_not_on_the_wire() {
    assert_eq!(only(|facts| drop(facts.addresses.remove(1))).mend, Some(Mend::AddVip(VIP)));
    let exposed = only(|facts| facts.addresses.push((Some("data0".into()), VIP.into())));
    assert_eq!((exposed.mend, exposed.severity), (None, Severity::Error));
    let mut facts = fit();
    facts.addresses[1].0 = None; // on a dummy interface, say
    assert_eq!(check(&facts, &wanted()), []);
    // Two ports of one VIP make one finding of a missing address.
    facts.addresses.remove(1);
    facts.listeners.push(TcpSocket { port: 81, ..listener() });
    let mut both = wanted();
    both.vips.push(Endpoint { address: VIP, port: 81 });
    assert_eq!(check(&facts, &both).len(), 1);
}

#[test]
fn somebody_must_listen_where_handoffs_go() {
    let with = |listeners: Vec<TcpSocket>| move |facts: &mut Facts| facts.listeners = listeners;
    let elsewhere = TcpSocket { address: HOST.into(), ..listener() };
    let v6only = TcpSocket { address: std::net::Ipv6Addr::UNSPECIFIED.into(), v6only: true, ..listener() };
    for listeners in [vec![], vec![TcpSocket { port: 81, ..listener() }], vec![elsewhere, v6only]] {
        let finding = only(with(listeners));
        assert!(finding.what.starts_with("nothing listens at 10.60.0.100:80"));
        assert_eq!(finding.scope, Scope::Server);
    }
    let mptcp = TcpSocket { mptcp: true, ..listener() };
    assert!(only(with(vec![mptcp])).remedy.contains("GODEBUG"));
    assert!(only(with(vec![TcpSocket { interface: 9, ..listener() }])).what.contains("another interface"));
    let dual = TcpSocket { v6only: false, ..v6only };
    let own = TcpSocket { address: VIP.into(), interface: 2, ..listener() };
    for listeners in [vec![dual], vec![own], vec![mptcp, listener()]] {
        let facts = Facts { listeners, ..fit() };
        assert_eq!(check(&facts, &wanted()), []);
    }
}

#[test]
fn what_the_agent_sets_at_start_is_no_error_where_it_may() {
    let missing_vip = only(|facts| drop(facts.addresses.remove(1)));
    assert_eq!(missing_vip.outlook(true), Outlook::SetAtStart);
    assert_eq!(missing_vip.outlook(false), Outlook::Stays(Severity::Error));
    let old = only(|facts| facts.kernel = (6, 7));
    let small = only(|facts| facts.interface.as_mut().expect("there").mtu = 1400);
    for manage_host in [false, true] {
        assert_eq!(old.outlook(manage_host), Outlook::Stays(Severity::Error));
        assert_eq!(small.outlook(manage_host), Outlook::Stays(Severity::Warning));
    }
}

const NEW_MUST_BE_SYN: &str =
    "*filter\n-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m state --state NEW -j DROP\n";

#[test]
fn a_firewall_that_wants_a_syn_is_found_until_the_vip_is_exempt() {
    let finding = only(|facts| iptables_rules(NEW_MUST_BE_SYN, &mut facts.firewall));
    assert_eq!((finding.severity, finding.mend), (Severity::Error, Some(Mend::Notrack)));
    let finding = only(|facts| {
        facts.firewall.has_nft = false;
        iptables_rules(NEW_MUST_BE_SYN, &mut facts.firewall);
    });
    assert_eq!(finding.mend, None, "our table needs nft");
    let mut facts = fit();
    iptables_rules(NEW_MUST_BE_SYN, &mut facts.firewall);
    facts.firewall.exempt.push(Endpoint { address: VIP, port: 80 });
    assert_eq!(check(&facts, &wanted()), []);
}

#[test]
fn strict_connection_tracking_matters_where_the_firewall_looks_at_it() {
    let strict = |facts: &mut Facts| {
        facts.sysctls.insert("net/netfilter/nf_conntrack_tcp_loose".into(), 0);
    };
    let mut facts = fit();
    strict(&mut facts);
    assert_eq!(check(&facts, &wanted()), []);
    let finding = only(|facts| {
        strict(facts);
        facts.firewall.uses_conntrack = true;
    });
    assert_eq!(finding.mend, Some(Mend::Notrack));
}

#[test]
fn a_redirection_of_the_vip_is_an_error_that_exemption_from_connection_tracking_mends() {
    let finding = only(|facts| {
        facts.firewall.has_nft = true;
        nft_rules(
            r#"{"nftables": [{"rule": {"family": "ip", "table": "nat", "chain": "PREROUTING",
            "expr": [{"dnat": {"addr": "172.17.0.2"}}]}}]}"#,
            &mut facts.firewall,
        );
    });
    assert_eq!((finding.severity, finding.scope), (Severity::Error, Scope::Host));
    assert_eq!(finding.mend, Some(Mend::Notrack));
    assert!(finding.what.contains("nft ip nat chain PREROUTING"), "{}", finding.what);
    assert!(finding.remedy.contains("exclude the VIP from the rule"), "{}", finding.remedy);
}
