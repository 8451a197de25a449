//! Taking a new snapshot without stopping for it: what takes time is made and freed elsewhere.

use std::sync::Arc;

use crate::policy::Pool;
use crate::policy::balance::Policy;
use crate::switch::Snapshot;

/// What of one lcore's memory begins anew with a snapshot. Making it may take milliseconds for a pool, for the tables of its
/// policy: that is for control, before it tells the lcore.
#[derive(Debug, Default)]
pub struct Renewal {
    /// By pool: the state of its policy, where the pool is another than before.
    policies: Vec<Option<Box<dyn Policy>>>,
    /// Whether the rules are others.
    rules_differ: bool,
}

/// A snapshot on its way to one lcore.
#[derive(Debug)]
pub struct Update {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) renewal: Renewal,
}

/// What an lcore needs no more: to be dropped where there is time.
#[derive(Debug)]
#[must_use = "it takes time to drop it: that is not for an lcore"]
pub struct Retired {
    #[expect(dead_code, reason = "kept until it is dropped")]
    pub(super) snapshot: Arc<Snapshot>,
    #[expect(dead_code, reason = "kept until it is dropped")]
    pub(super) policies: Vec<Box<dyn Policy>>,
}

impl Renewal {
    /// Makes what an lcore lacks that goes by `before` and shall go by `after`.
    pub fn between(before: &Snapshot, after: &Snapshot) -> Self {
        let of_pool = |(position, pool): (usize, &Pool)| {
            (before.pools.get(position) != Some(pool)).then(|| pool.policy.build(&pool.members))
        };
        Self {
            policies: after.pools.iter().enumerate().map(of_pool).collect(),
            rules_differ: before.rules != after.rules,
        }
    }

    /// Says whether everything goes on as it is.
    pub fn is_empty(&self) -> bool {
        !self.rules_differ && self.policies.iter().all(Option::is_none)
    }

    /// Says whether what is remembered of the rules begins anew.
    pub(super) const fn rules_differ(&self) -> bool {
        self.rules_differ
    }

    /// Takes out the new state of a pool's policy.
    pub(super) fn take_policy(&mut self, position: usize) -> Option<Box<dyn Policy>> {
        self.policies.get_mut(position).and_then(Option::take)
    }
}

impl Update {
    /// Sends a snapshot, with what is new in it for the lcore: nothing, if only backends came or went.
    pub const fn new(snapshot: Arc<Snapshot>, renewal: Renewal) -> Self {
        Self { snapshot, renewal }
    }

    /// Returns the snapshot.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Returns what begins anew with it.
    pub const fn renewal(&self) -> &Renewal {
        &self.renewal
    }

    /// Takes the place of an update that was sent before and not taken: what that one renewed this one does, too.
    #[must_use]
    pub fn in_place_of(mut self, untaken: Self) -> Self {
        let Renewal { policies, rules_differ } = untaken.renewal;
        self.renewal.rules_differ |= rules_differ;
        let count = self.snapshot.pools.len();
        self.renewal.policies.resize_with(count, || None);
        for (place, earlier) in self.renewal.policies.iter_mut().zip(policies) {
            if place.is_none() {
                *place = earlier;
            }
        }
        self
    }
}
