//! Hosts as trees of files: where the servers' control group is, what it used and what it may use.

use std::net::Ipv4Addr;

use super::*;

/// The tree of a host; gone when dropped.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("agt-load-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("writable");
        Self(dir)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().expect("in a directory")).expect("writable");
        fs::write(path, text).expect("writable");
    }

    /// A process that has a socket open, and its control groups.
    fn process(&self, id: u32, inode: u32, groups: &str) {
        let dir = self.0.join(format!("proc/{id}/fd"));
        fs::create_dir_all(&dir).expect("writable");
        std::os::unix::fs::symlink("/dev/null", dir.join("0")).expect("writable");
        std::os::unix::fs::symlink(format!("socket:[{inode}]"), dir.join("6")).expect("writable");
        self.write(&format!("proc/{id}/cgroup"), groups);
    }

    fn servers(&self) -> Servers {
        Servers::new(Tree::below(&self.0), None, vec![vip()])
    }

    fn dir(&self, dir: &str) -> PathBuf {
        self.0.join(dir)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("ours");
    }
}

const INODE: u32 = 4711;

fn vip() -> Vip {
    Vip { address: [10, 60, 0, 100].into(), port: 80 }
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
        inode: INODE,
        cgroup: None,
    }
}

const UNIFIED: &str =
    "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
/// As an older host has it: a hierarchy for each controller, and a unified one without any.
const HYBRID: &str = "\
    20 1 0:19 / / rw - ext4 /dev/vda rw\n\
    30 20 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
    31 20 0:28 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n\
    32 20 0:29 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
    33 20 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

#[test]
fn on_a_unified_hierarchy_the_group_of_the_listening_process_is_found_with_its_limits() {
    let host = Host::new("unified");
    host.write("proc/self/mountinfo", UNIFIED);
    host.process(77, INODE, "0::/web.slice/nginx.service\n");
    host.process(78, INODE + 1, "0::/other.service\n");
    let group = "sys/fs/cgroup/web.slice/nginx.service";
    host.write("sys/fs/cgroup/cgroup.procs", "");
    host.write("sys/fs/cgroup/web.slice/cgroup.procs", "");
    host.write(&format!("{group}/cgroup.procs"), "77\n");
    host.write(&format!("{group}/cpu.stat"), "usage_usec 5000000\nuser_usec 3\nsystem_usec 4\n");
    host.write(&format!("{group}/memory.pressure"), "some avg10=2.50 avg60=0.00 avg300=0.00 total=9\n");
    let servers = host.servers();
    servers.look(&[listener()]);
    assert_eq!(servers.place(), Ok(host.dir(group)));
    let found = servers.cgroup().expect("found");
    assert_eq!((found.used_us(), found.memory_pressure()), (Some(5_000_000), Some(25)));
    assert_eq!(found.milli_cpus(4), 4_000, "nothing limits it but the host");
    host.write(&format!("{group}/cpu.max"), "max 100000\n");
    host.write(&format!("{group}/cpuset.cpus.effective"), "0-1,3\n");
    assert_eq!(found.milli_cpus(4), 3_000);
    host.write("sys/fs/cgroup/web.slice/cpu.max", "150000 100000\n");
    assert_eq!(found.milli_cpus(4), 1_500, "the slice above has a quota");
}

#[test]
fn beside_an_empty_unified_hierarchy_the_controllers_own_ones_count() {
    let host = Host::new("hybrid");
    host.write("proc/self/mountinfo", HYBRID);
    host.process(77, INODE, "9:name=systemd:/\n3:cpuset:/\n2:cpuacct:/web\n1:cpu:/web/front\n0::/\n");
    host.write("sys/fs/cgroup/cpuacct/web/cpuacct.usage", "2000000999\n");
    host.write("sys/fs/cgroup/cpuacct/web/cgroup.procs", "77\n");
    host.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "1000\n"); // nobody asks the root
    host.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    host.write("sys/fs/cgroup/cpu/web/cpu.cfs_quota_us", "50000\n");
    host.write("sys/fs/cgroup/cpu/web/cpu.cfs_period_us", "100000\n");
    host.write("sys/fs/cgroup/cpu/web/front/cpu.cfs_quota_us", "-1\n");
    host.write("sys/fs/cgroup/cpu/web/front/cpu.cfs_period_us", "100000\n");
    let servers = host.servers();
    servers.look(&[listener()]);
    let found = servers.cgroup().expect("found");
    assert_eq!(found.dir(), host.dir("sys/fs/cgroup/cpuacct/web"));
    assert_eq!((found.used_us(), found.milli_cpus(2)), (Some(2_000_000), 500));
    assert_eq!(found.memory_pressure(), None, "the host's is told");
}

