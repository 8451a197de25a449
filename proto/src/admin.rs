//! What operators ask of the switch and what it answers: the JSON bodies of the admin API (docs/ADMIN.md), HTTP/1.1 over a
//! Unix socket. `batonctl` and the switch share these types; paths and statuses are the switch's.
//!
//! A member the other side does not know is an error: switch and batonctl belong to one release.

mod route;

use core::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::addr::{FourTuple, Vip};
use crate::control::Load;
use crate::time::Micros;

pub use route::{PairFault, Route, RouteContent, RouteOutcome, RouteQuestion};

/// Where the switch's admin socket is if its configuration says no other place.
pub const SOCKET_DEFAULT: &str = "/run/baton/switch.sock";
/// How many flows one answer lists at most.
pub const FLOWS_MAX: usize = 10_000;
/// Longest configuration that may be sent, in bytes of TOML.
pub const CONFIGURATION_BYTES_MAX: usize = 16 << 20;
/// How long the switch waits at most for a further event before it answers that there is none, in milliseconds.
pub const EVENTS_WAIT_MS_MAX: u64 = 20_000;
/// How many frames one capture takes at most.
pub const CAPTURE_FRAMES_MAX: u32 = 1_000_000;
/// How long one capture takes at most, in seconds.
pub const CAPTURE_SECONDS_MAX: u32 = 3_600;
/// The media type of a capture: a pcap file.
pub const PCAP_MEDIA_TYPE: &str = "application/vnd.tcpdump.pcap";
/// The trailer of a capture that tells how many frames are in it.
pub const CAPTURE_FRAMES_TRAILER: &str = "baton-frames";
/// The trailer of a capture that tells how many frames would have belonged in it and were lost for lack of room.
pub const CAPTURE_LOST_TRAILER: &str = "baton-frames-lost";

/// The body of every answer whose status is 4xx or 5xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What is wrong and what to do, in sentences.
    pub error: String,
}

/// The switch as a whole: `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Release of the switch.
    pub release: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Its address on the data network.
    pub address: IpAddr,
    /// Hardware address of its port, as six colon-separated hex bytes.
    pub mac: String,
    /// The device it runs on, as configured.
    pub device: String,
    /// Lcores that forward.
    pub lcore_count: usize,
    /// VIPs it answers for.
    pub vips: Vec<VipStatus>,
    /// Backends that may get new connections.
    pub backends_usable: usize,
    /// Backends configured.
    pub backends_configured: usize,
    /// Entries in the flow tables.
    pub flows: u64,
    /// Entries the flow tables can hold.
    pub flows_capacity: u64,
    /// Frames received since start.
    pub rx_frames: u64,
    /// Frames sent since start.
    pub tx_frames: u64,
    /// Handoffs since start.
    pub handoffs: u64,
    /// Frames dropped since start, all reasons.
    pub drops: u64,
    /// Each lcore.
    pub lcores: Vec<LcoreStatus>,
}

/// One lcore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LcoreStatus {
    /// Its number, from 0.
    pub lcore: u8,
    /// Its CPU.
    pub cpu: usize,
    /// Entries in its flow table.
    pub flows: u64,
    /// Frames it received since start.
    pub rx_frames: u64,
    /// Frames it sent since start.
    pub tx_frames: u64,
    /// Frames it dropped since start, all reasons.
    pub drops: u64,
    /// Microseconds since start in which it had work.
    pub busy_us: u64,
    /// Microseconds since start in which it had none, whether it napped or polled.
    pub idle_us: u64,
}

/// One VIP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VipStatus {
    /// Its configured name.
    pub name: String,
    /// Its address and port.
    pub vip: Vip,
}

