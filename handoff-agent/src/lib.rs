//! Baton's agent on a backend: turns handoffs into sockets of an unmodified server.
//!
//! The work on packets is done by BPF programs ([`bpf`]), which go on when the agent is gone. The agent loads them,
//! sees to it that the host lets handoffs through, and tells the switch how the backend is doing.

#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod births;
pub mod bpf;
pub mod config;
pub mod control;
pub mod frame;
pub mod health;
pub mod host;
pub mod load;
pub mod mending;
pub mod selftest;
pub mod status;
pub mod supervisor;
pub mod sys;

/// Why `detach` fails.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The host's state.
    #[error(transparent)]
    Host(#[from] host::HostError),
    /// The pins.
    #[error(transparent)]
    Bpf(#[from] bpf::BpfError),
    /// The self-test's interfaces.
    #[error("removing the self-test's interfaces: {0}")]
    SelfTest(std::io::Error),
}
