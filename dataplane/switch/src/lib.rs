//! The rooms of `baton-switch`; `main` only wires them together.

pub mod dpdk;
