//! Changing a host and changing it back, for real, in a network namespace of the test's own.

mod common;

use std::path::PathBuf;

use common::net::*;
use common::*;
use handoff_agent::host::{Endpoint, HostError, Keeper, Mend};
use handoff_agent::sys::netlink::Netlink;

const OTHER: Endpoint = Endpoint { address: std::net::Ipv4Addr::new(10, 60, 0, 101), port: 443 };

fn endpoint() -> Endpoint {
    Endpoint { address: VIP, port: PORT }
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("agt-keeper-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir); // of a run that was killed
    dir
}

fn own_addresses() -> Vec<std::net::IpAddr> {
    let addresses = Netlink::open().and_then(|netlink| netlink.addresses()).expect("readable");
    addresses.into_iter().map(|found| found.address).collect()
}

fn ruleset() -> String {
    let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().expect("nft");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn set(name: &str, value: i64) -> Mend {
    Mend::Sysctl { name: format!("net/ipv4/{name}"), value }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_was_changed_is_changed_back_by_another_process() {
    let _net = Net::new();
    let dir = scratch("back");
    sysctl("tcp_ecn", "0");
    sysctl("tcp_rfc1337", "1");
    let mut keeper = Keeper::open(&dir, vec![endpoint()]).expect("ours");
    for mend in [set("tcp_ecn", 2), set("tcp_rfc1337", 0), Mend::AddVip(VIP), Mend::Notrack] {
        keeper.mend(&mend).expect("root may");
        keeper.mend(&mend).expect("twice does no harm");
    }
    assert!(matches!(Keeper::open(&dir, vec![]), Err(HostError::Busy(_))));
    assert_eq!([read_sysctl("tcp_ecn"), read_sysctl("tcp_rfc1337")], ["2", "0"]);
    assert!(own_addresses().contains(&VIP.into()));
    let rules = ruleset();
    assert!(rules.contains("ip daddr 10.60.0.100 tcp dport 80 notrack"), "{rules}");
    assert!(rules.contains("ip saddr 10.60.0.100 tcp sport 80 notrack"), "{rules}");
    assert_eq!(rules.matches("icmp type { destination-unreachable, time-exceeded").count(), 1, "{rules}");
    drop(keeper);

    // Meanwhile somebody set one of them otherwise, and took the VIP and the table away.
    sysctl("tcp_ecn", "1");
    let netlink = Netlink::open().expect("netlink");
    let lo = netlink.interface("lo").expect("readable").expect("there");
    netlink.delete_address(lo.index, VIP).expect("there");
    let flushed = std::process::Command::new("nft").args(["flush", "ruleset"]).status().expect("nft");
    assert!(flushed.success());
    Keeper::open(&dir, vec![]).expect("ours").restore().expect("what is gone is fine");
    assert_eq!(
        [read_sysctl("tcp_ecn"), read_sysctl("tcp_rfc1337")],
        ["1", "1"],
        "theirs stays, ours is undone"
    );
    assert!(!dir.exists() && !ruleset().contains("baton"));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_another_configuration_needed_goes() {
    let _net = Net::new();
    let dir = scratch("outdated");
    let mut keeper = Keeper::open(&dir, vec![endpoint()]).expect("ours");
    keeper.mend(&Mend::AddVip(VIP)).expect("root may");
    keeper.mend(&Mend::Notrack).expect("root may");
    drop(keeper);
    let mut keeper = Keeper::open(&dir, vec![OTHER]).expect("ours");
    keeper.drop_outdated().expect("root may");
    keeper.mend(&Mend::AddVip(OTHER.address)).expect("root may");
    let addresses = own_addresses();
    assert!(!addresses.contains(&VIP.into()) && addresses.contains(&OTHER.address.into()), "{addresses:?}");
    let rules = ruleset();
    assert!(
        !rules.contains("10.60.0.100") && rules.contains("ip daddr 10.60.0.101 tcp dport 443 notrack"),
        "{rules}"
    );
    keeper.restore().expect("root may");
    assert!(!own_addresses().contains(&OTHER.address.into()) && !ruleset().contains("baton"));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_change_that_cannot_be_noted_is_not_made() {
    let _net = Net::new();
    let dir = scratch("full");
    let mut keeper = Keeper::open(&dir, vec![endpoint()]).expect("ours");
    // The directory goes away under it: as good as a full disk.
    std::fs::remove_dir_all(&dir).expect("removable");
    assert!(matches!(keeper.mend(&Mend::AddVip(VIP)), Err(HostError::Refused { .. })));
    assert!(!own_addresses().contains(&VIP.into()));
    let before = read_sysctl("tcp_ecn");
    assert!(keeper.mend(&set("tcp_ecn", 1)).is_err());
    assert_eq!(read_sysctl("tcp_ecn"), before);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_bpf_file_system_that_is_there_is_not_covered() {
    let dir = scratch("bpffs");
    let before = std::fs::read_to_string("/proc/self/mounts").expect("readable");
    assert!(before.contains(" /sys/fs/bpf bpf "), "these tests pin there: {before}");
    let mut keeper = Keeper::open(&dir, vec![endpoint()]).expect("ours");
    assert!(matches!(keeper.mend(&Mend::MountBpffs), Err(HostError::Refused { .. })));
    keeper.restore().expect("nothing to do");
    assert_eq!(std::fs::read_to_string("/proc/self/mounts").expect("readable"), before);
}
