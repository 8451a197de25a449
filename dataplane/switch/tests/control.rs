//! The control thread behind real sockets: an agent played by `proto::channel`, an operator, a scraper, and threads that
//! play lcores. No DPDK device, no root.

#[path = "control/admin.rs"]
mod admin;
#[path = "control/capture.rs"]
mod capture;
#[path = "control/http.rs"]
mod http;
#[path = "control/orders.rs"]
mod orders;
#[path = "control/page.rs"]
mod page;
#[path = "control/troubles.rs"]
mod troubles;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use baton_core::flow::State;
use baton_core::policy::BackendIndex;
use baton_core::switch::FlowView;
use baton_core::wire::MacAddress;
use baton_core::{DropReason, Snapshot};
use baton_switch::config::Config;
use baton_switch::control::{
    AdminSocket, Control, Identity, Listeners, Live, Order, PortReading, Shared, SocketFault,
    UNAUTHENTICATED_COUNT_MAX, bind,
};
use baton_switch::metrics::{self, Sample};
use baton_switch::runtime::{Clock, LcoreView, Mailbox, Observer, Question};
use handoff_proto::admin::{Backend, Counter, Fault, Flows, Status};
use handoff_proto::channel::Channel;
use handoff_proto::control::{
    CONTROL_VERSION, FromAgent, FromSwitch, Load, REPORT_INTERVAL, Report, VipHealth,
};
use handoff_proto::keys::{Key, key_file_text};
use handoff_proto::{FourTuple, KeyId, Micros, Vip};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use http::Answer;

/// Long enough for any machine; nothing here waits for it unless something is broken.
const PATIENCE: Duration = Duration::from_secs(20);
const VIP: Vip = Vip { address: IpAddr::V4(Ipv4Addr::new(10, 60, 0, 100)), port: 80 };
const LCORE_COUNT: u8 = 2;

fn key() -> Key {
    Key::new(KeyId(1), [7; 32])
}

/// A VIP and two backends, one of them behind the gateway.
const SERVICES: &str = r#"
[[vip]]
name = "web"
address = "10.60.0.100"
port = 80

[[backend]]
name = "one"
address = "10.60.0.11"

[[backend]]
name = "far"
address = "10.61.0.12"

[[pool]]
name = "all"
backends = ["one", "far"]

[[rule]]
pool = "all"
"#;

/// Writes key file and configuration; returns the latter's path.
fn write_files(directory: &Path, services: &str) -> PathBuf {
    let (keys, file) = (directory.join("keys.toml"), directory.join("switch.toml"));
    fs::write(&keys, key_file_text(KeyId(1), &[7; 32])).expect("written");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("own file");
    let text = format!(
        "[switch]\naddress = \"10.60.0.1/24\"\ngateway = \"10.60.0.254\"\nkey_file = {keys:?}\n\
         [dpdk]\ndevice = \"net_null0\"\n[control]\nlisten = \"10.70.0.1:7170\"\n{services}"
    );
    fs::write(&file, text).expect("written");
    file
}

/// A running control thread, and what surrounds it.
struct World {
    agents: SocketAddr,
    metrics: SocketAddr,
    socket: PathBuf,
    shared: Arc<Shared>,
    mailboxes: Arc<[Mailbox]>,
    control: Control,
    directory: TempDir,
}

