//! The program as an operator runs it, before a peer that plays the switch.

use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread::{self, JoinHandle};

use handoff_proto::admin::{
    Backend, Changes, Class, Configuration, Counter, Event, EventKind, Events, Flow, Flows, LcoreStatus,
    Pool, PoolMember, Route, RouteOutcome, Rule, RuleAction, Status, VipStatus,
};
use handoff_proto::control::{AcceptQueue, Load};
use handoff_proto::{FourTuple, KeyId, KeyRing, Micros, Vip};
use serde::Serialize;
use serde_json::{Value, json};

fn run(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batonctl"));
    command.arg("--socket").arg(socket).args(arguments).output().expect("batonctl was built")
}

/// What batonctl sent: the first line of its request, and its body.
type Asked = (String, String);

/// Answers requests on `socket` with the answers in turn: each a status and a body; returns what was asked.
fn switch(socket: &Path, answers: Vec<(u16, String)>) -> JoinHandle<Vec<Asked>> {
    let listener = UnixListener::bind(socket).expect("a fresh path");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("batonctl connects");
        let mut asked = Vec::new();
        for (status, body) in answers {
            asked.push(read_request(&mut stream));
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}",
                body.len()
            );
            // Cut, as a stream may be.
            for piece in format!("{head}\r\n\r\n{body}").as_bytes().chunks(100) {
                stream.write_all(piece).expect("batonctl reads");
            }
        }
        asked
    })
}

fn read_request(stream: &mut UnixStream) -> Asked {
    let mut bytes = Vec::new();
    let mut buffer = [0; 256];
    loop {
        let count = stream.read(&mut buffer).expect("a request");
        assert!(count > 0, "closed before a request was complete");
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let mut lines = head.lines();
        let first = lines.next().expect("a request line").to_owned();
        let length = lines
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        if body.len() == length.map_or(0, |length| length.parse().expect("a length")) {
            return (first, body.to_owned());
        }
    }
}

/// Asks a switch that answers `body`; returns what was asked and what was printed.
fn ask(body: &impl Serialize, arguments: &[&str]) -> (Asked, Output) {
    answered(200, &serde_json::to_string(body).expect("JSON"), arguments)
}

fn answered(status: u16, body: &str, arguments: &[&str]) -> (Asked, Output) {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("switch.sock");
    let peer = switch(&socket, vec![(status, body.to_owned())]);
    let output = run(&socket, arguments);
    (peer.join().expect("the peer ends").remove(0), output)
}

fn get(path: &str) -> Asked {
    (format!("GET {path} HTTP/1.1"), String::new())
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
        report_stale: Some(false),
        agent_release: Some("0.1.0".to_owned()),
        clock_ahead_ms: Some(0),
        load: Some(Load {
            established: Some(5),
            born: Some(40),
            refused: Some(2),
            cpu_busy_permille: Some(125),
            memory_pressure_permille: Some(31),
            accept_queue: Some(AcceptQueue { length: 3, limit: 511 }),
            ..Load::default()
        }),
        pools: vec!["files".to_owned(), "all".to_owned()],
        weight: 10,
        draining: false,
        handoffs: 9,
        connections: None,
    };
    let two = Backend {
        name: "backend2".to_owned(),
        address: ip(12),
        usable: false,
        reasons: vec!["its agent fell silent".to_owned()],
        next_hop_mac: None,
        report_age_ms: None,
        report_stale: None,
        load: None,
        pools: vec!["all".to_owned()],
        ..one.clone()
    };
    vec![one, two]
}