/// One backend: `GET /v1/backends` lists all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Its configured name.
    pub name: String,
    /// Its address on the data network.
    pub address: IpAddr,
    /// Whether it may get new connections.
    pub usable: bool,
    /// Why not, one sentence each; empty if usable.
    pub reasons: Vec<String>,
    /// Hardware address of the next hop towards it, once resolved.
    pub next_hop_mac: Option<String>,
    /// Milliseconds since its agent last reported.
    pub report_age_ms: Option<u64>,
    /// Whether that is so long ago that policies go on without it; none while its agent is not connected.
    pub report_stale: Option<bool>,
    /// Release of its agent.
    pub agent_release: Option<String>,
    /// Milliseconds by which its wall clock was ahead of the switch's when its agent connected; negative if behind.
    pub clock_ahead_ms: Option<i64>,
    /// What it has to do, as it last reported.
    pub load: Option<Load>,
    /// Pools it belongs to.
    pub pools: Vec<String>,
    /// Its weight where a pool says no other, 1 to 1,000.
    pub weight: u16,
    /// Whether it gets no new connections because an operator wants it so; those there go on.
    pub draining: bool,
    /// Connections it has through the switch, as the switch counts them; none if an lcore does not answer.
    pub connections: Option<u64>,
    /// Connections it was given since the switch started, refused ones among them.
    pub handoffs: u64,
}

/// A listing of flows: `GET /v1/flows?limit=N`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flows {
    /// Entries in the flow tables when asked.
    pub total: u64,
    /// As many of them as were asked for.
    pub flows: Vec<Flow>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Whose connection it is.
    pub tuple: FourTuple,
    /// Name of the backend that has it; none while its request head is unfinished.
    pub backend: Option<String>,
    /// `asking`, `unclaimed`, `holding`, `unconfirmed`, `established`, `closing-unconfirmed`, `closing` or `answered`.
    pub state: String,
    /// Milliseconds since its first byte came.
    pub age_ms: u64,
    /// Milliseconds since the client's last packet; while its request head is unfinished, since its first byte.
    pub idle_ms: u64,
    /// The lcore that has it.
    pub lcore: u8,
}

/// One counter: `GET /v1/counters` lists all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Its name; drops begin with `drop_`.
    pub name: String,
    /// What it counts, one sentence.
    pub description: String,
    /// Its value, summed over the lcores, since start.
    pub value: u64,
}

/// One pool: `GET /v1/pools` lists all, in their configured order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its configured name.
    pub name: String,
    /// How it chooses among its backends, as in switch.toml: `round-robin`, `maglev` and so on.
    pub policy: String,
    /// What keeps a client at its backend, as in switch.toml; none if nothing does.
    pub sticky: Option<String>,
    /// Its backends, in their configured order.
    pub members: Vec<PoolMember>,
}

/// One backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolMember {
    /// Its name.
    pub backend: String,
    /// Its weight in this pool, 1 to 1,000.
    pub weight: u16,
    /// Whether it may get new connections.
    pub usable: bool,
}

/// One rule: `GET /v1/rules` lists all, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its place in that order, from 1.
    pub number: u32,
    /// What must hold, one `key = value` of switch.toml each; empty if it matches every request.
    pub conditions: Vec<String>,
    /// The class of what it matches; none for the class that needs no name.
    pub class: Option<String>,
    /// What is done with what it matches.
    pub action: RuleAction,
    /// Requests it took since these rules are in force; none if an lcore does not answer.
    pub requests: Option<u64>,
}

/// What a rule does with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RuleAction {
    /// A backend of this pool gets it.
    Pool(String),
    /// The switch answers with this status and location.
    Redirect {
        /// The status, 3xx.
        status: u16,
        /// Where to, as configured.
        location: String,
    },
    /// The switch answers with this status.
    Respond {
        /// The status.
        status: u16,
    },
}

/// One service class: `GET /v1/classes` lists all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Its configured name.
    pub name: String,
    /// At overload the lowest is refused first.
    pub priority: u8,
    /// How much one session counts where pools weigh sessions.
    pub weight: u16,
    /// Requests a second that are taken even at overload; none if no such rate is promised.
    pub rate_per_s: Option<u32>,
    /// Rules that lead to it.
    pub rules: u32,
    /// Requests of it that were let in since the switch started.
    pub let_in: u64,
    /// Requests of it that were refused for overload since then.
    pub refused: u64,
}

