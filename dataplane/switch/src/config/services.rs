//! The sections that stand any number of times: `[[vip]]`, `[[backend]]`, `[[pool]]`, `[[rule]]`.

use core::net::Ipv4Addr;
use std::sync::Arc;

use baton_core::Network;
use baton_core::http::ErrorPages;
use baton_core::policy::rules::PathError;
use baton_core::policy::{
    BackendIndex, Conditions, HostMatch, PathMatch, Pool, PoolIndex, Rule, Rules, VipIndex,
};
use handoff_proto::control::VIPS_MAX;
use handoff_proto::{KeyRing, Vip};

use super::faults::{Findings, quoted};
use super::raw::{RawConfig, RawPool, RawRule};
use crate::control::{Catalog, NamedBackend, NamedPool, NamedVip};

/// How many `[[backend]]`, `[[pool]]` and `[[rule]]` there may be. Every new connection may walk all rules.
const ENTRIES_MAX: usize = 4096;
/// Longest name of a VIP, a backend or a pool, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// What is said of a pool without members.
const ONE_BACKEND: &str = "at least one backend is needed";

/// Checks VIPs, backends, pools and rules against each other and the network.
pub(super) fn catalog(
    raw: &RawConfig,
    network: Option<Network>,
    keys: Option<KeyRing>,
    error_pages: ErrorPages,
    findings: &mut Findings,
) -> Option<Catalog> {
    count("vip", raw.vip.len(), VIPS_MAX, findings);
    count("backend", raw.backend.len(), ENTRIES_MAX, findings);
    count("pool", raw.pool.len(), ENTRIES_MAX, findings);
    count("rule", raw.rule.len(), ENTRIES_MAX, findings);
    names("vip", raw.vip.iter().map(|vip| vip.name.as_deref()), findings);
    names("backend", raw.backend.iter().map(|backend| backend.name.as_deref()), findings);
    names("pool", raw.pool.iter().map(|pool| pool.name.as_deref()), findings);

    let vips = vips(raw, network, findings);
    let backends = backends(raw, network, findings);
    let pools = pools(raw, findings);
    let rules = rules(raw, findings);
    if !findings.faults.is_empty() {
        return None;
    }
    let catalog = Catalog { vips, backends, pools, rules, error_pages: Arc::new(error_pages), keys: keys? };
    unused(raw, &catalog, findings);
    Some(catalog)
}

/// Returns what is written; nothing where a required text is missing, which is a fault already.
fn text(found: &Option<String>) -> &str {
    found.as_deref().unwrap_or_default()
}

fn count(section: &str, found: usize, max: usize, findings: &mut Findings) {
    match found {
        0 => findings.fault(format!("[[{section}]]"), "", "at least one is needed"),
        found if found > max => findings.fault(
            format!("[[{section}]]"),
            "",
            format!("{found} of them; at most {max} are allowed"),
        ),
        _ => {}
    }
}

fn names<'a>(section: &str, found: impl Iterator<Item = Option<&'a str>>, findings: &mut Findings) {
    let allowed = format!("1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.' are allowed");
    let mut seen: Vec<Option<&str>> = Vec::new();
    for (position, name) in found.enumerate() {
        seen.push(name);
        let key = format!("{section}[{position}].name");
        let Some(name) = findings.required(&key, name, &allowed) else { continue };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let first = seen.iter().position(|earlier| *earlier == Some(name));
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            findings.fault(key, quoted(name), &allowed);
        } else if let Some(first) = first.filter(|first| *first != position) {
            findings.fault(
                key,
                quoted(name),
                format!("{section}[{first}] has this name already; names must differ"),
            );
        }
    }
}

fn vips(raw: &RawConfig, network: Option<Network>, findings: &mut Findings) -> Vec<NamedVip> {
    let mut vips: Vec<NamedVip> = Vec::new();
    for (position, entry) in raw.vip.iter().enumerate() {
        let key = format!("vip[{position}].address");
        let port_key = format!("vip[{position}].port");
        let port = findings.required(&port_key, entry.port, "allowed are 1 to 65535");
        let port = findings.number(&port_key, port, 1, 1..=u16::MAX);
        let Some(address) = findings.address(&key, entry.address.as_deref()) else { continue };
        no_host_of(network, &key, address, findings);
        let vip = Vip { address: address.into(), port };
        if let Some(earlier) = vips.iter().find(|earlier| earlier.vip == vip) {
            findings.fault(
                key,
                quoted(&address.to_string()),
                format!("VIP \"{}\" has this address and port already", earlier.name),
            );
        }
        vips.push(NamedVip { name: text(&entry.name).to_owned(), vip });
    }
    vips
}