impl World {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("new").join("switch.sock");
        let file = write_files(directory.path(), SERVICES);
        let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listeners = Listeners {
            agents: bind("listen", any).expect("loopback"),
            metrics: bind("metrics", any).expect("loopback"),
            admin: AdminSocket::bind(&socket).expect("a fresh path"),
        };
        let (agents, metrics) =
            (listeners.agents.local_addr().expect("bound"), listeners.metrics.local_addr().expect("bound"));
        let clock = Clock::start().expect("a set clock");
        let views = (0..LCORE_COUNT).map(|index| LcoreView::new(index, 0, Arc::default(), Arc::default()));
        let identity = Identity {
            address: IpAddr::from([10, 60, 0, 1]),
            gateway: Some(Ipv4Addr::new(10, 60, 0, 254)),
            mac: "02:00:00:00:00:01".to_owned(),
            device: "net_null0".to_owned(),
            flow_count_max: 64,
        };
        let mailboxes: Arc<[Mailbox]> = (0..LCORE_COUNT).map(|_| Mailbox::default()).collect();
        let shared = Arc::new(Shared::new(
            identity,
            Live::new(&file, config, clock.now()),
            Observer::new(clock, views.collect()),
            Arc::clone(&mailboxes),
            Box::new(|| Ok(PortReading::default())),
        ));
        let scraped = Arc::clone(&shared);
        let scrape = Arc::new(move || metrics::render(&Sample::take(&scraped)));
        let control = Control::start(listeners, Arc::clone(&shared), scrape).expect("a thread");
        Self { agents, metrics, socket, shared, mailboxes, control, directory }
    }

    /// Waits until lcore 0 is told something of which `wanted` holds.
    fn await_snapshot(&self, wanted: impl Fn(&Snapshot) -> bool) {
        await_that("a snapshot", || {
            let update = self.mailboxes[0].letters().and_then(|letters| letters.update());
            update.is_some_and(|update| wanted(update.snapshot()))
        });
    }

    /// Asks for what must be there.
    fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let Answer { status, body, .. } = self.request("GET", path, "");
        let text = String::from_utf8(body).expect("text");
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("the agreed form")
    }

    /// Asks or orders what must be refused; returns the status and why.
    fn refusal(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let answer = self.request(method, path, body);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        let fault: Fault = serde_json::from_slice(&answer.body).expect("the agreed form");
        (answer.status, fault.error)
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Answer {
        http::exchange(&mut self.connect(), method, path, body)
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("control listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// An agent on a real connection.
struct Agent {
    stream: TcpStream,
    channel: Channel,
}

impl Agent {
    /// Connects, authenticates and says hello; returns the answer too.
    fn connect(world: &World, key: &Key, name: &str, address: [u8; 4]) -> (Self, io::Result<FromSwitch>) {
        let stream = TcpStream::connect(world.agents).expect("control listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let (channel, opening) = Channel::initiate(key).expect("randomness");
        let mut agent = Self { stream, channel };
        agent.stream.write_all(&opening).expect("control reads");
        while !agent.channel.is_open() {
            if let Err(error) = agent.read() {
                return (agent, Err(error));
            }
            agent.channel.advance().expect("authentic");
        }
        let hello = FromAgent::Hello {
            version: CONTROL_VERSION,
            name: name.to_owned(),
            address: IpAddr::from(address),
            vips: vec![VIP],
            release: "0.1.0".to_owned(),
            time: Micros::from_secs(1_700_000_000),
        };
        let answer = agent.say(&hello);
        (agent, answer)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.channel.feed(&buffer[..count]);
        Ok(())
    }

    fn say(&mut self, message: &FromAgent) -> io::Result<FromSwitch> {
        self.stream.write_all(&self.channel.seal(message).expect("open"))?;
        loop {
            if let Some(answer) = self.channel.take().expect("authentic") {
                return Ok(answer);
            }
            self.read()?;
        }
    }

    fn report(&mut self, healthy: bool) -> io::Result<FromSwitch> {
        self.say(&FromAgent::Report(Report {
            number: 5,
            ready: true,
            reasons: Vec::new(),
            health: vec![VipHealth { vip: VIP, healthy, why: None }],
            load: Load { established: Some(3), ..Load::default() },
        }))
    }
}

/// A thread that answers control's questions as lcores do, and counts.
fn play_lcores(world: &World, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (mailboxes, stop) = (Arc::clone(&world.mailboxes), Arc::clone(stop));
    let now = world.shared.clock().now();
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            for mailbox in mailboxes.iter() {
                let Some(letters) = mailbox.letters() else { continue };
                match letters.question() {
                    Some(Question::Flows { mut room, reply }) => {
                        let tuple = FourTuple {
                            client: IpAddr::from([10, 50, 0, 11]),
                            client_port: 40_000,
                            vip: VIP.address,
                            vip_port: VIP.port,
                        };
                        let flow = |state| FlowView {
                            tuple,
                            backend: BackendIndex(1),
                            state,
                            created: Micros(now.0 - 3_000_000),
                            last_seen: now,
                        };
                        room.extend(
                            [flow(State::Established), flow(State::Holding)]
                                .into_iter()
                                .take(room.capacity()),
                        );
                        reply.send(room).expect("control waits");
                    }
                    Some(Question::NextHops { mut room, reply }) => {
                        room.push((Ipv4Addr::new(10, 60, 0, 11), Some(MacAddress([2, 0, 0, 0, 0, 11]))));
                        room.push((Ipv4Addr::new(10, 60, 0, 254), Some(MacAddress([2, 0, 0, 0, 0, 254]))));
                        reply.send(room).expect("control waits");
                    }
                    Some(Question::Conflict { reply }) => drop(reply.send(None)),
                    Some(Question::Explain { .. } | Question::Dispatched { .. }) => {} // nobody asks here
                    None => {}
                }
                letters.leave();
            }
            thread::sleep(Duration::from_micros(100));
        }
    })
}

#[test]
fn an_agent_makes_its_backend_usable_and_its_silence_takes_it_out_everywhere() {
    let world = World::start();
    let (mut agent, welcome) = Agent::connect(&world, &key(), "one", [10, 60, 0, 11]);
    let Ok(FromSwitch::Welcome { time, address, .. }) = welcome else { panic!("{welcome:?}") };
    assert_eq!(address, IpAddr::from([10, 60, 0, 1]));
    assert!(time >= world.shared.clock().started() && time <= world.shared.clock().now());
    assert!(matches!(agent.report(true), Ok(FromSwitch::Time { number: 5, .. })));
    world.await_snapshot(|snapshot| snapshot.backends[0].usable && !snapshot.backends[1].usable);
    let other = world.mailboxes[1].letters().and_then(|letters| letters.update());
    assert!(other.expect("every lcore is told").snapshot().backends[0].usable);

    agent.report(false).expect("answered");
    world.await_snapshot(|snapshot| !snapshot.backends[0].usable);
    agent.report(true).expect("answered");
    world.await_snapshot(|snapshot| snapshot.backends[0].usable);

    // The connection stays open; nothing is said any more.
    let last_heard = Instant::now();
    world.await_snapshot(|snapshot| !snapshot.backends[0].usable);
    assert!(last_heard.elapsed() > Duration::from_micros(3 * REPORT_INTERVAL.0), "three reports may be late");
    let closed = agent.report(true).expect_err("the switch gave it up");
    assert!(closed.kind() != io::ErrorKind::WouldBlock, "{closed}");
    world.control.stop();
}

#[test]
fn an_agent_that_comes_back_speaks_for_its_backend() {
    let world = World::start();
    let (mut first, _) = Agent::connect(&world, &key(), "one", [10, 60, 0, 11]);
    first.report(true).expect("answered");
    let (mut second, welcome) = Agent::connect(&world, &key(), "one", [10, 60, 0, 11]);
    assert!(matches!(welcome, Ok(FromSwitch::Welcome { .. })), "{welcome:?}");
    second.report(true).expect("answered");
    first.report(false).expect_err("superseded");
    world.await_snapshot(|snapshot| snapshot.backends[0].usable);
    world.control.stop();
}

#[test]
fn a_hangup_reloads_the_file_and_only_who_is_taken_out_is_turned_away() {
    let world = World::start();
    let (mut one, _) = Agent::connect(&world, &key(), "one", [10, 60, 0, 11]);
    let (mut far, _) = Agent::connect(&world, &key(), "far", [10, 61, 0, 12]);
    one.report(true).expect("answered");
    far.report(true).expect("answered");
    world.await_snapshot(|snapshot| snapshot.backends.iter().all(|backend| backend.usable));
    let without = SERVICES.replace("[[backend]]\nname = \"far\"\naddress = \"10.61.0.12\"\n", "");
    write_files(world.directory.path(), &without.replace("[\"one\", \"far\"]", "[\"one\"]"));
    hang_up();
    await_that("the reload", || {
        let update = world.mailboxes[0].letters().and_then(|letters| letters.update());
        one.report(true).expect("its session goes on");
        update.is_some_and(|update| {
            update.snapshot().backends.iter().map(|backend| backend.usable).eq([true, false])
        })
    });
    let Ok(FromSwitch::Turned { why }) = far.report(true) else { panic!("taken") };
    assert_eq!(why, "the operator took backend \"far\" out of the switch's configuration");

    // A faulty one changes nothing.
    write_files(world.directory.path(), &SERVICES.replace("pool = \"all\"", "pool = \"al\""));
    world.shared.carry_out(&Order::Reload).expect_err("refused");
    assert!(matches!(one.report(true), Ok(FromSwitch::Time { .. })));
    assert_eq!(world.shared.live.running().generation, 2);
    world.control.stop();
}

/// Sends this process the signal, of which it does not die even if no control has asked for it yet.
fn hang_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let context = runtime.enter();
    let hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).expect("a handler");
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP)
        .expect("own process");
    drop((hangups, context));
}

