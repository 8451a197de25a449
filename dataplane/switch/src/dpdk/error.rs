//! What can go wrong at the door, each with its place in the configuration and a remedy.

use super::settings::{DESCRIPTORS, LCORES_MAX, MEMORY_MB_MAX, MTU};
use thiserror::Error;

/// A value of the `[dpdk]` section that cannot work on any machine.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("dpdk.{} = {}: {}", self.key(), self.found(), self.needed())]
pub enum SettingsError {
    /// The device is neither a PCI address nor a virtual device.
    Device {
        /// The device as configured.
        found: String,
    },
    /// An af_packet device without the interface it should use.
    InterfaceMissing {
        /// The device as configured.
        found: String,
    },
    /// `qpairs` given by hand does not give every lcore a queue.
    TooFewQueues {
        /// The device as configured.
        found: String,
        /// How many lcores there are.
        lcores: usize,
    },
    /// No lcore, too many, or one twice.
    Lcores {
        /// The lcores as configured.
        found: Vec<usize>,
    },
    /// A descriptor ring too small or too large.
    Descriptors {
        /// `rx_descriptors` or `tx_descriptors`.
        key: &'static str,
        /// The value as configured.
        found: usize,
    },
    /// An MTU that does not fit a single buffer.
    Mtu {
        /// The value as configured.
        found: u16,
    },
    /// Too little memory for the frames that lcores and descriptors need.
    Memory {
        /// The value as configured.
        found: usize,
        /// Least that suffices, in MiB.
        needed_mb: usize,
    },
}

impl SettingsError {
    /// Returns the key in `[dpdk]`.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Device { .. } | Self::InterfaceMissing { .. } | Self::TooFewQueues { .. } => "device",
            Self::Lcores { .. } => "lcores",
            Self::Descriptors { key, .. } => key,
            Self::Mtu { .. } => "mtu",
            Self::Memory { .. } => "memory_mb",
        }
    }

    /// Returns the value as it stands in the configuration.
    pub fn found(&self) -> String {
        match self {
            Self::Device { found } | Self::InterfaceMissing { found } | Self::TooFewQueues { found, .. } => {
                format!("{found:?}")
            }
            Self::Lcores { found } => format!("{found:?}"),
            Self::Descriptors { found, .. } | Self::Memory { found, .. } => found.to_string(),
            Self::Mtu { found } => found.to_string(),
        }
    }

    /// Returns what is allowed, or what to do.
    pub fn needed(&self) -> String {
        match self {
            Self::Device { .. } => "expected a full PCI address (\"0000:3b:00.0\") or a DPDK virtual device \
                                    (\"net_af_packet0,iface=data0\")"
                .to_owned(),
            Self::InterfaceMissing { .. } => {
                "name the interface, as in \"net_af_packet0,iface=data0\"".to_owned()
            }
            Self::TooFewQueues { lcores, .. } => {
                format!("qpairs must be a number not below the {lcores} lcores; leave it out to have it set")
            }
            Self::Lcores { .. } => format!("name between 1 and {LCORES_MAX} CPUs, each once"),
            Self::Descriptors { .. } => {
                format!("allowed are {} to {}", DESCRIPTORS.start(), DESCRIPTORS.end())
            }
            Self::Mtu { .. } => format!("allowed are {} to {}", MTU.start(), MTU.end()),
            Self::Memory { needed_mb, .. } => {
                format!("these lcores and descriptors need {needed_mb} to {MEMORY_MB_MAX}")
            }
        }
    }
}

/// DPDK could not be started or did not do what was asked.
#[derive(Debug, Error)]
pub enum DpdkError {
    /// The settings cannot work on any machine.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A CPU that this process may not use.
    #[error("dpdk.{key}: CPU {cpu} is not available to this process (available: {allowed}); choose another")]
    Cpu {
        /// `main_lcore` or `lcores`.
        key: &'static str,
        /// The CPU asked for.
        cpu: usize,
        /// What the kernel allows, in its own list form.
        allowed: String,
    },
    /// The interface of an af_packet device does not exist here.
    #[error("dpdk.device: no interface {interface:?} in this network namespace; create it or correct iface=")]
    Interface {
        /// The interface asked for.
        interface: String,
    },
    /// Fewer free hugepages than `memory_mb` asks for.
    #[error(
        "dpdk.hugepages = true: {free_mb} MB of hugepages are free, memory_mb = {needed_mb}; reserve more \
         (sysctl vm.nr_hugepages=...) or set hugepages = false"
    )]
    Hugepages {
        /// What is free, in MiB.
        free_mb: usize,
        /// What is asked for, in MiB.
        needed_mb: usize,
    },
    /// Less free memory than `memory_mb` asks for.
    #[error("dpdk.memory_mb = {needed_mb}: {free_mb} MB of memory are available")]
    Memory {
        /// What is available, in MiB.
        free_mb: usize,
        /// What is asked for, in MiB.
        needed_mb: usize,
    },
    /// The environment layer or the device's driver did not start.
    #[error(
        "dpdk.device = {device:?}: DPDK did not start it: {reason}; its own messages on standard error say more. \
         Root is needed (or CAP_NET_RAW for af_packet); a PCI device must be bound to vfio-pci, or, for mlx5, stay \
         with its kernel driver"
    )]
    Start {
        /// The device as configured.
        device: String,
        /// What capsule reported.
        reason: String,
    },
    /// The device is there but would not be configured as asked.
    #[error(
        "dpdk.device = {device:?}: the port could not be set up: {reason}; check lcores (one queue each; main_lcore \
         or one of them on the device's NUMA node) and descriptors"
    )]
    SetUp {
        /// The device as configured.
        device: String,
        /// What capsule reported.
        reason: String,
    },
    /// The driver refused the MTU.
    #[error(
        "dpdk.mtu = {mtu}: the driver refused it ({reason}); use the device's own (af_packet: at most 1500)"
    )]
    Mtu {
        /// The MTU asked for.
        mtu: u16,
        /// DPDK's words.
        reason: String,
    },
    /// The port could not be started, or the lcores not be set to work.
    #[error("dpdk.device = {device:?}: could not run: {reason}")]
    Run {
        /// The device as configured.
        device: String,
        /// What capsule reported.
        reason: String,
    },
    /// Statistics were asked for after the port was closed.
    #[error("the port is closed")]
    PortClosed,
    /// The driver gave no statistics.
    #[error("the driver gave no statistics: {reason}")]
    Stats {
        /// DPDK's words.
        reason: String,
    },
}