fn backends(raw: &RawConfig, network: Option<Network>, findings: &mut Findings) -> Vec<NamedBackend> {
    let mut backends: Vec<NamedBackend> = Vec::new();
    for (position, entry) in raw.backend.iter().enumerate() {
        let key = format!("backend[{position}].address");
        let Some(address) = findings.address(&key, entry.address.as_deref()) else { continue };
        no_host_of(network, &key, address, findings);
        if let Some(earlier) = backends.iter().find(|earlier| earlier.address == address) {
            findings.fault(
                &key,
                quoted(&address.to_string()),
                format!("backend \"{}\" has this address already", earlier.name),
            );
        }
        if let Some(vip) = raw.vip.iter().find(|vip| text(&vip.address).parse() == Ok(address)) {
            let allowed = format!(
                "this is the address of VIP \"{}\"; the backend's own address is needed",
                text(&vip.name)
            );
            findings.fault(&key, quoted(&address.to_string()), allowed);
        }
        if network.is_some_and(|network| !network.contains(address) && network.gateway.is_none()) {
            let allowed = "not on the switch's own network (switch.address), and there is no switch.gateway to reach it through";
            findings.fault(&key, quoted(&address.to_string()), allowed);
        }
        backends.push(NamedBackend { name: text(&entry.name).to_owned(), address });
    }
    backends
}

/// Refuses addresses of the data network that are taken or no host's.
fn no_host_of(network: Option<Network>, key: &str, address: Ipv4Addr, findings: &mut Findings) {
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

fn pools(raw: &RawConfig, findings: &mut Findings) -> Vec<NamedPool> {
    (0..).zip(&raw.pool).map(|(position, entry)| pool(position, entry, raw, findings)).collect()
}

fn pool(position: usize, entry: &RawPool, raw: &RawConfig, findings: &mut Findings) -> NamedPool {
    if let Some(policy) = entry.policy.as_deref().filter(|policy| *policy != "round-robin") {
        findings.fault(format!("pool[{position}].policy"), quoted(policy), "allowed is \"round-robin\"");
    }
    let backends_key = format!("pool[{position}].backends");
    let backends = findings.required(&backends_key, entry.backends.as_deref(), ONE_BACKEND);
    if backends.is_some_and(<[String]>::is_empty) {
        findings.fault(backends_key, "[]", ONE_BACKEND);
    }
    let mut members = Vec::new();
    for (place, name) in backends.unwrap_or_default().iter().enumerate() {
        let key = format!("pool[{position}].backends[{place}]");
        let known = raw.backend.iter().map(|backend| text(&backend.name));
        match named("backend", name, known, &key, findings).map(BackendIndex) {
            Some(index) if members.contains(&index) => {
                findings.fault(key, quoted(name), "this backend is in the pool already");
            }
            Some(index) => members.push(index),
            None => {}
        }
    }
    NamedPool { name: text(&entry.name).to_owned(), pool: Pool::of(members) }
}

/// Finds the position of a name, or reports which there are.
fn named<'a>(
    section: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
    key: &str,
    findings: &mut Findings,
) -> Option<u16> {
    let known: Vec<&str> = known.collect();
    if let Some(position) = known.iter().position(|candidate| *candidate == name) {
        return u16::try_from(position).ok(); // more are a fault of their own
    }
    let mut listed: Vec<String> = Vec::new();
    for name in known.iter().filter(|name| !name.is_empty()).map(|name| quoted(name)) {
        if !listed.contains(&name) {
            listed.push(name);
        }
    }
    let there_are = if listed.is_empty() {
        "there is none at all".to_owned()
    } else {
        format!("there are {}", listed.join(", "))
    };
    findings.fault(key, quoted(name), format!("no [[{section}]] has this name; {there_are}"));
    None
}

