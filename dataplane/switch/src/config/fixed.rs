//! What cannot change while the switch runs.

use std::path::Path;

use baton_core::{Network, Settings};

use super::faults::{Findings, quoted};
use super::{Config, ControlSettings};
use crate::dpdk::{DpdkSettings, Idle};

/// What of a configuration cannot change.
pub(super) struct Fixed<'a> {
    pub(super) dpdk: &'a DpdkSettings,
    pub(super) core: &'a Settings,
    pub(super) control: &'a ControlSettings,
    pub(super) key_file: &'a Path,
}

impl<'a> From<&'a Config> for Fixed<'a> {
    fn from(config: &'a Config) -> Self {
        let Config { dpdk, core, control, key_file, .. } = config;
        Self { dpdk, core, control, key_file }
    }
}

/// Reports every setting that differs and must not.
pub(super) fn compare(before: &Fixed<'_>, after: &Fixed<'_>, findings: &mut Findings) {
    for ((key, runs), (_, wanted)) in settings(before).into_iter().zip(settings(after)) {
        if runs != wanted {
            let allowed = format!(
                "this cannot change while the switch runs, and it runs with {runs}: restart it for this, or write what it runs with"
            );
            findings.fault(key, wanted, allowed);
            findings.fixed += 1;
        }
    }
}

/// Lists these settings as they would be written, defaults included. Every field is named, so that a new one is not forgotten.
fn settings(fixed: &Fixed<'_>) -> Vec<(&'static str, String)> {
    let Fixed { dpdk, core, control, key_file } = fixed;
    let DpdkSettings {
        device,
        main_lcore,
        lcores,
        rx_descriptors,
        tx_descriptors,
        hugepages,
        memory_mb,
        mtu,
        idle,
    } = dpdk;
    let Settings {
        network: Network { address, prefix_bits, gateway },
        mtu_bytes: _, // as `mtu`
        flow_count_max,
        hold_count_max,
        hold_timeout,
        unconfirmed_timeout,
        established_timeout,
        closing_timeout,
        window_scale,
    } = core;
    let ControlSettings { listen, metrics, admin_socket } = control;
    let idle = match idle {
        Idle::Nap => "nap",
        Idle::Spin => "spin",
    };
    let gateway = gateway.map_or_else(|| "none".to_owned(), |gateway| quoted(&gateway.to_string()));
    let seconds = |time: &baton_core::Micros| (time.0 / 1_000_000).to_string();
    vec![
        ("switch.address", quoted(&format!("{address}/{prefix_bits}"))),
        ("switch.gateway", gateway),
        ("switch.key_file", quoted(&key_file.to_string_lossy())),
        ("dpdk.device", quoted(device)),
        ("dpdk.main_lcore", main_lcore.to_string()),
        ("dpdk.lcores", format!("{lcores:?}")),
        ("dpdk.rx_descriptors", rx_descriptors.to_string()),
        ("dpdk.tx_descriptors", tx_descriptors.to_string()),
        ("dpdk.hugepages", hugepages.to_string()),
        ("dpdk.memory_mb", memory_mb.to_string()),
        ("dpdk.mtu", mtu.to_string()),
        ("dpdk.idle", quoted(idle)),
        ("control.listen", quoted(&listen.to_string())),
        ("control.metrics", quoted(&metrics.to_string())),
        ("control.admin_socket", quoted(&admin_socket.to_string_lossy())),
        ("flows.capacity", flow_count_max.to_string()),
        ("flows.unconfirmed_timeout_s", seconds(unconfirmed_timeout)),
        ("flows.established_timeout_s", seconds(established_timeout)),
        ("flows.closing_timeout_s", seconds(closing_timeout)),
        ("handshake.window_scale", window_scale.to_string()),
        ("requests.unfinished_count_max", hold_count_max.to_string()),
        ("requests.unfinished_timeout_s", seconds(hold_timeout)),
    ]
}
