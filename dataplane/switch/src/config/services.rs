//! The sections that stand any number of times, put together: VIPs, backends, pools, classes, rules.

use core::net::Ipv4Addr;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use baton_core::Network;
use baton_core::http::ErrorPages;
use baton_core::policy::balance::{HashOn, PolicySettings};
use baton_core::policy::{Affinity, BackendIndex, CLASSES_MAX, Pool, PoolIndex, Rule, Rules};
use baton_core::switch::Inspect;
use handoff_proto::KeyRing;
use handoff_proto::control::VIPS_MAX;

use super::backends::backends;
use super::classes::{classes, overload};
use super::faults::{Findings, quoted};
use super::names::{Names, at_least_one, count, text};
use super::pools::pools;
use super::raw::{RawConfig, RawMember, RawPool, TextOr};
use super::rules::{Terms, rules};
use super::vips::{inspect_name, vips};
use crate::control::{Catalog, NamedBackend, NamedPool, NamedVip, PLACES_MAX, Places, vips_of_rule};

/// How many `[[backend]]`, and how many `[[pool]]`, there may be.
const ENTRIES_MAX: usize = 4_096;
/// How many `[[rule]]` there may be: their positions are 16-bit numbers.
const RULES_MAX: usize = 65_535;

/// Checks all these sections against each other and the network. What `before` has keeps its place.
pub(super) fn catalog(
    raw: &RawConfig,
    network: Option<Network>,
    keys: Option<KeyRing>,
    error_pages: Arc<ErrorPages>,
    before: Option<&Catalog>,
    findings: &mut Findings,
) -> Option<Catalog> {
    if !counts(raw, findings) {
        return None;
    }
    let vip_names = Names::check("vip", raw.vip.iter().map(|vip| vip.name.as_deref()), findings);
    let backend_names = raw.backend.iter().map(|backend| backend.name.as_deref());
    let backend_names = Names::check("backend", backend_names, findings);
    let pool_names = Names::check("pool", raw.pool.iter().map(|pool| pool.name.as_deref()), findings);
    let class_names = Names::check("class", raw.class.iter().map(|class| class.name.as_deref()), findings);

    let vips = vips(&raw.vip, network, findings);
    let backends = backends(&raw.backend, &raw.vip, network, findings);
    let mut places = before.map(Places::of).unwrap_or_default();
    let backend_places = backend_places(&backends, &mut places, findings);
    let pools = pools(&raw.pool, &backend_names, &backends, &backend_places, findings);
    let pool_places = pool_places(&raw.pool, &mut places, findings);
    let former_classes = before.map(|before| before.classes.as_slice()).unwrap_or_default();
    let (classes, class_places) = classes(&raw.class, former_classes, findings);
    let overload = overload(&raw.overload, findings);
    let terms = Terms {
        vips: &vips,
        vip_names: &vip_names,
        pool_names: &pool_names,
        pools: &pool_places,
        class_names: &class_names,
        classes: &class_places,
    };
    let (rules, answers) = rules(&raw.rule, &terms, findings);
    // Rules that stay as they are stay the same ones: nobody compares them again.
    let rules = before.map(|before| &before.rules).filter(|known| **known == rules).cloned().unwrap_or(rules);
    content_is_seen(&rules, &pools, &pool_places, &vips, findings);
    if !findings.faults.is_empty() {
        return None;
    }
    unused(raw, &rules, &pool_places, &vips, findings);
    let former = before.map(|before| (before.backends.as_slice(), before.pools.as_slice()));
    let (former_backends, former_pools) = former.unwrap_or_default();
    Some(Catalog {
        vips,
        backends: placed_backends(former_backends, backends, &backend_places),
        pools: placed_pools(former_pools, pools, &pool_places),
        rules,
        classes,
        overload,
        answers: answers.into(),
        error_pages,
        keys: keys?,
    })
}

