//! The control plane between agents and switch: who is usable, what time it is, what rules and keys are in force.
//!
//! It stands for the control channel and what `baton-switch` makes of it; the bounds are those of `docs/PROTOCOL.md`, "The
//! control channel". Messages take as long as the world says.

use std::sync::Arc;

use baton_core::Snapshot;
use baton_core::ids::{BackendIndex, PoolIndex};
use baton_core::policy::balance::PolicySettings;
use baton_core::policy::{Conditions, Load, PathMatch, Pool, Rule, Rules};
use baton_core::switch::{Backend, Service};
use handoff_proto::keys::Key;
use handoff_proto::{KeyId, KeyRing, Micros, Vip};

use crate::addresses;

/// How often an agent reports.
pub const REPORT_INTERVAL: Micros = Micros::from_millis(150);
/// Silence after which an agent counts as gone.
pub const SILENCE: Micros = Micros::from_millis(600);

/// What an agent tells the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose agent.
    pub backend: usize,
    /// The agent has declared the backend ready.
    pub is_ready: bool,
    /// Something listens at the VIP.
    pub is_healthy: bool,
    /// Connections it has.
    pub connections: u32,
}

/// What the switch knows of a backend.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    heard: Option<Micros>,
    is_well: bool,
    load: Option<Load>,
}

/// The switch's side of the control plane.
pub struct Control {
    known: [Known; addresses::BACKEND_COUNT],
    rules: usize,
    policy: PolicySettings,
    keys: KeyRing,
    published: Vec<bool>,
    has_lost_a_backend: bool,
}

impl Control {
    /// Starts without having heard of anybody.
    #[must_use]
    pub fn new(rules: usize, policy: PolicySettings, keys: KeyRing) -> Self {
        Self {
            known: Default::default(),
            rules,
            policy,
            keys,
            published: vec![false; addresses::BACKEND_COUNT],
            has_lost_a_backend: false,
        }
    }

    /// Takes a report. `clock` is what the switch's own clock shows.
    pub fn hear(&mut self, report: Report, now: Micros, clock: Micros) {
        if let Some(known) = self.known.get_mut(report.backend) {
            let load = Load {
                reported: clock,
                connections: report.connections,
                bytes_per_s: u64::from(report.connections) * 1_000,
                packets_per_s: report.connections.into(),
                response: Some(Micros::from_millis(report.connections.into())),
                ..Load::default()
            };
            let is_well = report.is_ready && report.is_healthy;
            *known = Known { heard: Some(now), is_well, load: Some(load) };
        }
    }

    /// What the backends last reported of their load: in this world, all of it grows with their connections.
    #[must_use]
    pub fn loads(&self) -> Arc<[Option<Load>]> {
        self.known.iter().map(|known| known.load).collect()
    }

    /// Puts other rules in force.
    pub fn set_rules(&mut self, rules: usize) {
        self.rules = rules;
    }

    /// Which rules are in force.
    #[must_use]
    pub const fn rules(&self) -> usize {
        self.rules
    }

    /// Puts other keys in force.
    pub fn set_keys(&mut self, keys: KeyRing) {
        self.keys = keys;
    }

    /// Says whether a backend was usable before the latest snapshot, and is not in it.
    #[must_use]
    pub const fn has_lost_a_backend(&self) -> bool {
        self.has_lost_a_backend
    }

    fn usable(&self, now: Micros) -> Vec<bool> {
        let is_usable =
            |known: &Known| known.is_well && known.heard.is_some_and(|heard| now.since(heard) <= SILENCE);
        self.known.iter().map(is_usable).collect()
    }

    /// What is in force, if what is usable has changed since it was last asked.
    pub fn changed(&mut self, now: Micros) -> Option<Arc<Snapshot>> {
        let usable = self.usable(now);
        (usable != self.published).then(|| self.snapshot(now))
    }

    /// What is in force.
    pub fn snapshot(&mut self, now: Micros) -> Arc<Snapshot> {
        let usable = self.usable(now);
        self.has_lost_a_backend =
            self.published.iter().zip(&usable).any(|(before, after)| *before && !*after);
        self.published = usable;
        let (pools, rules) = rule_set(self.rules, &self.policy);
        let backends = (0..addresses::BACKEND_COUNT).zip(&self.published);
        Arc::new(Snapshot {
            vips: vec![Service::http(Vip { address: addresses::VIP.0.into(), port: addresses::VIP.1 })],
            backends: backends
                .map(|(number, usable)| Backend {
                    usable: *usable,
                    ..Backend::at(addresses::backend(number).into())
                })
                .collect(),
            pools,
            rules,
            ..Snapshot::bare(self.keys.clone())
        })
    }
}

/// Rule sets a world may have in force, by number, all pools under one policy. In all of them, every path of a script has a pool.
#[must_use]
pub fn rule_set(number: usize, policy: &PolicySettings) -> (Vec<Pool>, Rules) {
    let pool = |members: &[u16]| Pool {
        policy: policy.clone(),
        ..Pool::of(members.iter().copied().map(BackendIndex))
    };
    let rule = |class: &str, pool| {
        let path = Some(PathMatch::Prefix(format!("/{class}/")));
        Rule::to_pool(Conditions { path, ..Conditions::default() }, PoolIndex(pool))
    };
    let pools = match number {
        0 => vec![pool(&[0, 1, 2]), pool(&[0]), pool(&[2])],
        1 => vec![pool(&[2, 1]), pool(&[1]), pool(&[0])],
        _ => vec![pool(&[1, 0, 2]), pool(&[2]), pool(&[1])],
    };
    (pools, Rules::new(vec![rule("files", 0), rule("video", 1), rule("routed", 2)]))
}

/// Backends to which `rules` may send a request for `path`.
#[must_use]
pub fn backends_for(rules: usize, path: &str) -> Vec<usize> {
    // From the text of the rule set, not by the matcher under test.
    let (pools, _) = rule_set(rules, &PolicySettings::default());
    let class = path.split('/').nth(1).unwrap_or_default();
    let Some(pool) = ["files", "video", "routed"].iter().position(|known| *known == class) else {
        return Vec::new();
    };
    pools[pool].members.iter().map(|member| usize::from(member.backend.0)).collect()
}

/// The ring of keys at a stage of their rotation: the numbers in it, the first of which tags.
#[must_use]
pub fn key_ring(numbers: &[u8]) -> KeyRing {
    let keys = numbers.iter().map(|number| Key::new(KeyId(*number), [number.wrapping_mul(37); 32])).collect();
    match KeyRing::new(keys) {
        Ok(ring) => ring,
        Err(error) => unreachable!("rings of a world are sound: {error}"),
    }
}
