//! The whole agent, as a process: against a switch that is only the control channel and a wire, on a host that is a
//! network namespace of the test's own.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::net::*;
use common::*;
use handoff_agent::sys::diag::{State, tcp_sockets};
use handoff_agent::sys::netlink::Netlink;
use handoff_proto::channel::{Channel, ChannelError};
use handoff_proto::control::{CONTROL_VERSION, FromAgent, FromSwitch, Report};
use handoff_proto::keys::key_file_text;
use handoff_proto::{KeyId, KeyRing, MessageType};
use rustix::process::{Pid, Signal, kill_process};

const READY_WITHIN: Duration = Duration::from_secs(8);
static RUNS: AtomicU32 = AtomicU32::new(0);

/// A host with an agent's files, and the switch it dials.
struct Lab {
    net: Net,
    switch: TcpListener,
    dir: PathBuf,
    pin_dir: PathBuf,
}

/// A running agent; killed when dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

impl Lab {
    fn new(options: &str) -> Self {
        let net = Net::new();
        let run = format!("agt-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&run);
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let switch = TcpListener::bind("127.0.0.1:0").expect("a free namespace");
        switch.set_nonblocking(true).expect("settable");
        let lab = Self { net, switch, pin_dir: Path::new("/sys/fs/bpf").join(run), dir };
        lab.write_keys(&[0x41; 32]);
        lab.configure(options);
        lab
    }

    fn write_keys(&self, secret: &[u8; 32]) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.dir.join("keys.toml");
        std::fs::write(&file, key_file_text(KeyId(1), secret)).expect("writable");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("settable");
    }

    fn configure(&self, options: &str) {
        let text = format!(
            "[agent]\nname = \"backend1\"\ninterface = \"data0\"\naddress = \"{HOST}\"\nswitch = \"{}\"\n\
             key_file = \"{dir}/keys.toml\"\nstate_dir = \"{dir}/state\"\npin_dir = \"{}\"\n{options}\n\
             [[vip]]\naddress = \"{VIP}\"\nport = 80\n",
            self.switch.local_addr().expect("bound"),
            self.pin_dir.display(),
            dir = self.dir.display(),
        );
        std::fs::write(self.dir.join("agent.toml"), text).expect("writable");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton-agent"));
        command.args(arguments).arg("--config").arg(self.dir.join("agent.toml")).env("BATON_LOG", "info");
        command
    }

    fn start(&self) -> Agent {
        Agent(self.command(&[]).stdin(Stdio::null()).spawn().expect("the agent runs"))
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the agent runs")
    }

    /// Takes the agent's next connection and welcomes it.
    #[track_caller]
    fn welcome(&self) -> SwitchEnd {
        let mut end = SwitchEnd::accept(&self.switch);
        match end.next() {
            FromAgent::Hello { version, name, address, vips, .. } => {
                assert_eq!((version, name.as_str()), (CONTROL_VERSION, "backend1"));
                assert_eq!((address, vips), (IpAddr::V4(HOST), vec![vip()]));
            }
            other => panic!("not a hello: {other:?}"),
        }
        end.say(&FromSwitch::Welcome {
            version: CONTROL_VERSION,
            address: SWITCH.into(),
            time: switch_now(),
        });
        end
    }

    fn has_vip(&self) -> bool {
        let addresses = Netlink::open().and_then(|netlink| netlink.addresses()).expect("readable");
        addresses.iter().any(|found| found.address == IpAddr::V4(VIP))
    }

