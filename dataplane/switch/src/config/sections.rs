//! The sections that stand once: `[switch]`, `[dpdk]`, `[control]`, `[flows]`, `[handshake]`, `[requests]`.

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use baton_core::switch::MTU_BYTES_MIN;
use baton_core::{Network, Settings};
use handoff_proto::admin::SOCKET_DEFAULT;
use handoff_proto::{KeyRing, METRICS_PORT, Micros};

use super::faults::{Findings, host_address, quoted};
use super::raw::{RawConfig, RawControl, RawDpdk, RawSwitch};
use super::{ControlSettings, KeyFault};
use crate::dpdk::{DpdkSettings, Idle, MTU, SettingsError};

const KEY_FILE_DEFAULT: &str = "/etc/baton/keys.toml";
/// Longest path of a Unix socket: `sun_path` of unix(7), 108 bytes with the terminating zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Prefixes a data network with more than the switch in it can have; 31 is RFC 3021.
const PREFIX_BITS: RangeInclusive<u8> = 1..=31;

const FLOW_CAPACITY: RangeInclusive<usize> = 16..=(1 << 24);
const FLOW_CAPACITY_DEFAULT: usize = 65_536;
const HOLD_COUNT: RangeInclusive<usize> = 1..=65_535;
const HOLD_COUNT_DEFAULT: usize = 1024;
const TIMEOUT_S: RangeInclusive<u64> = 1..=86_400;
const HOLD_TIMEOUT_S_DEFAULT: u64 = 30;
const UNCONFIRMED_TIMEOUT_S_DEFAULT: u64 = 300;
const ESTABLISHED_TIMEOUT_S_DEFAULT: u64 = 900;
const CLOSING_TIMEOUT_S_DEFAULT: u64 = 60;
/// RFC 7323, section 2.3: shifts over 14 mean 14.
const WINDOW_SCALE: RangeInclusive<u8> = 0..=14;
const WINDOW_SCALE_DEFAULT: u8 = 7;

/// Highest CPU number that is believed.
const CPU_MAX: usize = 1023;
/// Numbers whose bounds the DPDK door itself knows and reports.
const ANY_COUNT: RangeInclusive<usize> = 0..=(1 << 31);

/// Checks `[switch] address` and `gateway`.
pub(super) fn network(raw: &RawSwitch, findings: &mut Findings) -> Option<Network> {
    const KEY: &str = "switch.address";
    const NEEDED: &str = "address and prefix are needed, such as \"10.60.0.1/24\"";
    let found = findings.required(KEY, raw.address.as_deref(), NEEDED)?;
    let mut fault = |allowed: &str| findings.fault(KEY, quoted(found), allowed);
    let Some((address, prefix)) = found.split_once('/') else {
        fault(NEEDED);
        return None;
    };
    let address = host_address(address).map_err(|needed| fault(&needed.replace(".1\"", ".1/24\""))).ok()?;
    let prefix_bits = prefix.parse::<u8>().ok().filter(|bits| PREFIX_BITS.contains(bits));
    let Some(prefix_bits) = prefix_bits else {
        fault(&format!("the prefix must be {} to {}", PREFIX_BITS.start(), PREFIX_BITS.end()));
        return None;
    };
    let network = Network { address, prefix_bits, gateway: None };
    if !network.is_host(address) {
        fault("this is the network's own or its broadcast address; a host's is needed");
    }
    let gateway = raw.gateway.as_ref().and_then(|text| gateway(text, &network, findings));
    Some(Network { gateway, ..network })
}

fn gateway(text: &str, network: &Network, findings: &mut Findings) -> Option<Ipv4Addr> {
    const KEY: &str = "switch.gateway";
    let gateway = findings.address(KEY, Some(text))?;
    if gateway == network.address {
        findings.fault(KEY, quoted(text), "this is the switch's own address; the router's is needed");
    } else if !network.contains(gateway) || !network.is_host(gateway) {
        let allowed = format!(
            "a host's address on the switch's own network, {}/{}, is needed",
            network.address, network.prefix_bits
        );
        findings.fault(KEY, quoted(text), allowed);
    }
    Some(gateway)
}

/// Returns where the keys are.
pub(super) fn key_file(raw: &RawSwitch) -> PathBuf {
    PathBuf::from(raw.key_file.as_deref().unwrap_or(KEY_FILE_DEFAULT))
}

/// Reads the keys.
pub(super) fn keys(
    path: &Path,
    findings: &mut Findings,
    read: impl FnOnce(&Path) -> Result<KeyRing, KeyFault>,
) -> Option<KeyRing> {
    match read(path) {
        Ok(keys) => Some(keys),
        Err(fault) => {
            findings.fault("switch.key_file", quoted(&path.to_string_lossy()), fault.to_string());
            None
        }
    }
}

