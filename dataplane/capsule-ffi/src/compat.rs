//! Names of DPDK 19.11 that 22.11 renamed or dropped, with the meaning capsule gives them.

#![allow(non_camel_case_types, reason = "the names are DPDK's")]

use crate::sys;
use std::ffi::{c_char, c_int, c_uint};
use std::ptr;

/// Receive-side scaling over IP headers; `RTE_ETH_RSS_IP` today.
pub const ETH_RSS_IP: u64 = sys::CAPSULE_RSS_IP;
/// Receive-side scaling over TCP ports; `RTE_ETH_RSS_TCP` today.
pub const ETH_RSS_TCP: u64 = sys::CAPSULE_RSS_TCP;
/// Receive-side scaling over UDP ports; `RTE_ETH_RSS_UDP` today.
pub const ETH_RSS_UDP: u64 = sys::CAPSULE_RSS_UDP;
/// Receive-side scaling over SCTP ports; `RTE_ETH_RSS_SCTP` today.
pub const ETH_RSS_SCTP: u64 = sys::CAPSULE_RSS_SCTP;
/// The device may return sent mbufs to their pool in bulk; `RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE` today.
pub const DEV_TX_OFFLOAD_MBUF_FAST_FREE: u64 = sys::CAPSULE_TX_MBUF_FAST_FREE;

/// How a device spreads received packets over its queues.
pub mod rte_eth_rx_mq_mode {
    pub use crate::sys::rte_eth_rx_mq_mode::*;

    /// By receive-side scaling; `RTE_ETH_MQ_RX_RSS` today.
    pub const ETH_MQ_RX_RSS: Type = RTE_ETH_MQ_RX_RSS;
}

/// "Operation not supported", negated as DPDK returns it.
const NOT_SUPPORTED: c_int = -95;

/// A kernel NIC interface. DPDK 22.11 as shipped has none: no value of this type ever exists.
#[derive(Debug)]
pub enum rte_kni {}

/// Settings of a kernel NIC interface, as far as capsule fills them in.
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_kni_conf {
    /// Interface name, NUL-terminated.
    pub name: [c_char; 32],
    /// Group the interface belongs to.
    pub group_id: u16,
    /// Size of its mbufs in bytes.
    pub mbuf_size: c_uint,
    /// Its MAC address.
    pub mac_addr: [u8; 6],
}

/// Callbacks of a kernel NIC interface; never called here.
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_kni_ops {
    /// Port the interface stands for.
    pub port_id: u16,
    /// Asked to change the MTU.
    pub change_mtu: Option<extern "C" fn(port_id: u16, new_mtu: c_uint) -> c_int>,
    /// Asked to go up or down.
    pub config_network_if: Option<extern "C" fn(port_id: u16, if_up: u8) -> c_int>,
    /// Asked to change the MAC address.
    pub config_mac_address: Option<extern "C" fn(port_id: u16, mac_addr: *mut u8) -> c_int>,
    /// Asked to change promiscuous mode.
    pub config_promiscusity: Option<extern "C" fn(port_id: u16, to_on: u8) -> c_int>,
}

/// Reports that kernel NIC interfaces are not supported.
///
/// # Safety
///
/// None needed; `unsafe` because capsule calls it as a foreign function.
pub unsafe fn rte_kni_init(_max: c_uint) -> c_int {
    NOT_SUPPORTED
}

/// Does nothing: there is no subsystem to close.
///
/// # Safety
///
/// None needed; `unsafe` because capsule calls it as a foreign function.
pub unsafe fn rte_kni_close() {}

/// Returns null: no interface can be made.
///
/// # Safety
///
/// None needed: the pointers are not looked at.
pub unsafe fn rte_kni_alloc(
    _pool: *mut sys::rte_mempool,
    _conf: *const rte_kni_conf,
    _ops: *mut rte_kni_ops,
) -> *mut rte_kni {
    ptr::null_mut()
}

/// Reports failure; cannot be reached, because no [`rte_kni`] exists.
///
/// # Safety
///
/// None needed: the pointer is not looked at.
pub unsafe fn rte_kni_release(_kni: *mut rte_kni) -> c_int {
    NOT_SUPPORTED
}

/// Reports failure; cannot be reached, because no [`rte_kni`] exists.
///
/// # Safety
///
/// None needed: the pointer is not looked at.
pub unsafe fn rte_kni_handle_request(_kni: *mut rte_kni) -> c_int {
    NOT_SUPPORTED
}

/// Returns an empty name; cannot be reached, because no [`rte_kni`] exists.
///
/// # Safety
///
/// None needed: the pointer is not looked at.
pub unsafe fn rte_kni_get_name(_kni: *const rte_kni) -> *const c_char {
    c"".as_ptr()
}

/// Receives nothing; cannot be reached, because no [`rte_kni`] exists.
///
/// # Safety
///
/// None needed: the pointers are not looked at.
pub unsafe fn rte_kni_rx_burst(
    _kni: *mut rte_kni,
    _mbufs: *mut *mut sys::rte_mbuf,
    _count: c_uint,
) -> c_uint {
    0
}

/// Sends nothing; cannot be reached, because no [`rte_kni`] exists.
///
/// # Safety
///
/// None needed: the pointers are not looked at.
pub unsafe fn rte_kni_tx_burst(
    _kni: *mut rte_kni,
    _mbufs: *mut *mut sys::rte_mbuf,
    _count: c_uint,
) -> c_uint {
    0
}
