//! The program as an operator runs it, before a peer that plays the switch.

use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use handoff_proto::admin::{
    Backend, Counter, Flow, Flows, LcoreStatus, Request, Response, Status, VipStatus,
};
use handoff_proto::codec::{Decoder, encode};
use handoff_proto::control::Load;
use handoff_proto::{FourTuple, KeyId, KeyRing, Vip};
use serde_json::Value;

fn run(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batonctl"));
    command.arg("--socket").arg(socket).args(arguments).output().expect("batonctl was built")
}

/// Answers one request on `socket` with `response`; returns the request.
fn switch(socket: &Path, response: &Response) -> JoinHandle<Request> {
    let listener = UnixListener::bind(socket).expect("a fresh path");
    let frame = encode(response).expect("short");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("batonctl connects");
        let mut decoder = Decoder::default();
        let mut buffer = [0; 256];
        loop {
            let count = stream.read(&mut buffer).expect("a request");
            assert!(count > 0, "closed before a request was complete");
            decoder.feed(&buffer[..count]);
            if let Some(request) = decoder.take().expect("a request") {
                // Cut, as a stream may be.
                for piece in frame.chunks(100) {
                    stream.write_all(piece).expect("batonctl reads");
                }
                return request;
            }
        }
    })
}

/// Asks a switch that answers `response`; returns what was asked and what was printed.
fn ask(response: &Response, arguments: &[&str]) -> (Request, Output) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("switch.sock");
    let peer = switch(&socket, response);
    let output = run(&socket, arguments);
    (peer.join().expect("the peer ends"), output)
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 60, 0, last])
}

fn vip() -> Vip {
    Vip { address: ip(100), port: 80 }
}

fn status() -> Status {
    Status {
        release: "0.1.0".to_owned(),
        uptime_s: 3723,
        address: ip(1),
        mac: "02:00:00:00:00:01".to_owned(),
        device: "net_af_packet0,iface=data0".to_owned(),
        lcore_count: 1,
        vips: vec![VipStatus { name: "web".to_owned(), vip: vip() }],
        backends_usable: 1,
        backends_configured: 2,
        flows: 3,
        flows_capacity: 65_536,
        rx_frames: 1000,
        tx_frames: 990,
        handoffs: 42,
        drops: 10,
        lcores: vec![LcoreStatus {
            lcore: 0,
            cpu: 1,
            flows: 3,
            rx_frames: 1000,
            tx_frames: 990,
            drops: 10,
            busy_us: 123_000,
            idle_us: 877_000,
        }],
    }
}

fn backends() -> Vec<Backend> {
    let one = Backend {
        name: "backend1".to_owned(),
        address: ip(11),
        usable: true,
        reasons: Vec::new(),
        next_hop_mac: Some("02:00:00:00:00:0b".to_owned()),
        report_age_ms: Some(87),
        agent_release: Some("0.1.0".to_owned()),
        clock_ahead_ms: Some(0),
        load: Some(Load {
            established: Some(5),
            born: Some(40),
            refused: Some(2),
            cpu_busy_permille: Some(125),
            ..Load::default()
        }),
        pools: vec!["files".to_owned(), "all".to_owned()],
    };
    let two = Backend {
        name: "backend2".to_owned(),
        address: ip(12),
        usable: false,
        reasons: vec!["its agent fell silent".to_owned()],
        next_hop_mac: None,
        report_age_ms: None,
        load: None,
        pools: vec!["all".to_owned()],
        ..one.clone()
    };
    vec![one, two]
}

#[test]
fn status_tells_the_busy_share_and_where_drops_are_explained() {
    let (request, output) = ask(&Response::Status(status()), &["status"]);
    assert_eq!(request, Request::Status);
    let expected = "\
baton-switch 0.1.0, up 1 h 2 min
address   10.60.0.1 (02:00:00:00:00:01)
device    net_af_packet0,iface=data0
backends  1 of 2 usable
flows     3 of 65536
handoffs  42
frames    1000 received, 990 sent, 10 dropped (`batonctl counters` tells why)

VIP  ADDRESS
web  10.60.0.100:80

LCORE  CPU    BUSY  FLOWS  RECEIVED  SENT  DROPPED
    0    1  12.3 %      3      1000   990       10
";
    assert_eq!(text(&output), expected);
}

#[test]
fn backends_tells_why_one_gets_no_connections() {
    let (request, output) = ask(&Response::Backends(backends()), &["backends"]);
    assert_eq!(request, Request::Backends);
    let expected = "\
BACKEND   ADDRESS     NEW CONNECTIONS  OPEN  BORN  REFUSED     CPU     REPORT  NEXT HOP           POOLS
backend1  10.60.0.11  yes                 5    40        2  12.5 %  87 ms ago  02:00:00:00:00:0b  files, all
backend2  10.60.0.12  no                  -     -        -       -          -  unresolved         all

backend2 gets no new connections:
  its agent fell silent
";
    assert_eq!(text(&output), expected);
}

