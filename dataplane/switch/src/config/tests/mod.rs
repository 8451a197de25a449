//! The configuration's check: what is taken, what is refused and how that is told.

mod dispatch;
mod values;
mod warnings;

use std::path::Path;

use core::net::Ipv4Addr;

use super::*;
use baton_core::Network;
use baton_core::http::{self, Fields, Parsed};
use baton_core::policy::{Content, Http, PoolIndex, Request, Rules, VipIndex};
use handoff_proto::KeyId;
use handoff_proto::keys::Key;

const EXAMPLE: &str = include_str!("../../../switch.example.toml");

fn read_keys(_: &Path) -> Result<KeyRing, KeyFault> {
    Ok(KeyRing::new(vec![Key::new(KeyId(1), [7; 32])])?)
}

/// Pages are as long as their names say.
fn read_body(path: &Path) -> io::Result<Vec<u8>> {
    let name = path.to_str().expect("text");
    name.parse().map(|bytes| vec![b'x'; bytes]).map_err(|_| io::ErrorKind::NotFound.into())
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::from_text(text, Path::new("switch.toml"), read_keys, read_body)
}

/// The example with one piece of text exchanged for another.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "the example has no {from:?}");
    EXAMPLE.replacen(from, to, 1)
}

/// Returns where a GET goes.
fn pool_for(rules: &Rules, host: Option<&str>, path: &str) -> Option<PoolIndex> {
    let content = Content::Http(Http { method: "GET", host, path, query: None, fields: &[] });
    let client = Ipv4Addr::new(192, 0, 2, 1).into();
    let (_, rule) = rules.find(&Request { vip: VipIndex(0), client, content })?;
    rule.pool()
}

fn faults(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Faults { faults, .. }) => faults.iter().map(Fault::to_string).collect(),
        other => panic!("expected faults, got {other:?} for\n{text}"),
    }
}

#[test]
fn the_example_is_valid_and_without_warnings() {
    let config = parse(EXAMPLE).expect("the example we ship");
    assert_eq!(config.warnings, []);
    let network = Network {
        address: Ipv4Addr::new(10, 60, 0, 1),
        prefix_bits: 24,
        gateway: Some(Ipv4Addr::new(10, 60, 0, 254)),
    };
    assert_eq!(config.core.network, network);
    assert_eq!(config.control.listen.to_string(), "10.70.0.1:7170");
    assert_eq!(config.catalog.backends.len(), 3);
    let rules = &config.catalog.rules;
    let pool = |path| pool_for(rules, None, path);
    let expected = (Some(PoolIndex(0)), Some(PoolIndex(1)), Some(PoolIndex(1)));
    assert_eq!((pool("/a"), pool("/video/a"), pool("/a.mp4")), expected);
    assert_eq!(config.catalog.vips_by_backend()[2].len(), 1);
    assert_eq!(config.catalog.pools_by_backend()[2], ["video"]);
}

#[test]
fn the_defaults_the_example_shows_are_the_defaults() {
    // Only lines of the form `# key = value` are uncommented, not prose.
    let is_key =
        |line: &str| line.split(" = ").next().is_some_and(|key| !key.contains(' ') && line.contains(" = "));
    let spelled_out: String = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(spelled_out.contains("\ncapacity = 65536\n") && spelled_out.contains("\nkey_file = "));
    let (implied, spelled_out) = (parse(EXAMPLE).expect("valid"), parse(&spelled_out).expect("valid"));
    assert_eq!(implied.core, spelled_out.core);
    assert_eq!(implied.control, spelled_out.control);
    assert_eq!(format!("{:?}", implied.dpdk), format!("{:?}", spelled_out.dpdk));
    assert_eq!(format!("{:?}", implied.catalog), format!("{:?}", spelled_out.catalog));
}

#[test]
fn a_rules_host_matches_the_host_that_requests_are_found_to_ask_for() {
    for (written, asked) in [
        ("video.example.org", "Video.Example.ORG:8080"),
        ("Video.Example.org.", "video.example.org"),
        ("[2001:DB8::1]", "[2001:db8::1]"),
        ("[2001:db8::1]", "[2001:db8::1]:80"),
    ] {
        let text = changed("host = \"video.example.org\"", &format!("host = \"{written}\""));
        let rules = parse(&text).expect("valid").catalog.rules.clone();
        let first = rules.iter().next().and_then(|rule| rule.pool());
        let request = format!("GET / HTTP/1.1\r\nHost: {asked}\r\n\r\n");
        let mut room = Fields::default();
        let Parsed::Complete(head) = http::parse(request.as_bytes(), &mut room) else {
            panic!("not whole: {request}")
        };
        let found = pool_for(&rules, head.host, head.path);
        assert!(found.is_some() && found == first, "{written} and {asked}");
    }
}
