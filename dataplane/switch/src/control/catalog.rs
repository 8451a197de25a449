//! What the configuration offers: VIPs, backends, pools, classes and rules, by name and by position.
//!
//! A backend and a pool keep their position for as long as the switch runs, since flows, policies and reports know them by it.
//! What is taken out of the configuration leaves its place behind, and what comes back under its name (a backend: at its
//! address) gets it again.

use core::net::Ipv4Addr;
use std::collections::HashMap;
use std::sync::Arc;

use baton_core::http::ErrorPages;
use baton_core::metrics::BACKENDS_MAX;
use baton_core::policy::{BackendIndex, Class, Overload, Pool, PoolIndex, Rule, RuleAnswer, Rules, VipIndex};
use baton_core::switch::{Backend, Inspect, Service, Snapshot};
use handoff_proto::KeyRing;
use handoff_proto::control::VIPS_MAX;

/// How many places there are for backends, and as many for pools: twice what may be configured at a time.
pub const PLACES_MAX: usize = 8_192;
// Each backend's handoffs are counted, whatever its place.
const _: () = assert!(PLACES_MAX <= BACKENDS_MAX);

/// A VIP with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedVip {
    /// For rules and operators.
    pub name: String,
    /// Address and port, and what is looked at.
    pub service: Service,
}

/// A backend with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBackend {
    /// What its agent calls itself.
    pub name: String,
    /// Its address on the data network.
    pub address: Ipv4Addr,
    /// Its weight where a pool says no other, 1 to 1,000.
    pub weight: u16,
    /// Whether it gets no new connections because an operator says so.
    pub drain: bool,
    /// With more connections than this it counts as full.
    pub connections_max: Option<u32>,
    /// Whether it has been taken out of the configuration. Its place stays: its flows go on.
    pub is_removed: bool,
}

impl NamedBackend {
    /// A backend that may get any number of connections.
    pub fn new(name: &str, address: Ipv4Addr) -> Self {
        let name = name.to_owned();
        Self { name, address, weight: 1, drain: false, connections_max: None, is_removed: false }
    }

    /// Says whether it may get new connections, if its agent agrees.
    pub const fn is_wanted(&self) -> bool {
        !self.drain && !self.is_removed
    }
}

/// A pool with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPool {
    /// For rules and operators.
    pub name: String,
    /// Its backends; none if it has been taken out of the configuration.
    pub pool: Pool,
}

/// A service class with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedClass {
    /// For rules and operators; empty for the class of rules that name none, and for one that has been taken out of the
    /// configuration.
    pub name: String,
    /// How it is treated.
    pub class: Class,
}

/// VIPs, backends, pools, classes and rules as configured; positions are the core's indices.
///
/// INVARIANT: every index in `pools` and `rules` lies within these lists; the configuration's check made sure.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The VIPs.
    pub vips: Vec<NamedVip>,
    /// The backends, and those that were.
    pub backends: Vec<NamedBackend>,
    /// The pools, and those that were.
    pub pools: Vec<NamedPool>,
    /// Which request goes to which pool.
    pub rules: Rules,
    /// The service classes; the first is that of rules which name none.
    pub classes: Vec<NamedClass>,
    /// When there are too many requests.
    pub overload: Overload,
    /// What rules answer themselves.
    pub answers: Arc<[RuleAnswer]>,
    /// What clients are told whose request cannot be served.
    pub error_pages: Arc<ErrorPages>,
    /// Keys of cookies, tags and control channels.
    pub keys: KeyRing,
}

impl Catalog {
    /// Offers nothing yet.
    pub fn empty(keys: KeyRing) -> Self {
        Self {
            vips: Vec::new(),
            backends: Vec::new(),
            pools: Vec::new(),
            rules: Rules::default(),
            classes: vec![NamedClass { name: String::new(), class: Class::default() }],
            overload: Overload::default(),
            answers: Arc::default(),
            error_pages: Arc::default(),
            keys,
        }
    }

    /// Makes what the lcores work with, given of which backends the agents are content.
    pub fn snapshot(&self, usable: impl Fn(BackendIndex) -> bool) -> Snapshot {
        Snapshot {
            vips: self.vips.iter().map(|named| named.service).collect(),
            backends: (0..)
                .map(BackendIndex)
                .zip(&self.backends)
                .map(|(index, named)| Backend {
                    address: named.address.into(),
                    usable: named.is_wanted() && usable(index),
                    connections_max: named.connections_max,
                })
                .collect(),
            pools: self.pools.iter().map(|named| named.pool.clone()).collect(),
            rules: self.rules.clone(),
            classes: self.classes.iter().map(|named| named.class).collect(),
            overload: self.overload,
            answers: Arc::clone(&self.answers),
            error_pages: Arc::clone(&self.error_pages),
            keys: self.keys.clone(),
        }
    }