#[test]
fn strangers_and_misfits_are_turned_away() {
    let world = World::start();
    let (_, refused) = Agent::connect(&world, &Key::new(KeyId(1), [8; 32]), "one", [10, 60, 0, 11]);
    refused.expect_err("closed without a word");
    let (_, turned) = Agent::connect(&world, &key(), "nobody", [10, 60, 0, 11]);
    let Ok(FromSwitch::Turned { why }) = turned else { panic!("{turned:?}") };
    assert!(why.contains("no [[backend]] of the switch is called \"nobody\""), "{why}");
    await_that("count of both", || world.shared.counters.refused.load(Ordering::Relaxed) == 2);
    world.control.stop();
}

#[test]
fn idle_strangers_cannot_crowd_out_more_than_their_share() {
    let world = World::start();
    let strangers: Vec<TcpStream> = (0..UNAUTHENTICATED_COUNT_MAX)
        .map(|_| TcpStream::connect(world.agents).expect("control listens"))
        .collect();
    let mut further = TcpStream::connect(world.agents).expect("the system takes it");
    further.set_read_timeout(Some(PATIENCE)).expect("a socket");
    assert_eq!(further.read(&mut [0]).expect("closed at once"), 0);
    assert_eq!(world.shared.counters.crowded.load(Ordering::Relaxed), 1);
    drop(strangers);
    await_that("place for an agent", || Agent::connect(&world, &key(), "one", [10, 60, 0, 11]).1.is_ok());
    world.control.stop();
}

