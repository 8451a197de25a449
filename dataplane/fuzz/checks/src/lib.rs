//! What the fuzz targets insist on: one function per target, which takes any bytes and panics where Baton does something it must not.
//!
//! The targets themselves (`dataplane/fuzz/fuzz_targets`) only call these, so that the same functions run over the
//! committed corpus as plain tests (`tests/replay.rs`). Development only: nothing of Baton uses this crate.

#![forbid(unsafe_code)]
// The readers below bring units of their own along, which are built where they belong.
#![cfg(not(test))]

// The world of the core's own tests, where frames are written and read byte by byte.
#[path = "../../../core/tests/common/mod.rs"]
#[allow(dead_code, reason = "stories need more of it than fuzzing does")]
mod common;

mod chunked;
mod client_hello;
mod configuration;
mod control_message;
mod frame;
mod handoff_header;
mod http_head;
mod input;
mod tcp_options;

pub use chunked::chunked;
pub use client_hello::client_hello;
pub use configuration::configuration;
pub use control_message::control_message;
pub use frame::frame;
pub use handoff_header::handoff_header;
pub use http_head::http_head;
pub use tcp_options::tcp_options;

/// A target: its name, which is that of its corpus, and what it insists on.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("chunked", chunked),
    ("client_hello", client_hello),
    ("configuration", configuration),
    ("control_message", control_message),
    ("frame", frame),
    ("handoff_header", handoff_header),
    ("http_head", http_head),
    ("tcp_options", tcp_options),
];

// The configuration's reader of `baton-switch`, and beside it what it takes from that crate's other rooms.
#[path = "../../../switch/src/config/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "reading files and live change are left out here"
)]
mod switch_config;

#[path = "../../../switch/src/dpdk"]
#[allow(dead_code, unreachable_pub, reason = "only the settings are needed here")]
mod dpdk {
    mod device;
    mod error;
    mod settings;

    pub use error::SettingsError;
    pub use settings::{DpdkSettings, Idle, MTU};

    /// As in the room itself.
    const BURST: usize = 32;

    /// What the EAL is told and nothing here looks at.
    mod runtime {
        pub(super) const APP_NAME: &str = "";
        pub(super) const PORT_NAME: &str = "";
    }
}

#[path = "../../../switch/src/control"]
#[allow(dead_code, unreachable_pub, reason = "only the catalog's form is needed here")]
mod control {
    mod catalog;

    pub use catalog::{
        Catalog, NamedBackend, NamedClass, NamedPool, NamedVip, PLACES_MAX, Places, vips_of_rule,
    };
}

// The configuration's reader of `handoff-agent`, and beside it where the BPF file system is.
#[path = "../../../../handoff-agent/src/config/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports, reason = "reading files is left out here")]
mod agent_config;

#[path = "../../../../handoff-agent/src/sys"]
#[allow(dead_code, unreachable_pub, reason = "only a path is needed here")]
mod sys {
    pub(crate) mod mounts;
}
