//! A small world around the switch: clients and backends whose frames are made and read byte by byte here, without
//! the core's own builders, and bookkeeping that is compared with the counters at every step.

pub(crate) mod client;
pub(crate) mod packets;
pub(crate) mod world;