/// Checks how many there are of each; says whether there are so few that all may be looked at.
fn counts(raw: &RawConfig, findings: &mut Findings) -> bool {
    let before = findings.faults.len();
    for (section, found, max) in [
        ("vip", raw.vip.len(), VIPS_MAX),
        ("backend", raw.backend.len(), ENTRIES_MAX),
        ("pool", raw.pool.len(), ENTRIES_MAX),
        // One is that of rules which name none.
        ("class", raw.class.len(), CLASSES_MAX - 1),
        ("rule", raw.rule.len(), RULES_MAX),
    ] {
        count(section, found, max, findings);
    }
    let is_few = findings.faults.len() == before;
    at_least_one("vip", raw.vip.len(), findings);
    // A switch that answers all by itself needs neither.
    let dispatches = raw.rule.is_empty() || raw.rule.iter().any(|rule| rule.pool.is_some());
    if dispatches {
        at_least_one("backend", raw.backend.len(), findings);
        at_least_one("pool", raw.pool.len(), findings);
    }
    at_least_one("rule", raw.rule.len(), findings);
    is_few
}

fn backend_places(
    backends: &[NamedBackend],
    places: &mut Places,
    findings: &mut Findings,
) -> Vec<BackendIndex> {
    let place = |(position, backend): (usize, &NamedBackend)| {
        let NamedBackend { name, address, .. } = backend;
        places.backend(name, *address).unwrap_or_else(|| {
            findings.fault(format!("backend[{position}].name"), quoted(name), no_place("backend"));
            BackendIndex::default()
        })
    };
    (0..).zip(backends).map(place).collect()
}

fn pool_places(raw: &[RawPool], places: &mut Places, findings: &mut Findings) -> Vec<PoolIndex> {
    let place = |(position, pool): (usize, &RawPool)| {
        let name = text(&pool.name);
        places.pool(name).unwrap_or_else(|| {
            findings.fault(format!("pool[{position}].name"), quoted(name), no_place("pool"));
            PoolIndex(0)
        })
    };
    (0..).zip(raw).map(place).collect()
}

fn no_place(what: &str) -> String {
    format!(
        "the switch has had {PLACES_MAX} {what}s since it started and remembers them all; restart it to add one it does not know"
    )
}

/// Puts backends at their places, and leaves those of former ones behind.
fn placed_backends(
    former: &[NamedBackend],
    now: Vec<NamedBackend>,
    places: &[BackendIndex],
) -> Vec<NamedBackend> {
    let mut all = former.to_vec();
    all.iter_mut().for_each(|backend| backend.is_removed = true);
    for (backend, place) in now.into_iter().zip(places) {
        let place = usize::from(place.0);
        if place >= all.len() {
            all.resize(
                place + 1,
                NamedBackend { is_removed: true, ..NamedBackend::new("", Ipv4Addr::UNSPECIFIED) },
            );
        }
        if let Some(slot) = all.get_mut(place) {
            *slot = backend;
        }
    }
    all
}

/// Puts pools at their places, and leaves those of former ones behind.
fn placed_pools(former: &[NamedPool], now: Vec<NamedPool>, places: &[PoolIndex]) -> Vec<NamedPool> {
    let gone = |named: &NamedPool| NamedPool { name: named.name.clone(), pool: Pool::default() };
    let mut all: Vec<NamedPool> = former.iter().map(gone).collect();
    for (named, place) in now.into_iter().zip(places) {
        let place = usize::from(place.0);
        if place >= all.len() {
            all.resize(place + 1, NamedPool { name: String::new(), pool: Pool::default() });
        }
        if let Some(slot) = all.get_mut(place) {
            *slot = named;
        }
    }
    all
}