#[test]
fn flows_passes_the_limit_on_and_tells_how_many_there_are() {
    let tuple = FourTuple { client: ip(200), client_port: 40_000, vip: ip(100), vip_port: 80 };
    let flow = |backend: Option<&str>, state: &str| Flow {
        tuple,
        backend: backend.map(str::to_owned),
        state: state.to_owned(),
        age_ms: 65_000,
        idle_ms: 1234,
        lcore: 0,
    };
    let listed = vec![flow(Some("backend1"), "established"), flow(None, "holding")];
    let (request, output) =
        ask(&Response::Flows(Flows { total: 70, flows: listed }), &["flows", "--limit", "2"]);
    assert_eq!(request, Request::Flows { limit: 2 });
    let expected = "\
CLIENT             VIP             BACKEND   STATE              AGE   IDLE  LCORE
10.60.0.200:40000  10.60.0.100:80  backend1  established  1 min 5 s  1.2 s      0
10.60.0.200:40000  10.60.0.100:80  -         holding      1 min 5 s  1.2 s      0

2 of 70 flows
";
    assert_eq!(text(&output), expected);
    let (_, none) = ask(&Response::Flows(Flows { total: 0, flows: Vec::new() }), &["flows"]);
    assert_eq!(text(&none), "no flows\n");
}

#[test]
fn counters_leaves_zeros_out_unless_asked_for_all() {
    let counter =
        |name: &str, value| Counter { name: name.to_owned(), description: "Things.".to_owned(), value };
    let response = Response::Counters(vec![counter("syn_acks", 12), counter("drop_malformed", 0)]);
    let (request, output) = ask(&response, &["counters"]);
    assert_eq!(request, Request::Counters);
    assert_eq!(text(&output), "COUNT  NAME      MEANING\n   12  syn_acks  Things.\n");
    let (_, all) = ask(&response, &["counters", "--all"]);
    assert!(text(&all).ends_with("    0  drop_malformed  Things.\n"));
    let (_, json) = ask(&response, &["counters", "--json"]);
    assert_eq!(serde_json::from_str::<Vec<Counter>>(&text(&json)).expect("JSON").len(), 2);
}

#[test]
fn json_is_the_answer_itself() {
    let (_, output) = ask(&Response::Status(status()), &["status", "--json"]);
    assert_eq!(serde_json::from_str::<Status>(&text(&output)).expect("JSON"), status());
    let (_, output) = ask(&Response::Backends(backends()), &["--json", "backends"]);
    assert_eq!(serde_json::from_str::<Vec<Backend>>(&text(&output)).expect("JSON"), backends());
    let (_, output) = ask(&Response::Flows(Flows { total: 9, flows: Vec::new() }), &["flows", "--json"]);
    let value: Value = serde_json::from_str(&text(&output)).expect("JSON");
    assert_eq!(value["total"], 9);
}

#[test]
fn what_hinders_is_said_with_a_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("switch.sock");
    let complaint = |arguments: &[&str]| {
        let output = run(&socket, arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(complaint(&["status"]).contains("Is baton-switch running on this host?"));
    drop(UnixListener::bind(&socket).expect("a fresh path"));
    assert!(complaint(&["status"]).contains("Start baton-switch; it replaces the socket"));

    let (_, refused) = ask(&Response::Error("an lcore is asleep".to_owned()), &["flows"]);
    assert_eq!(String::from_utf8_lossy(&refused.stderr), "batonctl: the switch says: an lcore is asleep\n");
    let (_, other) = ask(&Response::Counters(Vec::new()), &["status"]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("of the same release"));
}

#[test]
fn wrong_usage_is_exit_status_2() {
    for arguments in
        [&["explode"][..], &["flows", "--limit", "0"], &["flows", "--limit", "10001"], &["keygen"]]
    {
        assert_eq!(run(Path::new("/nowhere"), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn keygen_makes_a_private_file_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keys.toml");
    let keygen = |more: &[&str]| {
        let path = file.to_str().expect("text");
        run(Path::new("/nowhere"), &[&["keygen", path], more].concat())
    };
    let made = keygen(&["--id", "9", "--json"]);
    let value: Value = serde_json::from_str(&text(&made)).expect("JSON");
    assert_eq!((&value["id"], value["file"].as_str()), (&Value::from(9), file.to_str()));
    assert_eq!(fs::metadata(&file).expect("made").permissions().mode() & 0o7777, 0o600);
    let first = fs::read_to_string(&file).expect("ours");
    assert_eq!(KeyRing::from_toml(&first).expect("a key file").current().id(), KeyId(9));
    assert!(!String::from_utf8_lossy(&made.stdout).contains(&first[first.len() - 20..first.len() - 3]));

    let again = keygen(&[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    assert_eq!(fs::read_to_string(&file).expect("ours"), first, "left as it was");

    fs::remove_file(&file).expect("ours");
    let told = text(&keygen(&[]));
    let path = file.display();
    let wanted = format!(
        "wrote key 1 to {path}. Copy it to the switch and every backend as their key_file, mode 0600\n"
    );
    assert_eq!(told, wanted);
    assert_ne!(fs::read_to_string(&file).expect("ours"), first, "a new secret");

    // A further key must not take the place of the first.
    fs::remove_file(&file).expect("ours");
    let further = text(&keygen(&["--id", "2"]));
    let wanted =
        format!("wrote key 2 to {path}. Where keys are in use already, append its [[key]] at the end of");
    assert!(further.starts_with(&wanted) && further.contains("do not replace them"), "{further}");

    let nowhere = run(Path::new("/nowhere"), &["keygen", "/nonexistent/keys.toml"]);
    assert!(
        String::from_utf8_lossy(&nowhere.stderr)
            .starts_with("batonctl: cannot write /nonexistent/keys.toml: ")
    );
}
