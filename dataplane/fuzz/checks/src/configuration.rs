//! Configuration files: what is wrong is told with its place, and what is taken can be used.
//!
//! A text that begins with `#agent` is read as the agent's file, one that begins with `#keys` as a key file, every other as the
//! switch's. The readers are those of the programs, from their own source files: the programs' crates need DPDK and BPF.

use core::net::IpAddr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use baton_core::policy::{BackendIndex, VipIndex};
use baton_core::{Counters, Entropy, Lcore, Micros, Switch};
use handoff_proto::control::VIPS_MAX;
use handoff_proto::keys::{KEYS_MAX, Key};
use handoff_proto::{KeyId, KeyRing};
use smoltcp::wire::EthernetAddress;

use crate::{agent_config, switch_config};

/// Of a checked configuration with at most so many flows, a switch is made.
const FLOW_COUNT_MAX: usize = 256;
/// Hexadecimal digits of a secret that must not be told.
const TOLD_DIGITS: usize = 8;

/// Reads a configuration.
///
/// # Panics
/// An error without place or remedy, a key file's secret in an error, a checked value that cannot be, the same text read in two
/// ways.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    if text.starts_with("#agent") {
        agent(text);
    } else if text.starts_with("#keys") {
        keys(text);
    } else {
        switch(text);
    }
}

fn ring() -> KeyRing {
    KeyRing::new(vec![Key::new(KeyId(1), [7; 32])]).expect("a good ring")
}

/// Reads as the switch does. There are a key file and bodies of error pages as long as their names say, and nothing else.
fn read_switch(text: &str) -> Result<switch_config::Config, switch_config::ConfigError> {
    let read_body = |path: &Path| {
        let count = path.to_str().and_then(|name| name.parse::<u16>().ok());
        count
            .map(|count| vec![b'x'; usize::from(count)])
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    switch_config::Config::from_text(text, Path::new("switch.toml"), |_| Ok(ring()), read_body)
}

fn switch(text: &str) {
    match read_switch(text) {
        Ok(config) => {
            let again = read_switch(text).expect("as before");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            expect_usable(&config);
        }
        Err(error) => {
            let told = error.to_string();
            match error {
                switch_config::ConfigError::Form { place, text, .. } => {
                    expect_told("switch.toml", &told, &place, &text)
                }
                switch_config::ConfigError::Faults { faults, .. } => {
                    assert!(!faults.is_empty(), "refused without a reason");
                    for fault in faults {
                        expect_told("switch.toml", &told, &fault.key, &fault.allowed);
                    }
                }
                other => panic!("nothing was read from a file: {other}"),
            }
        }
    }
}

/// The error names the file, the place in it, and what is wrong or what to do.
fn expect_told(file: &str, told: &str, place: &str, what: &str) {
    assert!(told.starts_with(file), "{told}");
    assert!(!place.is_empty() && told.contains(place), "no place: {told}");
    assert!(!what.is_empty() && told.contains(what), "no remedy: {told}");
}

/// What was checked fits together, and the core takes it.
fn expect_usable(config: &switch_config::Config) {
    let catalog = &config.catalog;
    assert!((1..=VIPS_MAX).contains(&catalog.vips.len()), "{} VIPs", catalog.vips.len());
    let (backends, pools) = (catalog.backends.len(), catalog.pools.len());
    for named in &catalog.pools {
        assert!(!named.pool.members.is_empty(), "a pool without members");
        assert!(named.pool.members.iter().all(|member| usize::from(member.backend.0) < backends));
    }
    for rule in catalog.rules.iter() {
        assert!(rule.pool().is_none_or(|pool| usize::from(pool.0) < pools));
        assert!(rule.conditions.vip.is_none_or(|VipIndex(vip)| usize::from(vip) < catalog.vips.len()));
    }
    let network = &config.core.network;
    assert!(network.is_host(network.address));
    for backend in &catalog.backends {
        assert_ne!(backend.address, network.address, "a backend with the switch's address");
        assert!(network.contains(backend.address) || network.gateway.is_some(), "out of reach: {backend:?}");
    }
    let addresses = catalog.vips.iter().map(|named| named.service.vip.address);
    assert!(
        addresses.clone().all(|address| address != IpAddr::V4(network.address)),
        "a VIP with the switch's address"
    );
    assert_eq!(config.dpdk.mtu, config.core.mtu_bytes);
    assert_eq!(config.dpdk.faults(), [], "the door would refuse");
    for warning in &config.warnings {
        assert!(!warning.key.is_empty() && !warning.allowed.is_empty(), "{warning}");
    }
    if config.core.flow_count_max <= FLOW_COUNT_MAX {
        let lcore = Lcore { number: 0, count: 1, mac: EthernetAddress([2, 0, 0, 0, 0, 1]) };
        let snapshot = Arc::new(catalog.snapshot(|BackendIndex(at)| at % 2 == 0));
        let (counters, entropy) = (Arc::new(Counters::default()), Entropy::from_seed(1));
        Switch::new(lcore, config.core.clone(), snapshot, counters, entropy, Micros::from_secs(1))
            .expect("settings that were checked");
    }
}

fn read_agent(text: &str) -> Result<agent_config::Config, agent_config::ConfigError> {
    agent_config::Config::from_text(text, Path::new("agent.toml"), |_| Ok(ring()))
}

fn agent(text: &str) {
    match read_agent(text) {
        Ok(config) => {
            let again = read_agent(text).expect("as before");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            assert!((1..=VIPS_MAX).contains(&config.vips.len()), "{} VIPs", config.vips.len());
            let mut vips: Vec<_> = config.vips.iter().map(|served| served.vip()).collect();
            vips.sort_unstable();
            vips.dedup();
            assert_eq!(vips.len(), config.vips.len(), "a VIP twice");
            assert!(vips.iter().all(|vip| vip.port != 0) && config.switch.port() != 0);
            assert!(config.places.state_dir.is_absolute() && config.places.pin_dir.is_absolute());
            assert!(!config.name.is_empty() && !config.interface.is_empty());
        }
        Err(error) => {
            let told = error.to_string();
            match error {
                agent_config::ConfigError::Form { key, message, .. } => {
                    expect_told("agent.toml", &told, &key, &message)
                }
                agent_config::ConfigError::Faults { faults, .. } => {
                    assert!(!faults.is_empty(), "refused without a reason");
                    for fault in faults {
                        expect_told("agent.toml", &told, &fault.key, &fault.to_string());
                    }
                }
                other @ agent_config::ConfigError::Read { .. } => {
                    panic!("nothing was read from a file: {other}")
                }
            }
        }
    }
}

fn keys(text: &str) {
    match KeyRing::from_toml(text) {
        Ok(ring) => {
            let mut ids: Vec<_> = ring.iter().map(Key::id).collect();
            assert_eq!(ids.first().copied(), Some(ring.current().id()));
            assert!((1..=KEYS_MAX).contains(&ids.len()));
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), count, "an id twice");
        }
        Err(error) => {
            let told = error.to_string();
            assert!(!told.is_empty());
            let digits: Vec<char> = told.chars().collect();
            let is_secret = |run: &[char]| {
                run.iter().all(char::is_ascii_hexdigit) && text.contains(&run.iter().collect::<String>())
            };
            assert!(!digits.windows(TOLD_DIGITS).any(is_secret), "a secret in {told:?}");
        }
    }
}