fn rules(raw: &RawConfig, findings: &mut Findings) -> Rules {
    let rules: Vec<Option<Rule>> =
        (0..).zip(&raw.rule).map(|(position, entry)| rule(position, entry, raw, findings)).collect();
    for (position, later) in rules.iter().enumerate() {
        let Some(later) = later else { continue };
        let before = rules[..position].iter();
        if let Some(earlier) = before
            .clone()
            .position(|rule| rule.as_ref().is_some_and(|rule| rule.conditions.covers(&later.conditions)))
        {
            let advice =
                format!("never reached: rule[{earlier}] stands before it and takes all its requests");
            findings.warn(format!("rule[{position}]"), "", advice);
        }
    }
    Rules::new(rules.into_iter().flatten().collect())
}

fn rule(position: usize, entry: &RawRule, raw: &RawConfig, findings: &mut Findings) -> Option<Rule> {
    let key = |name: &str| format!("rule[{position}].{name}");
    let vips = raw.vip.iter().map(|vip| text(&vip.name));
    let vip = entry.vip.as_ref().map(|name| named("vip", name, vips, &key("vip"), findings).map(VipIndex));
    let host = entry.host.as_ref().map(|name| host(name, &key("host"), findings));
    let path = path(entry, position, findings);
    let pools = raw.pool.iter().map(|pool| text(&pool.name));
    let pool = findings
        .required(&key("pool"), entry.pool.as_deref(), "the name of a [[pool]] is needed")
        .and_then(|name| named("pool", name, pools, &key("pool"), findings))
        .map(PoolIndex);
    // The outer `Option`s say whether there is a condition, the inner whether it is right.
    let conditions =
        Conditions { vip: lift(vip)?, host: lift(host)?, path: lift(path)?, ..Conditions::default() };
    Some(Rule::to_pool(conditions, pool?))
}

/// Turns an optional thing that may be faulty into a thing that may be faulty or is optional.
fn lift<T>(condition: Option<Option<T>>) -> Option<Option<T>> {
    match condition {
        None => Some(None),
        Some(None) => None,
        Some(right) => Some(right),
    }
}

fn host(name: &str, key: &str, findings: &mut Findings) -> Option<HostMatch> {
    HostMatch::new(name).map_err(|error| findings.fault(key, quoted(name), error.to_string())).ok()
}

/// A path condition: its key, what stands there, what it becomes.
type PathKey<'a> = (&'static str, &'a Option<String>, fn(&str) -> Result<PathMatch, PathError>);

/// Checks the path conditions, of which there may be one.
fn path(entry: &RawRule, position: usize, findings: &mut Findings) -> Option<Option<PathMatch>> {
    let kinds: [PathKey<'_>; 3] = [
        ("path_exact", &entry.path_exact, PathMatch::exact),
        ("path_prefix", &entry.path_prefix, PathMatch::prefix),
        ("path_suffix", &entry.path_suffix, PathMatch::suffix),
    ];
    let mut given = kinds.iter().filter_map(|(name, text, make)| Some((*name, text.as_ref()?, make)));
    let (name, text, make) = given.next()?;
    let key = format!("rule[{position}].{name}");
    if let Some((second, other, _)) = given.next() {
        let allowed =
            format!("a rule has one path condition, and this one has {name} already; write two rules");
        findings.fault(format!("rule[{position}].{second}"), quoted(other), allowed);
        return Some(None);
    }
    let path = make(text).map_err(|error| findings.fault(key, quoted(text), error.to_string()));
    Some(path.ok())
}

/// Warns of what no request can reach.
fn unused(raw: &RawConfig, catalog: &Catalog, findings: &mut Findings) {
    for (index, vip) in (0..).map(VipIndex).zip(&catalog.vips) {
        if !catalog.rules.iter().any(|rule| rule.conditions.vip.is_none_or(|named| named == index)) {
            let advice = "no [[rule]] speaks of this VIP: all its requests will be refused";
            findings.warn(format!("vip[{}]", index.0), quoted(&vip.name), advice);
        }
    }
    for (index, pool) in (0..).map(PoolIndex).zip(&catalog.pools) {
        if !catalog.rules.iter().any(|rule| rule.pool() == Some(index)) {
            findings.warn(format!("pool[{}]", index.0), quoted(&pool.name), "no [[rule]] leads to this pool");
        }
    }
    for (position, backend) in raw.backend.iter().enumerate() {
        let name = text(&backend.name);
        let has_it = |pool: &RawPool| pool.backends.iter().flatten().any(|member| member == name);
        if !raw.pool.iter().any(has_it) {
            findings.warn(format!("backend[{position}]"), quoted(name), "no [[pool]] has this backend");
        }
    }
}
