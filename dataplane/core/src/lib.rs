//! The switch as a sans-I/O machine: a frame and the time go in, a verdict and frames come out.
//!
//! The same [`Switch`] runs under DPDK, in tests and in benchmarks. It never reads a clock, never allocates per packet,
//! holds no `unsafe`, and knows of the world only what its arguments say: [`Frame`] and [`Micros`] per packet,
//! [`Settings`] and [`Entropy`] at start, [`Snapshot`] whenever control has something new.
//!
//! The rooms `wire`, `cookie`, `flow`, `http`, `tls`, `policy`, `tunnel` and `neighbor` do not know each other; only
//! [`switch`] composes them. `docs/ARCHITECTURE.md` draws the arrows. What finds the end of a request in `http` stands ready
//! and is not composed yet.

#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::indexing_slicing))]

pub mod cookie;
mod deadlines;
pub mod entropy;
pub mod flow;
pub mod frame;
pub mod http;
pub mod ids;
pub mod metrics;
pub mod neighbor;
pub mod policy;
pub mod switch;
pub mod tls;
pub mod tunnel;
pub mod verdict;
pub mod wire;

pub use entropy::Entropy;
pub use frame::Frame;
pub use handoff_proto::Micros;
pub use metrics::{Counters, DropReason, Event};
pub use switch::{Lcore, Network, Outbox, Settings, Snapshot, Switch};
pub use verdict::Verdict;