/// Checks `[dpdk]`. What only the door knows it puts into words itself.
pub(super) fn dpdk(raw: &RawDpdk, findings: &mut Findings) -> DpdkSettings {
    let needed = "a PCI address or a DPDK virtual device is needed, such as \"0000:3b:00.0\"";
    let device = findings.required("dpdk.device", raw.device.clone(), needed);
    let idle = match raw.idle.as_deref() {
        None | Some("nap") => Idle::Nap,
        Some("spin") => Idle::Spin,
        Some(other) => {
            findings.fault("dpdk.idle", quoted(other), "allowed are \"nap\" and \"spin\"");
            Idle::Nap
        }
    };
    let faults_before = findings.faults.len();
    let lcores = match &raw.lcores {
        None => vec![1],
        Some(cpus) => (0..)
            .zip(cpus)
            .map(|(position, cpu): (usize, _)| {
                findings.number(&format!("dpdk.lcores[{position}]"), Some(*cpu), 0, 0..=CPU_MAX)
            })
            .collect(),
    };
    let (has_device, has_lcores) = (device.is_some(), findings.faults.len() == faults_before);
    let settings = DpdkSettings {
        device: device.unwrap_or_default(),
        main_lcore: findings.number("dpdk.main_lcore", raw.main_lcore, 0, 0..=CPU_MAX),
        lcores,
        rx_descriptors: findings.number("dpdk.rx_descriptors", raw.rx_descriptors, 1024, ANY_COUNT),
        tx_descriptors: findings.number("dpdk.tx_descriptors", raw.tx_descriptors, 1024, ANY_COUNT),
        hugepages: raw.hugepages.unwrap_or(false),
        memory_mb: findings.number("dpdk.memory_mb", raw.memory_mb, 64, ANY_COUNT),
        mtu: findings.number("dpdk.mtu", raw.mtu, 1500, MTU_BYTES_MIN..=*MTU.end()),
        idle,
    };
    for fault in settings.faults() {
        let is_news = match fault {
            SettingsError::Device { .. } => has_device,
            SettingsError::Lcores { .. } => has_lcores,
            SettingsError::Mtu { .. } => false,
            _ => true,
        };
        if is_news {
            findings.fault(format!("dpdk.{}", fault.key()), fault.found(), fault.needed());
        }
    }
    if settings.is_pci() && !settings.hugepages {
        let advice =
            "a card on the PCI bus needs packet memory from hugepages: reserve some and set it to true";
        findings.warn("dpdk.hugepages", "false", advice);
    }
    if settings.lcores.contains(&settings.main_lcore) {
        let advice = "this CPU also moves frames (dpdk.lcores): control slows it down; give each its own where there are enough";
        findings.warn("dpdk.main_lcore", settings.main_lcore, advice);
    }
    settings
}

/// Checks `[control]`.
pub(super) fn control(raw: &RawControl, findings: &mut Findings) -> Option<ControlSettings> {
    let listen = findings.socket("control.listen", raw.listen.as_deref());
    let metrics = match &raw.metrics {
        Some(text) => findings.socket("control.metrics", Some(text)),
        None => Some((Ipv4Addr::LOCALHOST, METRICS_PORT).into()),
    };
    if let (Some(listen), Some(metrics)) = (listen, metrics) {
        let same_host =
            listen.ip() == metrics.ip() || listen.ip().is_unspecified() || metrics.ip().is_unspecified();
        if same_host && listen.port() == metrics.port() {
            findings.fault(
                "control.metrics",
                quoted(&metrics.to_string()),
                "agents use this port (control.listen); take another",
            );
        }
    }
    let socket = raw.admin_socket.as_deref().unwrap_or(SOCKET_DEFAULT);
    let admin_socket = PathBuf::from(socket);
    if !admin_socket.is_absolute() || admin_socket.file_name().is_none() {
        findings.fault("control.admin_socket", quoted(socket), "an absolute path of a socket is needed");
    } else if socket.len() > SOCKET_PATH_BYTES_MAX {
        let allowed =
            format!("the system allows at most {SOCKET_PATH_BYTES_MAX} bytes, these are {}", socket.len());
        findings.fault("control.admin_socket", quoted(socket), allowed);
    }
    Some(ControlSettings { listen: listen?, metrics: metrics?, admin_socket })
}

/// Checks `[flows]`, `[handshake]` and `[requests]`, and joins them with the network.
pub(super) fn core(
    raw: &RawConfig,
    network: Option<Network>,
    mtu_bytes: u16,
    findings: &mut Findings,
) -> Option<Settings> {
    let RawConfig { flows, handshake, requests, .. } = raw;
    let mut seconds =
        |key, found, default| Micros::from_secs(findings.number(key, found, default, TIMEOUT_S));
    let unconfirmed_timeout =
        seconds("flows.unconfirmed_timeout_s", flows.unconfirmed_timeout_s, UNCONFIRMED_TIMEOUT_S_DEFAULT);
    let established_timeout =
        seconds("flows.established_timeout_s", flows.established_timeout_s, ESTABLISHED_TIMEOUT_S_DEFAULT);
    let closing_timeout =
        seconds("flows.closing_timeout_s", flows.closing_timeout_s, CLOSING_TIMEOUT_S_DEFAULT);
    let hold_timeout =
        seconds("requests.unfinished_timeout_s", requests.unfinished_timeout_s, HOLD_TIMEOUT_S_DEFAULT);
    let flow_count_max =
        findings.number("flows.capacity", flows.capacity, FLOW_CAPACITY_DEFAULT, FLOW_CAPACITY);
    let hold_count_max = findings.number(
        "requests.unfinished_count_max",
        requests.unfinished_count_max,
        HOLD_COUNT_DEFAULT,
        HOLD_COUNT,
    );
    let window_scale =
        findings.number("handshake.window_scale", handshake.window_scale, WINDOW_SCALE_DEFAULT, WINDOW_SCALE);
    Some(Settings {
        network: network?,
        mtu_bytes,
        flow_count_max,
        hold_count_max,
        hold_timeout,
        unconfirmed_timeout,
        established_timeout,
        closing_timeout,
        window_scale,
    })
}