#[test]
fn status_tells_the_busy_share_and_where_drops_are_explained() {
    let (request, output) = ask(&status(), &["status"]);
    assert_eq!(request, get("/v1/status"));
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
    let (request, output) = ask(&backends(), &["backends"]);
    assert_eq!(request, get("/v1/backends"));
    let expected = "\
BACKEND   ADDRESS     NEW CONNECTIONS  WEIGHT  OPEN  BORN  REFUSED     CPU  MEMORY  QUEUE  LATENCY     REPORT  NEXT HOP           POOLS
backend1  10.60.0.11  yes                  10     5    40        2  12.5 %   3.1 %  3/511        -  87 ms ago  02:00:00:00:00:0b  files, all
backend2  10.60.0.12  no                   10     -     -        -       -       -      -        -          -  unresolved         all

backend2 gets no new connections:
  its agent fell silent
";
    assert_eq!(text(&output), expected);
}

#[test]
fn backends_marks_reports_that_policies_go_on_without() {
    let mut backends = backends();
    (backends[0].report_age_ms, backends[0].report_stale) = (Some(412), Some(true));
    let (_, output) = ask(&backends, &["backends"]);
    assert!(text(&output).contains("  412 ms ago, stale  02:00"), "{output:?}");
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
    let (request, output) = ask(&Flows { total: 70, flows: listed }, &["flows", "--limit", "2"]);
    assert_eq!(request, get("/v1/flows?limit=2"));
    let expected = "\
CLIENT             VIP             BACKEND   STATE              AGE   IDLE  LCORE
10.60.0.200:40000  10.60.0.100:80  backend1  established  1 min 5 s  1.2 s      0
10.60.0.200:40000  10.60.0.100:80  -         holding      1 min 5 s  1.2 s      0

2 of 70 flows
";
    assert_eq!(text(&output), expected);
    let (_, none) = ask(&Flows { total: 0, flows: Vec::new() }, &["flows"]);
    assert_eq!(text(&none), "no flows\n");
}

#[test]
fn counters_leaves_zeros_out_unless_asked_for_all() {
    let counter =
        |name: &str, value| Counter { name: name.to_owned(), description: "Things.".to_owned(), value };
    let response = vec![counter("syn_acks", 12), counter("drop_malformed", 0)];
    let (request, output) = ask(&response, &["counters"]);
    assert_eq!(request, get("/v1/counters"));
    assert_eq!(text(&output), "COUNT  NAME      MEANING\n   12  syn_acks  Things.\n");
    let (_, all) = ask(&response, &["counters", "--all"]);
    assert!(text(&all).ends_with("    0  drop_malformed  Things.\n"));
    let (_, json) = ask(&response, &["counters", "--json"]);
    assert_eq!(serde_json::from_str::<Vec<Counter>>(&text(&json)).expect("JSON").len(), 2);
}