/// Refuses pools that bind clients by what is not seen of them, and warns of policies that go by it.
fn content_is_seen(
    rules: &Rules,
    pools: &[NamedPool],
    places: &[PoolIndex],
    vips: &[NamedVip],
    findings: &mut Findings,
) {
    // By place: which VIPs lead there. One bit a VIP, of which there are at most 64.
    let mut leading = HashMap::<PoolIndex, u64>::new();
    for rule in rules.iter() {
        if let Some(pool) = rule.pool() {
            *leading.entry(pool).or_default() |= vips_of_rule(rule, vips);
        }
    }
    for (position, (named, place)) in pools.iter().zip(places).enumerate() {
        let bits = leading.get(place).copied().unwrap_or_default();
        let reached = vips.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, vip)| vip);
        let blind = |wanted: Inspect| reached.clone().find(|vip| vip.service.inspect != wanted);
        let why = |vip: &NamedVip, wanted: Inspect| {
            format!(
                "rules lead here from VIP \"{}\", which has inspect = \"{}\"; this needs inspect = \"{}\"",
                vip.name,
                inspect_name(vip.service.inspect),
                inspect_name(wanted)
            )
        };
        let by_affinity = match &named.pool.affinity {
            Some(Affinity::Cookie { .. } | Affinity::CookieRoute { .. }) => Some(Inspect::Http),
            Some(Affinity::TlsSession) => Some(Inspect::Tls),
            Some(Affinity::Client) | None => None,
        };
        if let Some((vip, wanted)) = by_affinity.and_then(|wanted| Some((blind(wanted)?, wanted))) {
            findings.fault(format!("pool[{position}].sticky"), "", why(vip, wanted));
        }
        if let Some((vip, wanted)) =
            goes_by(&named.pool.policy).and_then(|wanted| Some((blind(wanted)?, wanted)))
        {
            let advice =
                format!("{}; such requests are told apart by their client's address", why(vip, wanted));
            findings.warn(format!("pool[{position}].policy"), quoted(named.pool.policy.name()), advice);
        }
    }
}

/// Returns what must be looked at for a policy to know what it goes by.
fn goes_by(policy: &PolicySettings) -> Option<Inspect> {
    match policy.hash_on() {
        Some(HashOn::Path | HashOn::Url | HashOn::Host | HashOn::Cookie(_) | HashOn::Header(_)) => {
            Some(Inspect::Http)
        }
        Some(HashOn::ServerName) => Some(Inspect::Tls),
        Some(HashOn::Client) => None,
        None => matches!(policy, PolicySettings::Racc(_)).then_some(Inspect::Http),
    }
}

/// Warns of what no request can reach.
fn unused(raw: &RawConfig, rules: &Rules, pools: &[PoolIndex], vips: &[NamedVip], findings: &mut Findings) {
    let spoken_of = rules.iter().fold(0, |bits, rule| bits | vips_of_rule(rule, vips));
    for (position, vip) in vips.iter().enumerate() {
        if spoken_of >> position & 1 == 0 {
            let advice = "no [[rule]] speaks of this VIP: all its requests will be refused";
            findings.warn(format!("vip[{position}]"), quoted(&vip.name), advice);
        }
    }
    let led_to: HashSet<PoolIndex> = rules.iter().filter_map(Rule::pool).collect();
    for (position, (pool, place)) in raw.pool.iter().zip(pools).enumerate() {
        if !led_to.contains(place) {
            findings.warn(
                format!("pool[{position}]"),
                quoted(text(&pool.name)),
                "no [[rule]] leads to this pool",
            );
        }
    }
    let classes: HashSet<&str> = raw.rule.iter().filter_map(|rule| rule.class.as_deref()).collect();
    for (position, class) in raw.class.iter().enumerate() {
        if !classes.contains(text(&class.name)) {
            findings.warn(
                format!("class[{position}]"),
                quoted(text(&class.name)),
                "no [[rule]] has this class",
            );
        }
    }
    let members = raw.pool.iter().flat_map(|pool| pool.backends.iter().flatten());
    let members: HashSet<&str> = members.filter_map(member_name).collect();
    for (position, backend) in raw.backend.iter().enumerate() {
        let name = text(&backend.name);
        if !members.contains(name) {
            findings.warn(format!("backend[{position}]"), quoted(name), "no [[pool]] has this backend");
        }
    }
}

/// Returns the name of a member of a pool, however it is written.
pub(crate) fn member_name(member: &TextOr<RawMember>) -> Option<&str> {
    match member {
        TextOr::Text(name) => Some(name),
        TextOr::Table(RawMember { name, .. }) => name.as_deref(),
    }
}
