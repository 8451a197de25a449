//! The form of the configuration file; [`checked`](super::checked) says what its values may be.

use serde::Deserialize;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) agent: Agent,
    #[serde(default)]
    pub(super) vip: Vec<Vip>,
}

/// `[agent]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Agent {
    pub(super) name: String,
    pub(super) interface: String,
    pub(super) address: String,
    pub(super) switch: String,
    pub(super) key_file: String,
    #[serde(default = "default_state_dir")]
    pub(super) state_dir: String,
    #[serde(default = "default_pin_dir")]
    pub(super) pin_dir: String,
    #[serde(default = "default_manage_host")]
    pub(super) manage_host: bool,
    #[serde(default = "default_records")]
    pub(super) records: u32,
    #[serde(default = "default_health_interval_ms")]
    pub(super) health_interval_ms: u64,
    #[serde(default = "default_health_timeout_ms")]
    pub(super) health_timeout_ms: u64,
}

/// `[[vip]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vip {
    pub(super) address: String,
    pub(super) port: u16,
    #[serde(default = "default_health")]
    pub(super) health: String,
}

fn default_state_dir() -> String {
    "/run/baton-agent".to_owned()
}

fn default_pin_dir() -> String {
    "/sys/fs/bpf/baton".to_owned()
}

const fn default_manage_host() -> bool {
    true
}

const fn default_records() -> u32 {
    262_144
}

const fn default_health_interval_ms() -> u64 {
    150
}

const fn default_health_timeout_ms() -> u64 {
    300
}

fn default_health() -> String {
    "tcp".to_owned()
}
