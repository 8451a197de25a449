//! DPDK 22.11 under the names that `capsule` 0.1.5 was written against (DPDK 19.11).
//!
//! The published `capsule` asks for a crate `capsule-ffi` 0.1.5 that binds DPDK 19.11. The workspace
//! puts this crate in its place with `[patch.crates-io]`, so `capsule` itself stays as published.
//! Three layers:
//!
//! * [`sys`]: what bindgen reads from the installed headers, and C shims for DPDK's inline functions;
//! * `compat`: names, constants and types that DPDK has renamed or dropped since;
//! * `hooks`: functions that capsule calls with 19.11's arguments or expectations.
//!
//! Not offered: what only capsule's features `pcap-dump` and `testils` use (libpcap, callbacks).
//! Kernel NIC interfaces (KNI) compile and fail when asked for.

mod compat;
mod hooks;
pub mod sys;

pub use sys::*;

// Named one by one: an explicit name wins over the glob above, a second glob would be ambiguous.
pub use compat::{
    DEV_TX_OFFLOAD_MBUF_FAST_FREE, ETH_RSS_IP, ETH_RSS_SCTP, ETH_RSS_TCP, ETH_RSS_UDP, rte_eth_rx_mq_mode,
    rte_kni, rte_kni_alloc, rte_kni_close, rte_kni_conf, rte_kni_get_name, rte_kni_handle_request,
    rte_kni_init, rte_kni_ops, rte_kni_release, rte_kni_rx_burst, rte_kni_tx_burst,
};
pub use hooks::{rte_eal_init, rte_thread_set_affinity};
