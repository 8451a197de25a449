//! The configuration file as it is written: names and shapes, nothing checked.
//!
//! Numbers are `i64`, addresses are text and everything may be missing here, so that what is wrong is reported with its
//! key and what is allowed, together with all other faults, instead of as the first failure of the TOML reader. The running
//! configuration is kept in this form: every live change is a change of it, and `batonctl config` writes it out again.

mod shapes;

use serde::{Deserialize, Serialize};

pub(crate) use shapes::{OneOrMore, TextOr, Worded};

/// `switch.toml`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RawConfig {
    #[serde(skip_serializing_if = "is_left_out")]
    pub(crate) switch: RawSwitch,
    #[serde(skip_serializing_if = "is_left_out")]
    pub(crate) dpdk: RawDpdk,
    #[serde(skip_serializing_if = "is_left_out")]
    pub(crate) control: RawControl,
    #[serde(skip_serializing_if = "is_left_out")]
    pub(crate) flows: RawFlows,
    #[serde(skip_serializing_if = "is_left_out")]
    pub(crate) handshake: RawHandshake,
    #[serde(skip_serializing_if = "is_left_out")]
    pub(crate) requests: RawRequests,
    #[serde(skip_serializing_if = "is_left_out")]
    pub(crate) overload: RawOverload,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) vip: Vec<RawVip>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) backend: Vec<RawBackend>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pool: Vec<RawPool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) class: Vec<RawClass>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rule: Vec<RawRule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) error_page: Vec<RawErrorPage>,
}

/// Says whether nothing of a section is written.
fn is_left_out<T: Default + PartialEq>(section: &T) -> bool {
    *section == T::default()
}

/// `[switch]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSwitch {
    pub(crate) address: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) key_file: Option<String>,
}

/// `[dpdk]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDpdk {
    pub(crate) device: Option<String>,
    pub(crate) main_lcore: Option<i64>,
    pub(crate) lcores: Option<Vec<i64>>,
    pub(crate) rx_descriptors: Option<i64>,
    pub(crate) tx_descriptors: Option<i64>,
    pub(crate) hugepages: Option<bool>,
    pub(crate) memory_mb: Option<i64>,
    pub(crate) mtu: Option<i64>,
    pub(crate) idle: Option<String>,
}

/// `[control]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawControl {
    pub(crate) listen: Option<String>,
    pub(crate) metrics: Option<String>,
    pub(crate) admin_socket: Option<String>,
}

/// `[flows]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFlows {
    pub(crate) capacity: Option<i64>,
    pub(crate) unconfirmed_timeout_s: Option<i64>,
    pub(crate) established_timeout_s: Option<i64>,
    pub(crate) closing_timeout_s: Option<i64>,
}

/// `[handshake]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHandshake {
    pub(crate) window_scale: Option<i64>,
}

/// `[requests]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRequests {
    pub(crate) unfinished_count_max: Option<i64>,
    pub(crate) unfinished_timeout_s: Option<i64>,
}

/// `[overload]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOverload {
    pub(crate) begin_percent: Option<i64>,
}

/// `[[vip]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVip {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) port: Option<i64>,
    pub(crate) inspect: Option<String>,
}

/// `[[backend]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBackend {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) weight: Option<i64>,
    pub(crate) drain: Option<bool>,
    pub(crate) connections_max: Option<i64>,
}

/// `[[pool]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPool {
    pub(crate) name: Option<String>,
    pub(crate) backends: Option<Vec<TextOr<RawMember>>>,
    pub(crate) policy: Option<TextOr<RawPolicy>>,
    pub(crate) sticky: Option<TextOr<RawSticky>>,
}

/// A backend of a pool that has a weight of its own there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMember {
    pub(crate) name: Option<String>,
    pub(crate) weight: Option<i64>,
}

/// A policy with settings of its own.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicy {
    pub(crate) name: Option<String>,
    pub(crate) bounded_load_percent: Option<i64>,
    pub(crate) count: Option<String>,
    pub(crate) weights: Option<String>,
    pub(crate) low: Option<i64>,
    pub(crate) high: Option<i64>,
    pub(crate) targets_max: Option<i64>,
    pub(crate) replicate_s: Option<i64>,
    pub(crate) depth: Option<i64>,
    pub(crate) interval_s: Option<i64>,
    pub(crate) subtrees_max: Option<i64>,
    pub(crate) cost: Option<String>,
    pub(crate) candidates: Option<i64>,
    pub(crate) hash: Option<TextOr<RawHash>>,
    pub(crate) subtrees: Option<Vec<RawSubtree>>,
}

/// What a policy goes by, where it has a name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHash {
    pub(crate) cookie: Option<String>,
    pub(crate) header: Option<String>,
}

/// What the operator knows of the documents below a path.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSubtree {
    pub(crate) path: Option<String>,
    pub(crate) bytes: Option<i64>,
    pub(crate) cost: Option<i64>,
}

/// What keeps a client at its backend, where it takes more than a word.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSticky {
    pub(crate) cookie: Option<String>,
    pub(crate) cookie_route: Option<String>,
}

/// `[[class]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClass {
    pub(crate) name: Option<String>,
    pub(crate) priority: Option<i64>,
    pub(crate) weight: Option<i64>,
    pub(crate) rate_per_s: Option<i64>,
}

/// `[[rule]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    pub(crate) vip: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) path_exact: Option<String>,
    pub(crate) path_prefix: Option<String>,
    pub(crate) path_suffix: Option<OneOrMore<String>>,
    pub(crate) path_regex: Option<String>,
    pub(crate) method: Option<OneOrMore<String>>,
    pub(crate) client: Option<OneOrMore<String>>,
    pub(crate) server_name: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) class: Option<String>,
    pub(crate) pool: Option<String>,
    pub(crate) header: Option<OneOrMore<RawField>>,
    pub(crate) cookie: Option<OneOrMore<RawField>>,
    pub(crate) query: Option<OneOrMore<RawField>>,
    pub(crate) redirect: Option<RawRedirect>,
    pub(crate) respond: Option<RawRespond>,
}

/// A condition on something that has a name: a header field, a cookie, a parameter of the query.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawField {
    pub(crate) name: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) value_prefix: Option<String>,
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a table such as { status = 302, location = \"https://{host}{uri}\" }"
)]
pub(crate) struct RawRedirect {
    pub(crate) status: Option<i64>,
    pub(crate) location: Option<String>,
}

/// An answer with a body.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table such as { status = 404, body = \"gone\" }")]
pub(crate) struct RawRespond {
    pub(crate) status: Option<i64>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Option<String>,
}

/// `[[error_page]]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawErrorPage {
    pub(crate) status: Option<i64>,
    pub(crate) file: Option<String>,
    pub(crate) content_type: Option<String>,
}

impl Worded for RawField {
    const EXPECTED: &'static str =
        "a table such as { name = \"NAME\", value = \"VALUE\" }, or a list of them";
}

impl Worded for RawMember {
    const EXPECTED: &'static str =
        "the name of a [[backend]], or a table such as { name = \"files1\", weight = 20 }";
}

impl Worded for RawPolicy {
    const EXPECTED: &'static str =
        "the name of a policy, or a table such as { name = \"maglev\", hash = \"path\" }";
}

impl Worded for RawHash {
    const EXPECTED: &'static str = "\"path\", \"url\", \"host\", \"client\", \"server-name\", { cookie = \"NAME\" } or { header = \"NAME\" }";
}

impl Worded for RawSticky {
    const EXPECTED: &'static str =
        "\"client\", \"tls-session\", { cookie = \"NAME\" } or { cookie_route = \"NAME\" }";
}
