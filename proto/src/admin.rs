//! Messages between `batonctl` and the switch, framed by [`codec`](crate::codec) on the admin socket: one request, one
//! answer, any number of times.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addr::{FourTuple, Vip};
use crate::control::Load;

/// How many flows one answer lists at most.
pub const FLOWS_MAX: usize = 10_000;

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The switch as a whole.
    Status,
    /// Every configured backend.
    Backends,
    /// Flows, newest activity not guaranteed first.
    Flows {
        /// At most this many, and at most [`FLOWS_MAX`].
        limit: usize,
    },
    /// Every counter, summed over the lcores.
    Counters,
}

/// What the switch answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "body", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Response {
    /// Answers [`Request::Status`].
    Status(Status),
    /// Answers [`Request::Backends`].
    Backends(Vec<Backend>),
    /// Answers [`Request::Flows`].
    Flows(Flows),
    /// Answers [`Request::Counters`].
    Counters(Vec<Counter>),
    /// The request was not understood or not possible; the text says why.
    Error(String),
}

/// The switch as a whole.
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

/// One backend.
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
    /// Release of its agent.
    pub agent_release: Option<String>,
    /// Milliseconds by which its wall clock was ahead of the switch's when its agent connected; negative if behind.
    pub clock_ahead_ms: Option<i64>,
    /// What it has to do, as it last reported.
    pub load: Option<Load>,
    /// Pools it belongs to.
    pub pools: Vec<String>,
}

/// A listing of flows.
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

/// One counter.
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
