//! Pools: backends that can serve the same requests, and how one of them is chosen.

use crate::ids::BackendIndex;
use crate::policy::Affinity;
use crate::policy::balance::PolicySettings;

/// Backends that can serve the same requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// Its backends, in the configured order.
    pub members: Vec<Member>,
    /// How one of them is chosen.
    pub policy: PolicySettings,
    /// What binds several connections to the same backend.
    pub affinity: Option<Affinity>,
}

/// A backend in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The backend.
    pub backend: BackendIndex,
    /// Its share of the work beside the others', 1 to 1,000.
    pub weight: u16,
}

impl Pool {
    /// Makes a pool of backends that take turns.
    pub fn of(backends: impl IntoIterator<Item = BackendIndex>) -> Self {
        let members = backends.into_iter().map(|backend| Member { backend, weight: 1 }).collect();
        Self { members, policy: PolicySettings::RoundRobin, affinity: None }
    }

    /// Says whether a backend is in it.
    pub fn contains(&self, backend: BackendIndex) -> bool {
        self.members.iter().any(|member| member.backend == backend)
    }
}