    /// Undoes everything, as an operator would.
    #[track_caller]
    fn detach(&self) {
        let output = self.output(&["detach"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!self.pin_dir.exists() && !self.dir.join("state").exists() && !self.has_vip());
        let self_test = Netlink::open().and_then(|netlink| netlink.interface("baton-st0")).expect("readable");
        assert_eq!(self_test, None);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.output(&["detach"]); // a failed test may have left something
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The switch's end of a control connection: answers each report with the time.
struct SwitchEnd {
    stream: TcpStream,
    channel: Channel,
}

impl SwitchEnd {
    #[track_caller]
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = common::net::accept(listener);
        Self { stream, channel: Channel::accept(KeyRing::new(vec![common::control_key()]).expect("one key")) }
    }

    fn say(&mut self, message: &FromSwitch) {
        let bytes = self.channel.seal(message).expect("open");
        let _ = self.stream.write_all(&bytes); // the agent may be gone
    }

    fn try_next(&mut self) -> Result<Option<FromAgent>, ChannelError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(bytes) = self.channel.advance()? {
                self.stream.write_all(&bytes).expect("connected");
            }
            if let Some(message) = self.channel.take::<FromAgent>()? {
                if let FromAgent::Report(report) = &message {
                    self.say(&FromSwitch::Time { number: report.number, time: switch_now() });
                }
                return Ok(Some(message));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(read) => self.channel.feed(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(None),
            }
            assert!(Instant::now() < deadline, "the agent is silent");
        }
    }

    #[track_caller]
    fn next(&mut self) -> FromAgent {
        self.try_next().expect("authentic").expect("connected")
    }

    /// Reads reports until one is as wanted.
    #[track_caller]
    fn await_report(&mut self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + READY_WITHIN;
        let mut last = None;
        while Instant::now() < deadline {
            match self.next() {
                FromAgent::Report(report) if wanted(&report) => return report,
                FromAgent::Report(report) => last = Some(report),
                other => panic!("{other:?}"),
            }
        }
        panic!("no report that is {what} within {READY_WITHIN:?}; the last was {last:?}");
    }

    #[track_caller]
    fn await_ready(&mut self) -> Report {
        self.await_report("ready", |report| report.ready && report.health.iter().all(|vip| vip.healthy))
    }
}

/// Accepts connections and reads the request of a handoff; what says nothing, as probes and self-tests, is let go.
#[track_caller]
fn accept_client(listener: &TcpListener, client: &Client) -> TcpStream {
    let wanted = SocketAddr::new(client.tuple.client, client.tuple.client_port);
    loop {
        let (mut stream, peer) = accept(listener);
        if peer == wanted {
            assert_reads(&mut stream, REQUEST);
            return stream;
        }
    }
}

fn drain(listener: &TcpListener) -> Vec<SocketAddr> {
    std::iter::from_fn(|| listener.accept().ok()).map(|(_, peer)| peer).collect()
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_agent_serves_dies_is_replaced_and_leaves_nothing() {
    let lab = Lab::new("");
    let listener = listen();
    let names = ["tcp_ecn", "conf/data0/rp_filter", "conf/data0/arp_ignore", "conf/data0/arp_announce"];
    sysctl("tcp_ecn", "0");
    let before = names.map(read_sysctl);
    let mut agent = lab.start();
    let mut switch = lab.welcome();
    let report = switch.await_ready();
    assert_eq!((report.reasons.len(), report.load.born), (0, 0), "{report:?}");
    assert!(lab.has_vip());
    assert_eq!(names.map(read_sysctl), ["2", "0", "1", "2"]);
    let peers = drain(&listener);
    let tested = |peer: &SocketAddr| peer.ip() == IpAddr::V4(handoff_agent::selftest::CLIENT);
    assert_eq!(peers.iter().filter(|peer| tested(peer)).count(), 1, "one self-test: {peers:?}");
    let gone = Netlink::open().and_then(|netlink| netlink.interface("baton-st0")).expect("readable");
    assert_eq!(gone, None, "the self-test takes its interfaces away");

    let first = lab.net.client(50_001);
    lab.net.send(&first.frame(REQUEST));
    let stream = accept_client(&listener, &first);
    switch.await_report("aware of the connection", |report| {
        report.load.established >= 1 && report.load.born == 1
    });

    // Killed: the programs go on, also for new connections.
    agent.0.kill().expect("running");
    agent.0.wait().expect("killed");
    let second = lab.net.client(50_002);
    lab.net.send(&second.frame(REQUEST));
    let second_stream = accept_client(&listener, &second);

    // Its successor takes over and remembers what was used.
    let mut agent = lab.start();
    let mut switch = lab.welcome();
    switch.await_ready();
    let reset = Client {
        seq: BASE_SEQ.add(18),
        control: smoltcp::wire::TcpControl::Rst,
        kind: MessageType::Forward,
        ..second
    };
    lab.net.send(&Client { issued: switch_now(), ..reset }.frame(b""));
    lab.net.send(&Client { issued: switch_now(), ..second }.frame(REQUEST));
    let gone = lab.net.await_answer(&second);
    assert_eq!((gone.header.kind, gone.header.generation), (MessageType::Gone, second.generation));

    // Told to stop, it says goodbye; the programs go on.
    let id = Pid::from_child(&agent.0);
    kill_process(id, Signal::TERM).expect("running");
    while !matches!(switch.next(), FromAgent::Goodbye) {}
    assert!(agent.0.wait().expect("ended").success());
    let third = lab.net.client(50_003);
    lab.net.send(&third.frame(REQUEST));
    let third_stream = accept_client(&listener, &third);
    let counters = lab.output(&["counters", "--json"]);
    let counters: serde_json::Value = serde_json::from_slice(&counters.stdout).expect("JSON");
    assert_eq!(counters["refused_not_ready"], 0, "{counters}");
    drop((stream, second_stream, third_stream));

    lab.detach();
    assert_eq!(names.map(read_sysctl), before);
    let left = lab.net.client(50_004);
    lab.net.send(&left.frame(REQUEST));
    drain(&listener);
    assert_nothing_to_accept(&listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_server_that_comes_late_makes_the_backend_ready() {
    let lab = Lab::new("");
    let _agent = lab.start();
    let mut switch = lab.welcome();
    let report = switch.await_report("tried out", |report| {
        report.reasons.iter().any(|reason| reason.contains("nothing listens there"))
    });
    assert!(!report.ready && !report.health[0].healthy && report.health[0].why.is_some(), "{report:?}");
    let refused = lab.net.client(50_010);
    lab.net.send(&refused.frame(REQUEST));
    assert_eq!(lab.net.await_answer(&refused).header.kind, MessageType::Refused);
    let listener = listen();
    switch.await_ready();
    drop(listener);
    let begun = Instant::now();
    switch.await_report("unwell", |report| !report.health[0].healthy);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    lab.detach_after(_agent);
}

impl Lab {
    #[track_caller]
    fn detach_after(&self, agent: Agent) {
        let refused = self.output(&["detach"]);
        let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && complaint.contains("another baton-agent is running"),
            "{complaint}"
        );
        drop(agent);
        self.detach();
    }
}

fn nft(rules: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    child.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("writable");
    assert!(child.wait().expect("ended").success(), "nft refused {rules}");
}

const NEW_MUST_BE_SYN: &str = "table inet site {\n chain input {\n  type filter hook input priority 0;\n  \
     tcp flags & (fin|syn|rst|ack) != syn ct state new counter drop\n }\n}\n";

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_firewall_that_wants_a_syn_is_explained_and_got_round() {
    let lab = Lab::new("manage_host = true");
    let listener = listen();
    nft(NEW_MUST_BE_SYN);
    let agent = lab.start();
    let mut switch = lab.welcome();
    switch.await_ready();
    let client = lab.net.client(50_020);
    lab.net.send(&client.frame(REQUEST));
    drop(accept_client(&listener, &client));
    lab.detach_after(agent);
    let rules = Command::new("nft").args(["list", "ruleset"]).output().expect("nft");
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    assert!(rules.contains("site") && !rules.contains("baton"), "{rules}");
}

/// The host is made fit by hand, but for the firewall, and the agent may change nothing.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn without_leave_to_change_the_host_the_agent_says_what_is_wrong() {
    let lab = Lab::new("manage_host = false");
    let _listener = listen();
    let check = lab.output(&["--check"]);
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        !check.status.success() && text.contains("the VIP 10.60.0.100 is not an address of this host"),
        "{text}"
    );
    assert!(text.contains("conf/data0/arp_ignore") && text.contains("remedy: "), "{text}");
    lab.net.add_address("lo", VIP);
    sysctl("conf/data0/arp_ignore", "1");
    sysctl("conf/data0/arp_announce", "2");
    let check = lab.output(&["--check"]);
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success() && text.contains("backend1: this host is fit"), "{text}");