#[test]
fn operators_are_answered() {
    let world = World::start();
    let stop = Arc::new(AtomicBool::new(false));
    let lcores = play_lcores(&world, &stop);
    world.shared.observer.lcores()[1].core.count_drop(DropReason::Malformed);
    world.shared.observer.lcores()[0].core.set_flows(2);
    let (mut agent, _) = Agent::connect(&world, &key(), "one", [10, 60, 0, 11]);
    agent.report(true).expect("answered");

    let status: Status = world.get("/v1/status");
    assert_eq!((status.backends_usable, status.backends_configured, status.lcore_count), (1, 2, 2));
    assert_eq!((status.flows, status.flows_capacity, status.drops), (2, 128, 1));
    assert_eq!(status.lcores[1].drops, 1);

    let backends: Vec<Backend> = world.get("/v1/backends");
    assert_eq!(backends[0].next_hop_mac.as_deref(), Some("02:00:00:00:00:0b"));
    assert_eq!(backends[1].next_hop_mac.as_deref(), Some("02:00:00:00:00:fe"), "by way of the gateway");
    assert!(backends[0].usable && backends[0].reasons.is_empty() && backends[0].report_age_ms.is_some());
    assert_eq!(backends[0].load.and_then(|load| load.established), Some(3));
    assert!(!backends[1].usable && backends[1].reasons.len() == 1);

    for (limit, expected) in [(1, 1), (3, 3), (10_000, 4)] {
        let flows: Flows = world.get(&format!("/v1/flows?limit={limit}"));
        assert_eq!((flows.total, flows.flows.len()), (2, expected));
        let first = &flows.flows[0];
        assert_eq!((first.backend.as_deref(), first.state.as_str()), (Some("far"), "established"));
        assert!(first.age_ms >= 3_000 && first.idle_ms < 3_000, "{first:?}");
    }
    let flows: Flows = world.get("/v1/flows");
    assert_eq!((&flows.flows[3].backend, flows.flows[3].lcore), (&None, 1), "a held head has no backend");

    let counters: Vec<Counter> = world.get("/v1/counters");
    let malformed = counters.iter().find(|counter| counter.name == "drop_malformed").expect("listed");
    assert_eq!(malformed.value, 1);
    for name in ["lcore_naps", "news_lost", "sessions_lost"] {
        assert!(counters.iter().any(|counter| counter.name == name), "{name}");
    }
    stop.store(true, Ordering::Relaxed);
    lcores.join().expect("ends");
    world.control.stop();
}