#[test]
fn the_id_of_a_sockets_group_is_enough() {
    use std::os::unix::fs::MetadataExt as _;
    let host = Host::new("id");
    host.write("proc/self/mountinfo", UNIFIED); // and no process may be looked at
    host.write("sys/fs/cgroup/a/b/c/cpu.stat", "usage_usec 1\n");
    host.write("sys/fs/cgroup/a/b/d/cpu.stat", "usage_usec 7\n");
    host.write("sys/fs/cgroup/a/e/cpu.stat", "usage_usec 9\n");
    let id = |dir: &str| fs::metadata(host.dir(dir)).expect("there").ino();
    let servers = host.servers();
    servers.look(&[TcpSocket { cgroup: Some(id("sys/fs/cgroup/a/b/d")), ..listener() }]);
    assert_eq!(servers.cgroup().expect("found").used_us(), Some(7));
    let servers = host.servers();
    servers.look(&[TcpSocket { cgroup: Some(id("sys/fs/cgroup")), ..listener() }]);
    assert_eq!(servers.place(), Err(Unknown::NoGroup), "everybody's group is not the servers'");
}

#[test]
fn servers_without_a_group_of_their_own_are_not_measured() {
    for (name, groups) in [
        ("root", "2:cpuacct:/\n0::/\n"),
        ("up", "2:cpuacct:/../web\n0::/../../web\n"),
        ("odd", "0::\n:::\nx\n"),
    ] {
        let host = Host::new(name);
        host.write("proc/self/mountinfo", HYBRID);
        host.write("sys/fs/cgroup/cpuacct/cpuacct.usage", "1\n");
        host.write("sys/fs/cgroup/cpuacct/web/cpuacct.usage", "1\n");
        host.write("sys/fs/cgroup/web/cpuacct.usage", "1\n");
        host.process(77, INODE, groups);
        let servers = host.servers();
        servers.look(&[listener()]);
        assert_eq!(servers.place(), Err(Unknown::NoGroup), "{name}");
    }
    let host = Host::new("nobody");
    let servers = host.servers();
    servers.look(&[TcpSocket { port: 81, ..listener() }]);
    assert_eq!(servers.place(), Err(Unknown::NoListener));
    servers.look(&[listener()]);
    assert_eq!(servers.place(), Err(Unknown::NoGroup), "a host without /proc");
}

#[test]
fn another_listener_is_looked_for_anew_and_the_same_is_not() {
    let host = Host::new("anew");
    host.write("proc/self/mountinfo", UNIFIED);
    host.process(77, INODE, "0::/first\n");
    host.write("sys/fs/cgroup/first/cpu.stat", "usage_usec 1\n");
    host.write("sys/fs/cgroup/second/cpu.stat", "usage_usec 2\n");
    let servers = host.servers();
    servers.look(&[listener()]);
    // The process is gone, but who listens is the same: no process is looked at again.
    fs::remove_dir_all(host.dir("proc/77")).expect("ours");
    servers.look(&[listener()]);
    assert_eq!(servers.place(), Ok(host.dir("sys/fs/cgroup/first")));
    host.process(90, INODE + 1, "0::/second\n");
    servers.look(&[TcpSocket { inode: INODE + 1, ..listener() }]);
    assert_eq!(servers.place(), Ok(host.dir("sys/fs/cgroup/second")));
    fs::remove_dir_all(host.dir("sys/fs/cgroup/second")).expect("ours");
    servers.look(&[TcpSocket { inode: INODE + 1, ..listener() }]);
    assert_eq!(servers.place(), Err(Unknown::NoGroup));
}

#[test]
fn a_configured_group_counts_as_soon_as_it_is_there() {
    let host = Host::new("configured");
    let dir = host.dir("sys/fs/cgroup/cpuacct/web");
    let servers = Servers::new(Tree::below(&host.0), Some(dir.clone()), vec![vip()]);
    servers.look(&[]);
    assert_eq!(servers.place(), Err(Unknown::NotThere));
    host.write("sys/fs/cgroup/cpuacct/web/cpuacct.usage", "no number\n");
    servers.look(&[]);
    assert_eq!(servers.place(), Err(Unknown::NotThere));
    host.write("sys/fs/cgroup/cpuacct/web/cpuacct.usage", "5000\n");
    host.write("sys/fs/cgroup/cpuacct/web/cgroup.procs", "");
    servers.look(&[]);
    assert_eq!(servers.place(), Ok(dir));
    assert_eq!(servers.cgroup().expect("found").used_us(), Some(5));
}
