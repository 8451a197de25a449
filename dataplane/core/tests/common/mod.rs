//! A small world around the switch: clients and backends whose frames are made and read byte by byte here, without
//! the core's own builders, and bookkeeping that is compared with the counters at every step.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod hello;
pub(crate) mod packets;
pub(crate) mod page;
pub(crate) mod world;