#[test]
fn json_is_the_answer_itself() {
    let (_, output) = ask(&status(), &["status", "--json"]);
    assert_eq!(serde_json::from_str::<Status>(&text(&output)).expect("JSON"), status());
    let (_, output) = ask(&backends(), &["--json", "backends"]);
    assert_eq!(serde_json::from_str::<Vec<Backend>>(&text(&output)).expect("JSON"), backends());
    let (_, output) = ask(&Flows { total: 9, flows: Vec::new() }, &["flows", "--json"]);
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

    let (_, refused) = answered(503, r#"{"error": "an lcore is asleep"}"#, &["flows"]);
    assert_eq!(refused.status.code(), Some(3), "it was said, not missed");
    assert_eq!(String::from_utf8_lossy(&refused.stderr), "batonctl: the switch says: an lcore is asleep\n");
    let (_, strange) = answered(502, "<html>", &["flows"]);
    assert!(String::from_utf8_lossy(&strange.stderr).contains("status 502"), "{strange:?}");
    for other in ["[]", "{\"", "", r#"{"release": 1}"#] {
        let (_, output) = answered(200, other, &["status"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("of the same release"), "{output:?}");
    }
    let listener = UnixListener::bind(directory.path().join("mute.sock")).expect("a fresh path");
    let hasty = thread::spawn(move || drop(listener.accept().expect("batonctl connects")));
    let output = run(&directory.path().join("mute.sock"), &["status"]);
    hasty.join().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("gave no answer"), "{output:?}");
}

#[test]
fn wrong_usage_is_exit_status_2() {
    for arguments in [
        &["explode"][..],
        &["flows", "--limit", "0"],
        &["flows", "--limit", "10001"],
        &["keygen"],
        &["backends", "weight", "one", "1001"],
        &["backends", "add", "one", "::1"],
        &["route", "GET"],
        &["route", "GET", "www.example.org"],
        &["route", "GET", "/", "--sni", "a"],
        &["route", "GET", "/", "-H", "nothing"],
        &["route", "GET", "/", "--session-id", "ab"],
        &["route", "--session-id", "abc"],
        &["rules", "apply"],
        &["pools", "add"],
        &["capture", "10.50.0.11"],
        &["capture", "10.50.0.11:80:80", "-w", "x"],
        &["top", "--interval", "0"],
        &["top", "--width", "100"],
    ] {
        assert_eq!(run(Path::new("/nowhere"), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn backends_are_changed_by_name() {
    let done =
        Changes { generation: 4, changes: vec!["backend one drains".to_owned()], warnings: Vec::new() };
    let order = |words: &[&str]| {
        let (asked, output) = ask(&done, words);
        assert_eq!(text(&output), "configuration 4 runs\n  backend one drains\n");
        asked
    };
    let plain = |line: &str| (line.to_owned(), String::new());
    assert_eq!(order(&["backends", "drain", "one"]), plain("POST /v1/backends/one/drain HTTP/1.1"));
    assert_eq!(order(&["backends", "enable", "a b/c"]), plain("POST /v1/backends/a%20b%2Fc/enable HTTP/1.1"));
    assert_eq!(order(&["backends", "remove", "one"]), plain("DELETE /v1/backends/one HTTP/1.1"));
    let (line, body) = order(&["backends", "weight", "one", "20", "--pool", "files"]);
    assert_eq!(line, "POST /v1/backends/one/weight HTTP/1.1");
    assert_eq!(body, r#"{"weight":20,"pool":"files"}"#);
    let (line, body) =
        order(&["backends", "add", "six", "10.60.0.16", "--pool", "files", "--pool", "all", "--drain"]);
    assert_eq!(line, "POST /v1/backends HTTP/1.1");
    let sent: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        sent,
        json!({"name": "six", "address": "10.60.0.16", "pools": ["files", "all"], "drain": true})
    );
}

#[test]
fn a_configuration_is_shown_checked_and_applied() {
    let running = Configuration { generation: 2, applied: Micros(1), toml: "[switch]\n".to_owned() };
    let (asked, shown) = ask(&running, &["config", "show"]);
    assert_eq!((asked, text(&shown).as_str()), (get("/v1/config"), "[switch]\n"));

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("new.toml");
    fs::write(&file, "mtu = \"\u{fc}\"\n").expect("ours");
    let path = file.to_str().expect("text");
    let same = Changes { generation: 2, changes: Vec::new(), warnings: vec!["low".to_owned()] };
    let (asked, checked) = ask(&same, &["config", "check", path]);
    assert_eq!(asked.0, "POST /v1/config/check HTTP/1.1");
    assert_eq!(serde_json::from_str::<Value>(&asked.1).expect("JSON"), json!({"toml": "mtu = \"\u{fc}\"\n"}));
    assert_eq!(text(&checked), "warning: low\nno fault, and no difference from configuration 2\n");
    let differs =
        Changes { generation: 2, changes: vec!["pool files: new".to_owned()], warnings: Vec::new() };
    let (_, checked) = ask(&differs, &["config", "check", path]);
    assert_eq!(text(&checked), "no fault; differences from configuration 2:\n  pool files: new\n");

    let (asked, refused) =
        answered(422, r#"{"error": "line 1: no\nline 2: nor this"}"#, &["config", "apply", path]);
    assert_eq!(asked.0, "POST /v1/config/apply HTTP/1.1");
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 0));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(said, "batonctl: the switch says: line 1: no\nline 2: nor this\n");
    let (asked, refused) = answered(422, r#"{"error": "line 1: no"}"#, &["apply", path]);
    assert_eq!(asked.0, "POST /v1/config/apply HTTP/1.1", "in short");
    assert_eq!(refused.status.code(), Some(3));
    let (asked, reloaded) = ask(&same, &["config", "reload"]);
    assert_eq!(asked, ("POST /v1/reload HTTP/1.1".to_owned(), String::new()));
    assert_eq!(text(&reloaded), "warning: low\nnothing changed; configuration 2 goes on\n");

    let missing = run(&directory.path().join("no.sock"), &["config", "apply", "/nonexistent/x.toml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("batonctl: /nonexistent/x.toml: "));
}

#[test]
fn rules_and_pools_are_shown_checked_and_applied_on_their_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("part.toml");
    fs::write(&file, "[[rule]]\n").expect("ours");
    let path = file.to_str().expect("text");
    let differs =
        Changes { generation: 2, changes: vec!["1 rule put in at place 1".to_owned()], warnings: Vec::new() };
    for part in ["rules", "pools"] {
        let (asked, checked) = ask(&differs, &[part, "check", path]);
        assert_eq!(asked.0, format!("POST /v1/config/{part}/check HTTP/1.1"));
        assert_eq!(serde_json::from_str::<Value>(&asked.1).expect("JSON"), json!({"toml": "[[rule]]\n"}));
        let told = "no fault; differences from configuration 2:\n  1 rule put in at place 1\n";
        assert_eq!(text(&checked), told);
        let (asked, applied) = ask(&differs, &[part, "apply", path]);
        assert_eq!(asked.0, format!("POST /v1/config/{part}/apply HTTP/1.1"));
        assert_eq!(text(&applied), "configuration 2 runs\n  1 rule put in at place 1\n");
        let running = Configuration { generation: 2, applied: Micros(1), toml: "[[x]]\n".to_owned() };
        let (asked, shown) = ask(&running, &[part, "show", "--toml"]);
        assert_eq!((asked, text(&shown).as_str()), (get(&format!("/v1/config/{part}")), "[[x]]\n"));
        let (asked, _) = ask(&json!([]), &[part, "show"]);
        assert_eq!(asked, get(&format!("/v1/{part}")));
    }
}

fn rule() -> Rule {
    Rule {
        number: 3,
        conditions: vec!["host = \"*.example.org\"".to_owned(), "path_prefix = \"/video/\"".to_owned()],
        class: Some("video".to_owned()),
        action: RuleAction::Pool("videos".to_owned()),
        requests: Some(42),
    }
}

#[test]
fn dispatch_is_listed() {
    let member = |backend: &str, weight, usable| PoolMember { backend: backend.to_owned(), weight, usable };
    let pool = Pool {
        name: "files".to_owned(),
        policy: "maglev".to_owned(),
        sticky: Some("client".to_owned()),
        members: vec![member("one", 1, true), member("two", 20, false)],
    };
    let (asked, pools) = ask(&vec![pool], &["pools"]);
    assert_eq!(asked, get("/v1/pools"));
    let expected = "\
POOL   POLICY  STICKY  USABLE  BACKENDS (WEIGHT)
files  maglev  client  1 of 2  one (1), two (20) unusable
";
    assert_eq!(text(&pools), expected);

    let redirect = RuleAction::Redirect { status: 301, location: "https://{host}{uri}".to_owned() };
    let last = Rule { number: 4, conditions: Vec::new(), class: None, action: redirect, requests: None };
    let (asked, rules) = ask(&vec![rule(), last], &["rules"]);
    assert_eq!(asked, get("/v1/rules"));
    let expected = "\
RULE  REQUESTS  CONDITIONS                                       CLASS  ACTION
   3        42  host = \"*.example.org\", path_prefix = \"/video/\"  video  pool videos
   4         -  every request                                    -      redirect 301 to https://{host}{uri}
";
    assert_eq!(text(&rules), expected);

    let class = Class {
        name: "video".to_owned(),
        priority: 1,
        weight: 10,
        rate_per_s: Some(100),
        rules: 2,
        let_in: 40,
        refused: 2,
    };
    let (asked, classes) = ask(&vec![class], &["classes"]);
    assert_eq!(asked, get("/v1/classes"));
    assert_eq!(
        text(&classes),
        "CLASS  PRIORITY  WEIGHT  GUARANTEED  RULES  LET IN  REFUSED\nvideo         1      10       100/s      2      40        2\n"
    );
}

#[test]
fn route_asks_with_every_word_and_tells_why() {
    let outcome = RouteOutcome::Dispatch {
        pool: "videos".to_owned(),
        affinity: None,
        policy: "least-connections".to_owned(),
        backend: Some("one".to_owned()),
        why: "it has the fewest connections".to_owned(),
    };
    let route =
        Route { vip: "web".to_owned(), rule: Some(rule()), pool_fullness_permille: Some(876), outcome };
    let words = [
        "route",
        "GET",
        "http://www.example.org/video/a b?x=1&y",
        "-H",
        "Cookie: a=1",
        "--client",
        "10.0.0.7",
    ];
    let (asked, output) = ask(&route, &words);
    let query = "client=10.0.0.7&method=GET&target=%2Fvideo%2Fa+b%3Fx%3D1%26y&host=www.example.org&header=Cookie%3A+a%3D1";
    assert_eq!(asked, get(&format!("/v1/route?{query}")));
    let expected = "\
vip       web
rule      3: host = \"*.example.org\", path_prefix = \"/video/\"
class     video
pool      videos
full      87.6 %
affinity  -
policy    least-connections
backend   one
why       it has the fewest connections
";
    assert_eq!(text(&output), expected);
    let answer = RouteOutcome::Answer {
        status: 302,
        location: Some("/b".to_owned()),
        why: "the rule says so".to_owned(),
    };
    let route = Route { vip: "web".to_owned(), rule: None, pool_fullness_permille: None, outcome: answer };
    let words = ["route", "--sni", "a.example", "--alpn", "h2", "--session-id", "00FF", "--vip", "web"];
    let (asked, output) = ask(&route, &words);
    assert_eq!(asked, get("/v1/route?vip=web&server_name=a.example&session_id=00ff&protocol=h2"));
    let expected = "\
vip       web
rule      none matches
class     -
full      -
answer    302 to /b
why       the rule says so
";
    assert_eq!(text(&output), expected);
}

fn event(number: u64) -> Event {
    Event {
        number,
        time: Micros(1_700_000_000_123_456),
        kind: EventKind::BackendUsable,
        subject: Some("one".to_owned()),
        text: "backend is usable".to_owned(),
    }
}

#[test]
fn events_are_listed_and_followed() {
    let (asked, output) = ask(&Events { lost: 2, events: vec![event(3)] }, &["events", "--after", "1"]);
    assert_eq!(asked, get("/v1/events?after=1&wait_ms=0"));
    let line = "2023-11-14T22:13:20.123Z  backend-usable          one: backend is usable\n";
    assert_eq!(text(&output), format!("(2 earlier events are not kept any more)\n{line}"));

    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("switch.sock");
    let answers = [vec![event(1), event(2)], Vec::new(), vec![event(3)]];
    let answers =
        answers.map(|events| (200, serde_json::to_string(&Events { lost: 0, events }).expect("JSON")));
    let peer = switch(&socket, answers.to_vec());
    // The switch ends after three answers, and so does who follows it.
    let output = run(&socket, &["events", "--follow", "--json"]);
    let asked = peer.join().expect("the peer ends");
    let paths =
        ["after=0", "after=2", "after=2"].map(|after| get(&format!("/v1/events?{after}&wait_ms=20000")));
    assert_eq!(asked, paths);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).expect("text");
    let told: Vec<Event> =
        told.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect();
    assert_eq!(told, [event(1), event(2), event(3)]);
}

#[test]
fn a_capture_is_written_as_it_comes_and_says_what_is_missing() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, file) = (directory.path().join("switch.sock"), directory.path().join("x.pcap"));
    let listener = UnixListener::bind(&socket).expect("a fresh path");
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("batonctl connects");
        let asked = read_request(&mut stream);
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: baton-frames\r\ntrailer: baton-frames-lost\r\n\r\n\
                      4\r\nabcd\r\n2\r\nef\r\n0\r\nbaton-frames: 7\r\nbaton-frames-lost: 2\r\n\r\n";
        stream.write_all(answer.as_bytes()).expect("batonctl reads");
        asked
    });
    let path = file.to_str().expect("text");
    let output =
        run(&socket, &["capture", "10.50.0.11:4000", "--vip", "10.60.0.100:80", "-w", path, "--frames", "9"]);
    let (line, body) = peer.join().expect("ends");
    assert_eq!(line, "POST /v1/capture HTTP/1.1");
    let expected = json!({"client": "10.50.0.11", "client_port": 4000, "vip": {"address": "10.60.0.100", "port": 80},
                          "frames_max": 9, "seconds_max": 60});
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), expected);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(&file).expect("written"), b"abcdef");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&format!("7 frames in {path}; 2 more were lost")), "{told}");

    let (_, refused) =
        answered(409, r#"{"error": "another capture runs"}"#, &["capture", "10.50.0.11", "-w", path]);
    assert_eq!(refused.status.code(), Some(3));
    assert_eq!(fs::read(&file).expect("kept"), b"abcdef", "what was captured before is not lost");
}

