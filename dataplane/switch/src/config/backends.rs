//! `[[backend]]`: the servers.

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::collections::HashMap;

use baton_core::Network;

use super::faults::{Findings, quoted};
use super::names::text;
use super::raw::{RawBackend, RawVip};
use super::vips::no_host_of;
use crate::control::NamedBackend;

/// How much of the work a backend may get beside the others.
pub(super) const WEIGHT: RangeInclusive<u16> = 1..=1_000;
const WEIGHT_DEFAULT: u16 = 1;
const CONNECTIONS_MAX: RangeInclusive<u32> = 1..=(1 << 24);

/// Checks the backends against each other, the VIPs and the network. One whose address is faulty has none: `0.0.0.0`.
pub(super) fn backends(
    raw: &[RawBackend],
    vips: &[RawVip],
    network: Option<Network>,
    findings: &mut Findings,
) -> Vec<NamedBackend> {
    let mut seen: HashMap<Ipv4Addr, &str> = HashMap::new();
    let mut backends = Vec::new();
    for (position, entry) in raw.iter().enumerate() {
        let key = |name: &str| format!("backend[{position}].{name}");
        let weight = findings.number(&key("weight"), entry.weight, WEIGHT_DEFAULT, WEIGHT);
        let connections_max = entry
            .connections_max
            .map(|found| findings.number(&key("connections_max"), Some(found), 1, CONNECTIONS_MAX));
        let address = findings.address(&key("address"), entry.address.as_deref());
        if let Some(address) = address {
            reachable(&key("address"), address, vips, network, findings);
            let name = seen.get(&address);
            if let Some(earlier) = name {
                let allowed = format!("backend \"{earlier}\" has this address already");
                findings.fault(key("address"), quoted(&address.to_string()), allowed);
            }
            seen.entry(address).or_insert(text(&entry.name));
        }
        backends.push(NamedBackend {
            weight,
            drain: entry.drain.unwrap_or(false),
            connections_max,
            ..NamedBackend::new(text(&entry.name), address.unwrap_or(Ipv4Addr::UNSPECIFIED))
        });
    }
    backends
}

/// Refuses addresses that are another's, or to which there is no way.
fn reachable(
    key: &str,
    address: Ipv4Addr,
    vips: &[RawVip],
    network: Option<Network>,
    findings: &mut Findings,
) {
    no_host_of(network, key, address, findings);
    if let Some(vip) = vips.iter().find(|vip| text(&vip.address).parse() == Ok(address)) {
        let allowed = format!(
            "this is the address of VIP \"{}\"; the backend's own address is needed",
            text(&vip.name)
        );
        findings.fault(key, quoted(&address.to_string()), allowed);
    }
    if network.is_some_and(|network| !network.contains(address) && network.gateway.is_none()) {
        let allowed = "not on the switch's own network (switch.address), and there is no switch.gateway to reach it through";
        findings.fault(key, quoted(&address.to_string()), allowed);
    }
}
