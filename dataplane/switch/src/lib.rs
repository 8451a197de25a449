//! The rooms of `baton-switch`; `main` only wires them together.

pub mod config;
pub mod control;
pub mod dpdk;
pub mod metrics;
pub mod runtime;