#[test]
fn top_shows_one_view_as_text() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("switch.sock");
    let answer = |value: &dyn Fn() -> String| (200, value());
    let status = || serde_json::to_string(&status()).expect("JSON");
    let backends = || serde_json::to_string(&backends()).expect("JSON");
    let peer = switch(&socket, vec![answer(&status), answer(&backends), answer(&status), answer(&backends)]);
    let output = run(&socket, &["top", "--once", "--interval", "0.1"]);
    let asked = peer.join().expect("the peer ends");
    assert_eq!(asked[2..], [get("/v1/status"), get("/v1/backends")]);
    let told = text(&output);
    assert!(told.contains("\nhandoffs 0/s  received 0/s"), "{told}");
    assert!(told.contains("\nbackend2  "), "{told}");
    let (_, needs) = answered(200, &status(), &["status"]);
    assert!(needs.status.success());
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let commands = [
        "status",
        "backends",
        "pools",
        "rules",
        "classes",
        "config",
        "apply",
        "route",
        "flows",
        "counters",
        "top",
        "events",
        "capture",
        "keygen",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&run(Path::new("/nowhere"), &["completions", shell]));
        for command in commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let pages = directory.path().join("man1");
    let written = run(Path::new("/nowhere"), &["man", "--dir", pages.to_str().expect("text")]);
    assert_eq!(text(&written), "");
    let page = |name: &str| fs::read_to_string(pages.join(format!("{name}.1"))).expect(name);
    for command in commands {
        assert!(page(&format!("batonctl-{command}")).starts_with(".ie"), "{command}");
    }
    assert!(page("batonctl-backends-weight").contains("\\-\\-pool"));
    assert!(page("batonctl-rules-apply").contains("[[rule]]"));
    assert!(page("batonctl-route").contains("lcore 0"));
    let main = page("batonctl");
    assert!(main.contains("Exit status: 0 done;"), "{main}");
    assert_eq!(text(&run(Path::new("/nowhere"), &["man"])), main);
    assert!(!pages.join("batonctl-help.1").exists());
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
