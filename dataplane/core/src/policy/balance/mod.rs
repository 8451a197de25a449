//! Policies: which member of a pool gets a request. One file each, behind [`Policy`].
//!
//! Each lcore has its own state of each pool's policy. A policy sees the members, which of them are usable, what the lcore
//! itself has given them and what their agents report; it never sees bytes, addresses or a clock.

mod cap;
mod content_and_load;
mod fastest_response;
mod hash_on;
mod lard;
mod lard_replicated;
mod least;
mod least_connections;
mod least_traffic;
mod maglev;
mod racc;
mod round_robin;
mod settings;
mod table;
mod targets;
mod turns;
mod two_choices;
mod url_hash;
mod weighted_least_load;
mod weighted_round_robin;

pub(super) use hash_on::hash;
pub use hash_on::{HashOn, NAME_BYTES_MAX, client_key, value_key};
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
    /// Connections given since the backend's newest report came, whether they are open yet or still or not.
    pub dispatched: u32,
    /// How many were open when that report came.
    pub connections_at_report: u32,
}

impl Tally {
    /// Returns how many connections a backend has whose newest report says `reported`: what has come and gone at this lcore since
    /// is taken to have come and gone at each of `lcores`. Never fewer than this lcore has open there: a report does not know
    /// what was on its way when it was written.
    pub fn open(&self, reported: u32, lcores: u16) -> u64 {
        let since = i64::from(self.connections) - i64::from(self.connections_at_report);
        let open = i64::from(reported) + since * i64::from(lcores.max(1));
        u64::try_from(open).unwrap_or(0).max(self.connections.into())
    }
}

impl<'a> View<'a> {
    /// Returns the member at this position, if it may be chosen.
    pub fn usable_member(&self, member: usize) -> Option<&'a Member> {
        self.members.get(member).filter(|member| (self.usable)(member.backend))
    }

    /// Returns the members that may be chosen.
    pub fn usable_members(&self) -> impl Iterator<Item = &'a Member> {
        let usable = self.usable;
        self.members.iter().filter(move |member| usable(member.backend))
    }

    /// Says whether the member at this position may be chosen.
    pub fn is_usable(&self, member: usize) -> bool {
        self.usable_member(member).is_some()
    }

    /// Returns the backend's newest report, if it is fresh.
    pub fn load(&self, backend: BackendIndex) -> Option<&'a Load> {
        let load = self.loads.get(usize::from(backend.0))?.as_ref()?;
        load.is_fresh(self.now).then_some(load)
    }

    /// Says whether there is a fresh report of every member that may be chosen.
    pub fn has_all_reports(&self) -> bool {
        self.usable_members().all(|member| self.load(member.backend).is_some())
    }

    /// Returns how many connections a backend was given since its newest report, by all lcores, if the others gave it as many
    /// as this one.
    pub fn given_since_report(&self, backend: BackendIndex) -> u64 {
        u64::from(self.tally(backend).dispatched) * u64::from(self.lcores.max(1))
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
    /// It was its turn among the requests of its class.
    ClassTurn,
    /// It had the fewest connections for its weight.
    FewestConnections,
    /// It had fewer connections for its weight than the other one drawn.
    FewerOfTwo,
    /// It had the least traffic for its weight.
    LeastTraffic,
    /// Its sessions, as their classes weigh, were the least for its weight.
    LeastLoad,
    /// It answers soonest, with what it was given since counted against it.
    FastestResponse,
    /// Nothing is known of how soon it answers: it is tried.
    Untried,
    /// The hash is its own.
    HashOwner,
    /// The owner of the hash cannot be chosen; it is the next one.
    HashOwnerUnusable,
    /// The owner of the hash has more than its share; it is the next one with room.
    HashOwnerFull,
    /// Of the candidates by hash it had the least to do.
    LeastLoadedCandidate,
    /// Nobody had the target, and it had the least to do.
    TargetAssigned,
    /// The target is its own.
    TargetOwner,
    /// The target's member has too much to do, and it had the least.
    TargetMoved,
    /// The target's members have too much to do, and it had the least.
    ReplicaAdded,
    /// Nobody had the subtree: it is the one to begin with.
    SubtreeAssigned,
    /// The subtree is its own.
    SubtreeOwner,
    /// The subtree's member has too much to do, and it had the least.
    SubtreeMoved,
    /// Reports that the policy needs are missing or old: chosen by what this lcore counts itself.
    StaleReports,
}

impl Reason {
    /// Says it to an operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Turn => "it was its turn",
            Self::ClassTurn => "it was its turn in the class",
            Self::FewestConnections => "fewest connections for its weight",
            Self::FewerOfTwo => "fewer connections for its weight than the other of two drawn",
            Self::LeastTraffic => "least traffic for its weight",
            Self::LeastLoad => "least weighted load for its weight",
            Self::FastestResponse => "fastest response, given what it got lately",
            Self::Untried => "its response time is not known: it is tried",
            Self::HashOwner => "owner of the hash",
            Self::HashOwnerUnusable => "next by hash: the owner cannot be chosen",
            Self::HashOwnerFull => "next by hash: the owner has more than its share",
            Self::LeastLoadedCandidate => "least loaded of the candidates by hash",
            Self::TargetAssigned => "nobody had the target: least connections for its weight",
            Self::TargetOwner => "it has the target",
            Self::TargetMoved => "the target's backend has too much to do: least connections for its weight",
            Self::ReplicaAdded => {
                "the target's backends have too much to do: least connections for its weight"
            }
            Self::SubtreeAssigned => "nobody had the subtree: first by size or hash",
            Self::SubtreeOwner => "it has the subtree",
            Self::SubtreeMoved => "the subtree's backend has too much to do: least load for its weight",
            Self::StaleReports => "no fresh reports: this lcore's own counts",
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
