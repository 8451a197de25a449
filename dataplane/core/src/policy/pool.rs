//! Pools: backends that can serve the same requests, and how one of them is chosen.

use crate::ids::BackendIndex;
use crate::policy::Affinity;
use crate::policy::balance::{self, PolicySettings};

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
    /// What consistent hashes know it by: [`Member::identity_of`] its name. A position would not do: it may be another on
    /// another switch, or after a restart.
    pub identity: u64,
}

impl Member {
    /// Makes a number of a backend's name, the same everywhere.
    pub fn identity_of(name: &str) -> u64 {
        balance::hash([name.as_bytes()])
    }
}

impl Pool {
    /// Makes a pool of backends that take turns.
    pub fn of(backends: impl IntoIterator<Item = BackendIndex>) -> Self {
        let member = |backend: BackendIndex| Member { backend, weight: 1, identity: backend.0.into() };
        let members = backends.into_iter().map(member).collect();
        Self { members, policy: PolicySettings::RoundRobin, affinity: None }
    }

    /// Says whether a backend is in it.
    pub fn contains(&self, backend: BackendIndex) -> bool {
        self.members.iter().any(|member| member.backend == backend)
    }
}