/// The running configuration: `GET /v1/config`; a part of it: `GET /v1/config/{part}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// How many configurations the switch has had since it started; the one it started with is the first.
    pub generation: u64,
    /// When this one became the running one, by the switch's clock: microseconds since the Unix epoch.
    pub applied: Micros,
    /// As switch.toml would say it.
    pub toml: String,
}

/// A configuration to check or apply: `POST /v1/config/check`, `POST /v1/config/apply`; a part of one:
/// `POST /v1/config/{part}/check`, `POST /v1/config/{part}/apply`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationText {
    /// The whole of it, or of the part that is meant, as in switch.toml; at most [`CONFIGURATION_BYTES_MAX`].
    pub toml: String,
}

/// What a change is, or would be: answers every request that changes the configuration or checks one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// The generation that runs now; of a check, the one it was compared with.
    pub generation: u64,
    /// What differs from the configuration before, one sentence each; empty if nothing does.
    pub changes: Vec<String>,
    /// What the operator should know and what hinders nothing.
    pub warnings: Vec<String>,
}

/// A backend to add: `POST /v1/backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBackend {
    /// Its name.
    pub name: String,
    /// Its address on the data network.
    pub address: Ipv4Addr,
    /// Its weight, 1 to 1,000; 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The pools it is put into, behind their other backends.
    #[serde(default)]
    pub pools: Vec<String>,
    /// Whether it gets no new connections until it is enabled.
    #[serde(default)]
    pub drain: bool,
    /// With how many connections it counts as full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
}

/// A backend's new weight: `POST /v1/backends/{name}/weight`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWeight {
    /// 1 to 1,000.
    pub weight: u16,
    /// The pool in which it holds; left out, everywhere but in pools that say another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// A part of what happened: answers `GET /v1/events?after=N&wait_ms=M`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// How many events between `after` and the first listed are not kept any more.
    pub lost: u64,
    /// In their order.
    pub events: Vec<Event>,
}

/// Something that happened and changed what the switch does, or might.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Counts the events since the switch started, from 1.
    pub number: u64,
    /// When, by the switch's clock: microseconds since the Unix epoch.
    pub time: Micros,
    /// What happened.
    pub kind: EventKind,
    /// To whom: a backend's name, an agent's or another host's address; none for the switch itself.
    pub subject: Option<String>,
    /// The whole story, one line.
    pub text: String,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The switch began to serve.
    Started,
    /// A backend may get new connections.
    BackendUsable,
    /// A backend gets no new connections.
    BackendUnusable,
    /// An agent was turned away, or somebody who is none.
    AgentRefused,
    /// Another host claims an address of the switch.
    AddressConflict,
    /// Another configuration runs.
    ConfigurationApplied,
    /// A configuration was refused; the one before goes on.
    ConfigurationRefused,
    /// A capture began or ended.
    Capture,
    /// The reports of a backend's agent come so late that policies go on without them.
    ReportsStale,
    /// They come in time again.
    ReportsFresh,
    /// Requests of a class are refused for overload.
    OverloadBegan,
    /// They are refused no more.
    OverloadEnded,
}

impl EventKind {
    /// Returns its name, as JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::BackendUsable => "backend-usable",
            Self::BackendUnusable => "backend-unusable",
            Self::AgentRefused => "agent-refused",
            Self::AddressConflict => "address-conflict",
            Self::ConfigurationApplied => "configuration-applied",
            Self::ConfigurationRefused => "configuration-refused",
            Self::Capture => "capture",
            Self::ReportsStale => "reports-stale",
            Self::ReportsFresh => "reports-fresh",
            Self::OverloadBegan => "overload-began",
            Self::OverloadEnded => "overload-ended",
        }
    }
}

/// Frames to write down: `POST /v1/capture`. The answer is a pcap file that grows until a limit is reached or the asker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// Whose frames.
    pub client: Ipv4Addr,
    /// Of which of its connections; left out, of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// With which VIP; left out, with all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<Vip>,
    /// Ends after so many frames, 1 to [`CAPTURE_FRAMES_MAX`].
    pub frames_max: u32,
    /// Ends after so many seconds, 1 to [`CAPTURE_SECONDS_MAX`].
    pub seconds_max: u32,
}
