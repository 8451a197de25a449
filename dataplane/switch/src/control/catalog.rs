//! What the configuration offers: VIPs, backends, pools and rules, by name and by position.

use core::net::Ipv4Addr;
use std::sync::Arc;

use baton_core::http::ErrorPages;
use baton_core::policy::{BackendIndex, Class, Overload, Pool, PoolIndex, Rules, VipIndex};
use baton_core::switch::{Backend, Service, Snapshot};
use handoff_proto::{KeyRing, Vip};

/// A VIP with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedVip {
    /// For rules and operators.
    pub name: String,
    /// Address and port.
    pub vip: Vip,
}

/// A backend with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBackend {
    /// What its agent calls itself.
    pub name: String,
    /// Its address on the data network.
    pub address: Ipv4Addr,
}

/// A pool with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPool {
    /// For rules and operators.
    pub name: String,
    /// Its backends.
    pub pool: Pool,
}

/// VIPs, backends, pools and rules as configured; positions are the core's indices.
///
/// INVARIANT: every index in `pools` and `rules` lies within these lists; the configuration's check made sure.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// The VIPs.
    pub vips: Vec<NamedVip>,
    /// The backends.
    pub backends: Vec<NamedBackend>,
    /// The pools.
    pub pools: Vec<NamedPool>,
    /// Which request goes to which pool.
    pub rules: Rules,
    /// What clients are told whose request cannot be served.
    pub error_pages: Arc<ErrorPages>,
    /// Keys of cookies, tags and control channels.
    pub keys: KeyRing,
}

impl Catalog {
    /// Makes what the lcores work with, given which backends may get new connections.
    pub fn snapshot(&self, usable: impl Fn(BackendIndex) -> bool) -> Snapshot {
        Snapshot {
            vips: self.vips.iter().map(|named| Service::http(named.vip)).collect(),
            backends: (0..)
                .map(BackendIndex)
                .zip(&self.backends)
                .map(|(index, named)| Backend { usable: usable(index), ..Backend::at(named.address.into()) })
                .collect(),
            pools: self.pools.iter().map(|named| named.pool.clone()).collect(),
            rules: self.rules.clone(),
            classes: vec![Class::default()],
            overload: Overload::default(),
            answers: Vec::new(),
            error_pages: Arc::clone(&self.error_pages),
            keys: self.keys.clone(),
        }
    }

    /// Finds a backend by name.
    pub fn backend_named(&self, name: &str) -> Option<(BackendIndex, &NamedBackend)> {
        (0..).map(BackendIndex).zip(&self.backends).find(|(_, backend)| backend.name == name)
    }

    /// Returns the name of a backend.
    pub fn backend_name(&self, index: BackendIndex) -> Option<&str> {
        self.backends.get(usize::from(index.0)).map(|backend| backend.name.as_str())
    }

    /// Returns the VIPs whose requests some rule may send to this backend, in their configured order.
    pub fn vips_of(&self, backend: BackendIndex) -> Vec<&NamedVip> {
        let pools: Vec<PoolIndex> = (0..)
            .map(PoolIndex)
            .zip(&self.pools)
            .filter(|(_, named)| named.pool.contains(backend))
            .map(|(index, _)| index)
            .collect();
        let leads_here = |vip: VipIndex| {
            self.rules.iter().any(|rule| {
                rule.conditions.vip.is_none_or(|named| named == vip)
                    && rule.pool().is_some_and(|pool| pools.contains(&pool))
            })
        };
        (0..)
            .map(VipIndex)
            .zip(&self.vips)
            .filter(|(index, _)| leads_here(*index))
            .map(|(_, named)| named)
            .collect()
    }

    /// Returns the names of the pools this backend is in.
    pub fn pools_of(&self, backend: BackendIndex) -> impl Iterator<Item = &str> {
        self.pools.iter().filter(move |named| named.pool.contains(backend)).map(|named| named.name.as_str())
    }
}
