//! The whole agent, as a process.

mod common;

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::lab::*;
use common::net::*;
use common::tls::ServerHello;
use common::*;
use handoff_agent::sys::diag::{State, tcp_sockets};
use handoff_agent::sys::netlink::Netlink;
use handoff_proto::channel::ChannelError;
use handoff_proto::control::FromAgent;
use handoff_proto::{MessageType, TlsSessionId};
use rustix::process::{Pid, Signal, kill_process};

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

/// What is told of a first start: nothing of libbpf's, and what lasts is told once, though it is looked at again.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_first_start_is_told_without_noise_and_what_lasts_is_told_once() {
    let lab = Lab::new("");
    let file = lab.dir.join("agent.log");
    let log = std::fs::File::create(&file).expect("writable");
    let mut command = lab.command(&[]);
    let agent = Agent(command.stdin(Stdio::null()).stderr(log).spawn().expect("the agent runs"));
    let mut switch = lab.welcome();
    // Somebody sets a setting back whenever it is mended, three times; and nothing listens at the VIP.
    for _ in 0..3 {
        let mended = || read_sysctl("conf/data0/arp_ignore") == "1";
        switch.await_report("mending", |_| mended());
        // The agent looks once more at what it has just mended: set back by then, it is found, and rightly told.
        std::thread::sleep(Duration::from_millis(300));
        sysctl("conf/data0/arp_ignore", "0");
    }
    let lasting = Instant::now() + Duration::from_secs(6); // two looks at the host, and more
    switch.try_until(lasting);
    drop(agent);
    let text = std::fs::read_to_string(&file).expect("readable");
    assert!(!text.contains("libbpf"), "{text}");
    let told =
        |words: &[&str]| text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(told(&["ERROR found", "nothing listens"]), 1, "{text}");
    // At the start, and if the host was seen well in between, for the first time again.
    assert!((1..=2).contains(&told(&["INFO mended what=", "arp_ignore is 0"])), "{text}");
    assert_eq!(told(&["WARN mended again", "arp_ignore is 0"]), 1, "{text}");
    assert_eq!(told(&["INFO stays mended now", "arp_ignore is 0"]), 1, "{text}");
    assert_eq!(told(&["ERROR found", "arp_ignore"]), 0, "{text}");
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
    assert_eq!((report.reasons.len(), report.load.born), (0, Some(0)), "{report:?}");
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
        report.load.established >= Some(1) && report.load.born == Some(1)
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

/// The load of a connection, and the TLS session its server names: the latter is told when it is named, not with the next report.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_servers_do_is_told_with_reports_and_what_they_name_at_once() {
    let lab = Lab::new("");
    let listener = listen();
    let agent = lab.start();
    let mut switch = lab.welcome();
    let ready = switch.await_ready();
    assert!(ready.load.accept_queue.is_some() && ready.load.cpu_busy_permille.is_some(), "{ready:?}");
    let client = lab.net.client(50_060);
    lab.net.send(&client.frame(REQUEST));
    let mut stream = accept_client(&listener, &client);
    let told = |switch: &mut SwitchEnd| {
        let mut reports = Vec::new();
        loop {
            match switch.next() {
                FromAgent::Sessions(sessions) => return (sessions, reports),
                FromAgent::Report(report) if reports.len() < 100 => reports.push(report),
                other => panic!("no session is told, but {other:?}"),
            }
        }
    };
    stream.write_all(&ServerHello::named(32).record()).expect("connected");
    let begun = Instant::now();
    let (sessions, _) = told(&mut switch);
    let took = begun.elapsed();
    assert_eq!(sessions.vip, vip());
    let ids: Vec<&[u8]> = sessions.ids.iter().map(TlsSessionId::as_bytes).collect();
    assert_eq!(ids, [&ServerHello::named(32).id[..]]);
    assert!(took < Duration::from_millis(50), "half a report's time: {took:?}");
    let report = switch.await_report("aware of the answer", |report| report.load.response.is_some());
    assert!(report.load.traffic.is_some_and(|traffic| traffic.bytes_in >= 18), "{report:?}");

    // Named while nobody listens, it waits. The agent knows that nobody does: it is calling again.
    drop(switch);
    let calling = SwitchEnd::accept(&lab.switch);
    let other = lab.net.client(50_061);
    lab.net.send(&other.frame(REQUEST));
    let mut stream = accept_client(&listener, &other);
    stream.write_all(&ServerHello::named(7).record()).expect("connected");
    let mut switch = lab.greet(calling);
    let (sessions, reports) = told(&mut switch);
    assert_eq!((sessions.ids.len(), sessions.ids[0].as_bytes().len()), (1, 7));
    assert!(reports.len() <= 1, "{reports:?}");
    lab.detach_after(agent);
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
        check.status.code() == Some(1) && text.contains("the VIP 10.60.0.100 is not an address of this host"),
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
        check.status.code() == Some(1) && text.contains("begin without SYN: nft inet site chain input"),
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
