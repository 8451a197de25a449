//! `[[vip]]`: what clients connect to.

use core::net::Ipv4Addr;

use baton_core::Network;
use baton_core::switch::{Inspect, Service};
use handoff_proto::Vip;

use super::faults::{Findings, quoted};
use super::names::text;
use super::raw::RawVip;
use crate::control::NamedVip;

/// Checks the VIPs against each other and the network. One whose address is faulty has none: `0.0.0.0`.
pub(super) fn vips(raw: &[RawVip], network: Option<Network>, findings: &mut Findings) -> Vec<NamedVip> {
    let mut vips: Vec<NamedVip> = Vec::new();
    for (position, entry) in raw.iter().enumerate() {
        let key = format!("vip[{position}].address");
        let port_key = format!("vip[{position}].port");
        let port = findings.required(&port_key, entry.port, "allowed are 1 to 65535");
        let port = findings.number(&port_key, port, 1, 1..=u16::MAX);
        let inspect = inspect(entry, &format!("vip[{position}].inspect"), findings);
        let address = findings.address(&key, entry.address.as_deref());
        let vip = Vip { address: address.unwrap_or(Ipv4Addr::UNSPECIFIED).into(), port };
        if let Some(address) = address {
            no_host_of(network, &key, address, findings);
            if let Some(earlier) = vips.iter().find(|earlier| earlier.service.vip == vip) {
                let allowed = format!("VIP \"{}\" has this address and port already", earlier.name);
                findings.fault(key, quoted(&address.to_string()), allowed);
            }
        }
        vips.push(NamedVip { name: text(&entry.name).to_owned(), service: Service { vip, inspect } });
    }
    vips
}

fn inspect(entry: &RawVip, key: &str, findings: &mut Findings) -> Inspect {
    match entry.inspect.as_deref() {
        None | Some("http") => Inspect::Http,
        Some("tls") => Inspect::Tls,
        Some("none") => Inspect::None,
        Some(other) => {
            findings.fault(key, quoted(other), "allowed are \"http\", \"tls\" and \"none\"");
            Inspect::Http
        }
    }
}

/// Names what is looked at as the configuration does.
pub(super) const fn inspect_name(inspect: Inspect) -> &'static str {
    match inspect {
        Inspect::Http => "http",
        Inspect::Tls => "tls",
        Inspect::None => "none",
    }
}

/// Refuses addresses of the data network that are taken or no host's.
pub(super) fn no_host_of(network: Option<Network>, key: &str, address: Ipv4Addr, findings: &mut Findings) {
    let Some(network) = network else { return };
    let why = if address == network.address {
        "this is the switch's own address (switch.address)"
    } else if Some(address) == network.gateway {
        "this is the gateway's address (switch.gateway)"
    } else if !network.is_host(address) {
        "this is the data network's own or its broadcast address"
    } else {
        return;
    };
    findings.fault(key, quoted(&address.to_string()), why);
}
