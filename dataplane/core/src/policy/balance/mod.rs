//! Policies: which member of a pool gets a request. One file each, behind [`Policy`].
//!
//! Each lcore has its own state of each pool's policy. A policy sees the members, which of them are usable, what the lcore
//! itself has given them and what their agents report; it never sees bytes, addresses or a clock.

mod hash_on;
mod round_robin;
mod settings;

pub(super) use hash_on::hash;
pub use hash_on::{HashOn, NAME_BYTES_MAX, client_key};
pub use settings::*;

use core::fmt::Debug;

use handoff_proto::Micros;

use crate::ids::{BackendIndex, ClassIndex};
use crate::policy::{Load, Member};

/// What a policy is asked: a request, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask<'a> {
    /// A hash of what the policy goes by; of the client's address where it goes by nothing of the request.
    pub key: u64,
    /// The service class of the request.
    pub class: ClassIndex,
    /// How much one session of that class counts.
    pub session_weight: u16,
    /// The path asked for; `None` without one, and when a choice is made again after a refusal.
    pub path: Option<&'a str>,
    /// Randomness for this decision.
    pub entropy: u64,
}

/// What a policy sees of its pool.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The time.
    pub now: Micros,
    /// How many lcores share the work, each of which sees only what it gives itself.
    pub lcores: u16,
    /// The members, in the configured order.
    pub members: &'a [Member],
    /// Says whether a backend may be chosen. A backend for which this is false must never be.
    pub usable: &'a dyn Fn(BackendIndex) -> bool,
    /// What this lcore has given each backend, by [`BackendIndex`].
    pub tallies: &'a [Tally],
    /// What each backend's agent reports, by [`BackendIndex`]; old reports are not passed off as new: ask
    /// [`View::load`].
    pub loads: &'a [Option<Load>],
}

/// What one lcore has given a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that are open, as far as this lcore knows.
    pub connections: u32,
    /// Their session weights, summed.
    pub session_weight: u64,
    /// Connections given since the backend's newest report came.
    pub dispatched: u32,
}

impl View<'_> {
    /// Says whether the member at this position may be chosen.
    pub fn is_usable(&self, member: usize) -> bool {
        self.members.get(member).is_some_and(|member| (self.usable)(member.backend))
    }

    /// Returns the backend's newest report, if it is fresh.
    pub fn load(&self, backend: BackendIndex) -> Option<&Load> {
        let load = self.loads.get(usize::from(backend.0))?.as_ref()?;
        load.is_fresh(self.now).then_some(load)
    }

    /// Returns what this lcore has given a backend.
    pub fn tally(&self, backend: BackendIndex) -> Tally {
        self.tallies.get(usize::from(backend.0)).copied().unwrap_or_default()
    }
}

/// Why a member was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was its turn.
    Turn,
}

impl Reason {
    /// Says it to an operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Turn => "it was its turn",
        }
    }
}

/// A member that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its position among the members.
    pub member: usize,
    /// Why it.
    pub reason: Reason,
}

/// Chooses members of one pool, on one lcore.
pub trait Policy: Debug + Send {
    /// Chooses a usable member; `None` if there is none. Changes nothing: the same question has the same answer until
    /// [`Policy::commit`].
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice>;

    /// Notes that a choice became a handoff. `choice` is what [`Policy::choose`] returned for the same `ask` and `view`.
    fn commit(&mut self, ask: &Ask<'_>, choice: &Choice, view: &View<'_>);
}