    nft(NEW_MUST_BE_SYN);
    let check = lab.output(&["--check"]);
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        !check.status.success() && text.contains("begin without SYN: nft inet site chain input"),
        "{text}"
    );
    let _agent = lab.start();
    let mut switch = lab.welcome();
    switch.await_report("aware of the firewall", |report| {
        !report.ready && report.reasons.iter().any(|reason| reason.contains("begin without SYN"))
    });
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_filter_nobody_can_read_is_found_by_trying() {
    for rules in [
        "table inet site {\n chain input {\n  type filter hook input priority 0;\n  \
         iifname data0 tcp dport 80 drop\n }\n}\n",
        "table inet site {\n chain prerouting {\n  type filter hook prerouting priority 0;\n  ct state \
         { new, invalid } tcp flags ack drop\n }\n}\n",
    ] {
        std::thread::spawn(move || {
            let lab = Lab::new("");
            let _listener = listen();
            nft(rules);
            let _agent = lab.start();
            let mut switch = lab.welcome();
            switch.await_report("aware that something swallows handoffs", |report| {
                !report.ready
                    && report.reasons.iter().any(|reason| reason.contains("no connection came of it"))
            });
            nft("flush ruleset\n");
            switch.await_ready();
        })
        .join()
        .expect("a rule that is found");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_agent_with_another_key_is_not_let_in_and_a_lost_switch_is_dialled_again() {
    let lab = Lab::new("");
    let _listener = listen();
    lab.write_keys(&[0x77; 32]);
    let agent = lab.start();
    let mut end = SwitchEnd::accept(&lab.switch);
    assert!(matches!(end.try_next(), Err(ChannelError::Noise(_))));
    drop((end, agent));
    lab.write_keys(&[0x41; 32]);
    let _agent = lab.start();
    let mut switch = lab.welcome();
    switch.await_ready();
    drop(switch);
    let lost = Instant::now();
    let mut again = lab.welcome();
    assert!(lost.elapsed() < Duration::from_millis(500), "{:?}", lost.elapsed());
    again.await_ready();
    // A switch that says nothing any more is left for a new connection.
    let mut last = lab.welcome();
    last.await_ready();
    drop(again);
    let established = tcp_sockets(State::Established, Some(PORT)).expect("readable");
    assert_eq!(established, [], "probes leave nothing behind");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn handoffs_that_are_never_born_close_the_backend() {
    let lab = Lab::new("");
    let listener = listen();
    let _agent = lab.start();
    let mut switch = lab.welcome();
    switch.await_ready();
    // Only real clients are dropped: the self-test passes as before.
    nft(&format!(
        "table inet site {{\n chain input {{\n  type filter hook input priority 0;\n  ip saddr {CLIENT} drop\n }}\n}}\n"
    ));
    for port in 50_030..50_034 {
        lab.net.send(&lab.net.client(port).frame(REQUEST));
    }
    let begun = Instant::now();
    switch.await_report("closed", |report| {
        !report.ready && report.reasons.iter().any(|reason| reason.contains("never became connections"))
    });
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let refused = lab.net.client(50_040);
    lab.net.send(&refused.frame(REQUEST));
    let bounced = lab.net.await_answer(&refused);
    assert_eq!(bounced.header.detail, handoff_proto::header::Detail::NotReady);
    nft("flush ruleset\n");
    switch.await_ready();
    let client = lab.net.client(50_041);
    lab.net.send(&client.frame(REQUEST));
    drop(accept_client(&listener, &client));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_interface_that_went_away_is_attached_to_again() {
    let mut lab = Lab::new("");
    let listener = listen();
    let agent = lab.start();
    let mut switch = lab.welcome();
    switch.await_ready();
    let netlink = Netlink::open().expect("netlink");
    netlink.delete_interface(lab.net.data_index).expect("deletable");
    switch.await_report("without its interface", |report| {
        !report.ready && report.reasons.iter().any(|reason| reason.contains("no interface `data0`"))
    });
    lab.net = Net::in_this_netns();
    switch.await_ready();
    let client = lab.net.client(50_050);
    lab.net.send(&client.frame(REQUEST));
    drop(accept_client(&listener, &client));
    lab.detach_after(agent);
}
