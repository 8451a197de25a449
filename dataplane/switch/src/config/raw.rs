//! The configuration file as it is written: names and shapes, nothing checked.
//!
//! Numbers are `i64`, addresses are text and everything may be missing here, so that what is wrong is reported with its
//! key and what is allowed, together with all other faults, instead of as the first failure of the TOML reader.

use serde::Deserialize;

/// `switch.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    #[serde(default)]
    pub(super) switch: RawSwitch,
    #[serde(default)]
    pub(super) dpdk: RawDpdk,
    #[serde(default)]
    pub(super) control: RawControl,
    #[serde(default)]
    pub(super) flows: RawFlows,
    #[serde(default)]
    pub(super) handshake: RawHandshake,
    #[serde(default)]
    pub(super) requests: RawRequests,
    #[serde(default)]
    pub(super) vip: Vec<RawVip>,
    #[serde(default)]
    pub(super) backend: Vec<RawBackend>,
    #[serde(default)]
    pub(super) pool: Vec<RawPool>,
    #[serde(default)]
    pub(super) rule: Vec<RawRule>,
    #[serde(default)]
    pub(super) error_page: Vec<RawErrorPage>,
}

/// `[switch]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSwitch {
    pub(super) address: Option<String>,
    pub(super) gateway: Option<String>,
    pub(super) key_file: Option<String>,
}

/// `[dpdk]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDpdk {
    pub(super) device: Option<String>,
    pub(super) main_lcore: Option<i64>,
    pub(super) lcores: Option<Vec<i64>>,
    pub(super) rx_descriptors: Option<i64>,
    pub(super) tx_descriptors: Option<i64>,
    pub(super) hugepages: Option<bool>,
    pub(super) memory_mb: Option<i64>,
    pub(super) mtu: Option<i64>,
    pub(super) idle: Option<String>,
}

/// `[control]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawControl {
    pub(super) listen: Option<String>,
    pub(super) metrics: Option<String>,
    pub(super) admin_socket: Option<String>,
}

/// `[flows]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFlows {
    pub(super) capacity: Option<i64>,
    pub(super) unconfirmed_timeout_s: Option<i64>,
    pub(super) established_timeout_s: Option<i64>,
    pub(super) closing_timeout_s: Option<i64>,
}

/// `[handshake]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHandshake {
    pub(super) window_scale: Option<i64>,
}

/// `[requests]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRequests {
    pub(super) unfinished_count_max: Option<i64>,
    pub(super) unfinished_timeout_s: Option<i64>,
}

/// `[[vip]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVip {
    pub(super) name: Option<String>,
    pub(super) address: Option<String>,
    pub(super) port: Option<i64>,
}

/// `[[backend]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBackend {
    pub(super) name: Option<String>,
    pub(super) address: Option<String>,
}

/// `[[pool]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPool {
    pub(super) name: Option<String>,
    pub(super) backends: Option<Vec<String>>,
    pub(super) policy: Option<String>,
}

/// `[[error_page]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawErrorPage {
    pub(super) status: Option<i64>,
    pub(super) file: Option<String>,
    pub(super) content_type: Option<String>,
}

/// `[[rule]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) vip: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path_exact: Option<String>,
    pub(super) path_prefix: Option<String>,
    pub(super) path_suffix: Option<String>,
    pub(super) pool: Option<String>,
}
