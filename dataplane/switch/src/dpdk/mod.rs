//! The one door to `capsule` and DPDK.
//!
//! Capsule starts the EAL, makes the mempool, the port and one pinned thread per lcore; on each of them
//! runs a loop of ours that moves bursts of frames between the port's queue and a [`Worker`]. Outside this
//! folder the package contains no `unsafe`: what leaves it are owned [`Frame`]s, a [`Tx`] to send them
//! with, plain counters and errors.
//!
//! The way in: [`Dpdk::open`], then start the control threads (they inherit the main lcore's CPU, away from
//! the workers), then [`Dpdk::run`] on the main thread until a signal or the stop flag.
//!
//! Never here: what is in a frame. That is the core's business.

mod counters;
mod device;
mod error;
mod frame;
mod lcore;
mod machine;
mod port;
mod runtime;
mod settings;
mod tx;

pub use counters::{LcoreCounters, LcoreSnapshot};
pub use device::Device;
pub use error::{DpdkError, SettingsError};
pub use frame::{Burst, DataOutOfBuffer, Frame};
pub use lcore::{Lcore, Worker};
pub use port::{Port, PortStats};
pub use runtime::Dpdk;
pub use settings::{DpdkSettings, Idle, MTU};
pub use tx::{CopyError, Tx};

/// Frames received or sent with one call of the driver.
pub const BURST: usize = 32;

/// Bytes in front of a received frame in its buffer, free for headers to be put there.
pub const HEADROOM_BYTES: usize = capsule_ffi::RTE_PKTMBUF_HEADROOM as usize;

/// Bytes from where a frame starts to the end of its buffer.
pub const DATA_ROOM_BYTES: usize = capsule_ffi::RTE_MBUF_DEFAULT_DATAROOM as usize;
