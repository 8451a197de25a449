//! The admin API on its socket: what it refuses, and how much it bears.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use baton_switch::control::CONNECTION_COUNT_MAX;
use handoff_proto::KeyId;
use handoff_proto::admin::{EventKind, Events, FLOWS_MAX, Pool, Status};
use handoff_proto::keys::Key;

use super::http::{self, Answer};
use super::{Agent, World, key};

#[test]
fn pools_are_listed_with_what_their_agents_say() {
    let world = World::start();
    let (mut agent, _) = Agent::connect(&world, &key(), "one", [10, 60, 0, 11]);
    agent.report(true).expect("answered");
    let pools: Vec<Pool> = world.get("/v1/pools");
    let members = pools[0].members.iter().map(|member| (member.backend.as_str(), member.usable));
    assert_eq!(pools[0].name, "all");
    assert_eq!(members.collect::<Vec<_>>(), [("one", true), ("far", false)]);
    world.control.stop();
}

#[test]
fn what_is_asked_wrongly_is_refused_with_a_reason() {
    let world = World::start();
    for (method, path, body, status, word) in [
        ("GET", "/", "", 404, "docs/ADMIN.md"),
        ("GET", "/v1/backends/one/paint", "", 404, "docs/ADMIN.md"),
        ("GET", "/v2/status", "", 404, "/v2/status"),
        ("GET", "/v1/status?verbose=1", "", 400, "\"verbose\""),
        ("GET", "/v1/flows?limit=many", "", 400, "no number"),
        ("GET", "/v1/flows?limit=-1", "", 400, "no number"),
        ("GET", "/v1/flows?limit=0", "", 400, "1 to 10000"),
        ("GET", "/v1/flows?limit=10001", "", 400, "1 to 10000"),
        ("GET", "/v1/flows?limit=99999999999999999999", "", 400, "no number"),
        ("GET", "/v1/flows?limit=1&limit=2", "", 400, "twice"),
        ("GET", "/v1/events?wait_ms=20001", "", 400, "0 to 20000"),
        ("GET", "/v1/route?method=GET", "", 400, "target"),
        ("GET", "/v1/route?way=1", "", 400, "\"way\""),
        ("POST", "/v1/backends", "", 400, "EOF"),
        ("POST", "/v1/backends", "{", 400, "EOF"),
        ("POST", "/v1/backends", "[]", 400, "not what this takes"),
        ("POST", "/v1/backends", r#"{"name": "x", "address": "10.0.0.1"} {}"#, 400, "more behind"),
        ("POST", "/v1/backends", r#"{"name": "x", "address": "here"}"#, 400, "address"),
        ("POST", "/v1/backends", r#"{"name": "x", "address": "10.0.0.1", "colour": 1}"#, 400, "colour"),
        ("POST", "/v1/backends/one/weight", r#"{"weight": 65536}"#, 400, "65536"),
        ("POST", "/v1/backends/one/drain", "{}", 400, "no body"),
        ("POST", "/v1/backends/%ff/drain", "", 400, "no text"),
        ("POST", "/v1/config/apply", "[switch]", 400, "not what this takes"),
        (
            "POST",
            "/v1/capture",
            r#"{"client": "10.0.0.1", "frames_max": 0, "seconds_max": 1}"#,
            400,
            "frames_max",
        ),
        ("POST", "/v1/capture", r#"{"client": "::1", "frames_max": 1, "seconds_max": 1}"#, 400, "client"),
    ] {
        let (found, why) = world.refusal(method, path, body);
        assert_eq!(found, status, "{method} {path} {body}: {why}");
        assert!(why.contains(word), "{method} {path} {body}: {why}");
    }
    assert_eq!(FLOWS_MAX, 10_000, "as the texts above say");
    world.control.stop();
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    let world = World::start();
    for (method, path, allowed) in [
        ("POST", "/v1/status", "GET,HEAD"),
        ("DELETE", "/v1/backends", "GET,HEAD,POST"),
        ("GET", "/v1/backends/one", "DELETE"),
        ("GET", "/v1/reload", "POST"),
    ] {
        let answer = world.request(method, path, "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{method} {path}");
        assert!(String::from_utf8_lossy(&answer.body).contains("{\"error\":"), "{method} {path}");
    }
    world.control.stop();
}

#[test]
fn a_body_beyond_its_limit_is_refused_before_it_is_read() {
    let world = World::start();
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(64 << 10));
    let (status, why) = world.refusal("POST", "/v1/backends", &long);
    assert_eq!(status, 413);
    assert!(why.contains("65536 bytes"), "{why}");
    // Only announced: the answer comes without a byte of it.
    let mut stream = world.connect();
    let head = "POST /v1/config/check HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("control reads");
    assert_eq!(http::receive(&mut stream).status, 413);
    // A configuration may be much longer than other bodies.
    let toml = |bytes: usize| format!("{{\"toml\": \"{}\"}}", "#".repeat(bytes));
    let (status, why) = world.refusal("POST", "/v1/config/check", &toml(16 << 20));
    assert_eq!(status, 422, "it is read: {why}");
    let (status, why) = world.refusal("POST", "/v1/config/check", &toml((16 << 20) + 1));
    assert!(status == 413 && why.contains("16777216 bytes"), "{status} {why}");
    let mut stream = world.connect();
    let head = "POST /v1/config/check HTTP/1.1\r\nhost: x\r\ncontent-length: 20971521\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("control reads");
    let answer = http::receive(&mut stream);
    let why = String::from_utf8_lossy(&answer.body);
    assert!(answer.status == 413 && why.contains("20971520 bytes"), "{why}");
    world.control.stop();
}

#[test]
fn bodies_and_heads_may_be_as_long_as_the_page_says_and_no_byte_longer() {
    let world = World::start();
    let name = |body_bytes: usize| {
        let around = r#"{"name": "", "address": "10.60.0.77"}"#.len();
        format!(r#"{{"name": "{}", "address": "10.60.0.77"}}"#, "x".repeat(body_bytes - around))
    };
    assert_eq!(world.refusal("POST", "/v1/backends", &name(64 << 10)).0, 422, "no name is as long");
    assert_eq!(world.refusal("POST", "/v1/backends", &name((64 << 10) + 1)).0, 413);
    for (head_bytes, status) in [(32 << 10, 404), ((32 << 10) + 1, 431), (60 << 10, 431)] {
        let around = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".len();
        let head = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(head_bytes - around));
        let mut stream = world.connect();
        stream.write_all(head.as_bytes()).expect("a socket takes as much");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"), "{head_bytes}");
    }
    world.control.stop();
}

#[test]
fn what_is_no_http_is_closed() {
    let world = World::start();
    for garbage in [&b"\0\0\0\x10{\"ask\":\"status\"}"[..], b"GET /v1/status\r\n\r\n", &[b'x'; 100_000]] {
        let mut stream = world.connect();
        // It may be closed before all of it is written.
        let written = stream.write_all(garbage);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        assert!(written.is_ok() || read.is_err() || !answer.is_empty());
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    let long = format!("/v1/status?{}", "x".repeat(64 << 10));
    let mut stream = world.connect();
    let head = format!("GET {long} HTTP/1.1\r\nhost: x\r\n\r\n");
    if stream.write_all(head.as_bytes()).is_ok() {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        assert!(read.is_err() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let status: Status = world.get("/v1/status");
    assert_eq!(status.backends_configured, 2, "others are answered as before");
    world.control.stop();
}

#[test]
fn a_connection_is_used_again_and_again() {
    let world = World::start();
    let mut stream = world.connect();
    for _ in 0..3 {
        assert_eq!(http::exchange(&mut stream, "GET", "/v1/status", "").status, 200);
        assert_eq!(http::exchange(&mut stream, "GET", "/nowhere", "").status, 404);
        assert_eq!(http::exchange(&mut stream, "POST", "/v1/backends", "{").status, 400);
    }
    world.control.stop();
}

#[test]
fn operators_beyond_the_limit_wait_for_a_seat() {
    let world = World::start();
    let mut seated: Vec<UnixStream> = (0..CONNECTION_COUNT_MAX)
        .map(|_| {
            let mut stream = world.connect();
            assert_eq!(http::exchange(&mut stream, "GET", "/v1/status", "").status, 200);
            stream
        })
        .collect();
    let mut waiting = world.connect();
    http::send(&mut waiting, "GET", "/v1/status", "");
    waiting.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    let refused = waiting.read(&mut [0; 1]).expect_err("no seat yet");
    assert!(matches!(refused.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{refused}");
    // Those with a seat are answered all the while.
    assert_eq!(http::exchange(&mut seated[0], "GET", "/v1/status", "").status, 200);
    drop(seated.pop());
    waiting.set_read_timeout(Some(super::PATIENCE)).expect("a socket");
    assert_eq!(http::receive(&mut waiting).status, 200);
    world.control.stop();
}

#[test]
fn changes_of_state_are_told_in_their_order_and_waited_for() {
    let world = World::start();
    let first: Events = world.get("/v1/events");
    assert_eq!((first.lost, first.events.len()), (0, 1));
    assert_eq!((first.events[0].number, first.events[0].kind), (1, EventKind::Started));
    let now = world.shared.clock().now();
    assert!(first.events[0].time <= now && first.events[0].time >= world.shared.clock().started());

    let waiting = {
        let mut stream = world.connect();
        http::send(&mut stream, "GET", "/v1/events?after=1&wait_ms=20000", "");
        thread::spawn(move || http::receive(&mut stream))
    };
    let (mut agent, _) = Agent::connect(&world, &key(), "one", [10, 60, 0, 11]);
    agent.report(true).expect("answered");
    let Answer { status, body, .. } = waiting.join().expect("answered");
    let events: Events = serde_json::from_slice(&body).expect("the agreed form");
    let event = &events.events[0];
    assert_eq!((status, event.number, event.kind), (200, 2, EventKind::BackendUsable));
    assert_eq!(event.subject.as_deref(), Some("one"));

    agent.report(false).expect("answered");
    let (_, refused) = Agent::connect(&world, &Key::new(KeyId(1), [8; 32]), "one", [10, 60, 0, 11]);
    refused.expect_err("closed without a word");
    super::await_that("both told", || {
        let later: Events = world.get("/v1/events?after=2");
        let kinds: Vec<EventKind> = later.events.iter().map(|event| event.kind).collect();
        kinds == [EventKind::BackendUnusable, EventKind::AgentRefused]
    });
    let start = Instant::now();
    let none: Events = world.get("/v1/events?after=4&wait_ms=30");
    assert!(none.events.is_empty() && start.elapsed() >= Duration::from_millis(30));
    world.control.stop();
}