    /// Finds a backend of the configuration by name.
    pub fn backend_named(&self, name: &str) -> Option<(BackendIndex, &NamedBackend)> {
        self.configured_backends().find(|(_, backend)| backend.name == name)
    }

    /// Returns the backends that are configured, in the order of their places.
    pub fn configured_backends(&self) -> impl Iterator<Item = (BackendIndex, &NamedBackend)> {
        (0..).map(BackendIndex).zip(&self.backends).filter(|(_, backend)| !backend.is_removed)
    }

    /// Returns the name of a backend, also of one that was.
    pub fn backend_name(&self, index: BackendIndex) -> Option<&str> {
        self.backends.get(usize::from(index.0)).map(|backend| backend.name.as_str())
    }

    /// Returns, by backend, the VIPs whose requests some rule may send there, in their configured order.
    pub fn vips_by_backend(&self) -> Vec<Vec<&NamedVip>> {
        // One bit a VIP, of which there are at most 64.
        let mut leading_to = vec![0_u64; self.pools.len()];
        for rule in self.rules.iter() {
            let Some(bits) = rule.pool().and_then(|pool| leading_to.get_mut(usize::from(pool.0))) else {
                continue;
            };
            *bits |= vips_of_rule(rule, &self.vips);
        }
        let mut by_backend = vec![0_u64; self.backends.len()];
        for (named, bits) in self.pools.iter().zip(leading_to) {
            for member in &named.pool.members {
                if let Some(all) = by_backend.get_mut(usize::from(member.backend.0)) {
                    *all |= bits;
                }
            }
        }
        let vips_of = |bits: u64| {
            self.vips.iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, named)| named)
        };
        by_backend.into_iter().map(|bits| vips_of(bits).collect()).collect()
    }

    /// Returns, by backend, the names of the pools it is in.
    pub fn pools_by_backend(&self) -> Vec<Vec<&str>> {
        let mut by_backend = vec![Vec::new(); self.backends.len()];
        for named in &self.pools {
            for member in &named.pool.members {
                if let Some(names) = by_backend.get_mut(usize::from(member.backend.0)) {
                    names.push(named.name.as_str());
                }
            }
        }
        by_backend
    }
}

/// Returns of which VIPs a rule speaks, one bit each: of which there are at most 64.
pub fn vips_of_rule(rule: &Rule, vips: &[NamedVip]) -> u64 {
    let Rule { conditions, .. } = rule;
    let speaks_of = |(index, named): (VipIndex, &NamedVip)| {
        conditions.vip.is_none_or(|wanted| wanted == index)
            && (!conditions.need_http() || named.service.inspect == Inspect::Http)
            && (!conditions.need_tls() || named.service.inspect == Inspect::Tls)
    };
    let bits = (0..).map(VipIndex).zip(vips).take(VIPS_MAX).map(speaks_of);
    bits.zip(0..).fold(0, |bits, (does, bit)| bits | u64::from(does) << bit)
}

// One bit a VIP.
const _: () = assert!(VIPS_MAX <= 64);

/// Gives backends and pools their places: those of an earlier catalog keep theirs.
#[derive(Debug, Default)]
pub struct Places {
    backends: HashMap<(String, Ipv4Addr), BackendIndex>,
    pools: HashMap<String, PoolIndex>,
}

impl Places {
    /// Takes over the places of an earlier catalog.
    pub fn of(before: &Catalog) -> Self {
        let backends = (0..).map(BackendIndex).zip(&before.backends);
        let pools = (0..).map(PoolIndex).zip(&before.pools);
        Self {
            backends: backends.map(|(index, named)| ((named.name.clone(), named.address), index)).collect(),
            pools: pools.map(|(index, named)| (named.name.clone(), index)).collect(),
        }
    }

    /// Returns the place of a backend, a new one if it had none; `None` if all are taken.
    pub fn backend(&mut self, name: &str, address: Ipv4Addr) -> Option<BackendIndex> {
        let key = (name.to_owned(), address);
        let next = u16::try_from(self.backends.len()).ok().filter(|next| usize::from(*next) < PLACES_MAX);
        if let Some(known) = self.backends.get(&key) {
            return Some(*known);
        }
        Some(*self.backends.entry(key).or_insert(BackendIndex(next?)))
    }

    /// Returns the place of a pool, a new one if it had none; `None` if all are taken.
    pub fn pool(&mut self, name: &str) -> Option<PoolIndex> {
        let next = u16::try_from(self.pools.len()).ok().filter(|next| usize::from(*next) < PLACES_MAX);
        if let Some(known) = self.pools.get(name) {
            return Some(*known);
        }
        Some(*self.pools.entry(name.to_owned()).or_insert(PoolIndex(next?)))
    }
}