#[test]
fn a_sleeping_lcore_is_told() {
    let world = World::start();
    let (status, why) = world.refusal("GET", "/v1/flows?limit=1", "");
    assert_eq!(status, 503);
    assert!(why.contains("does not answer"), "{why}");
    let backends: Vec<Backend> = world.get("/v1/backends");
    assert_eq!(backends[0].next_hop_mac, None, "without the lcore's word");
    world.control.stop();
}

#[test]
fn scrapers_get_the_metrics_and_nothing_else() {
    let world = World::start();
    let get = |request: &str| {
        let mut stream = TcpStream::connect(world.metrics).expect("control listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(request.as_bytes()).expect("control reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text, then the end");
        answer
    };
    let metrics = get("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
    assert!(metrics.contains("\nbaton_backend_usable{backend=\"far\"} 0\n"));
    assert!(metrics.contains("\nbaton_rx_frames_total{lcore=\"1\"} 0\n"));
    assert!(get("GET / HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(get("POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 405 "));
    world.control.stop();
}

#[test]
fn the_admin_socket_is_private_replaced_when_stale_and_removed_at_the_end() {
    let world = World::start();
    let socket = world.socket.clone();
    assert_eq!(fs::metadata(&socket).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(matches!(AdminSocket::bind(&socket), Err(SocketFault::InUse(_))));
    let directory = world.directory;
    world.control.stop();
    assert!(!socket.exists());

    drop(UnixListener::bind(&socket).expect("a free path"));
    assert!(socket.exists(), "left over by a process that died");
    let replaced = AdminSocket::bind(&socket).expect("nobody answers there");
    fs::remove_file(&socket).expect("ours");
    fs::write(&socket, "precious").expect("a free path");
    drop(replaced);
    assert_eq!(fs::read_to_string(&socket).expect("kept"), "precious", "only what is ours is removed");
    assert!(matches!(AdminSocket::bind(&socket), Err(SocketFault::Occupied(_))));
    assert_eq!(fs::read_to_string(&socket).expect("kept"), "precious");
    drop(directory);
}
