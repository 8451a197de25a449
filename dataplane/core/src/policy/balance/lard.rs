//! LARD, locality-aware request distribution (Pai et al., "Locality-Aware Request Distribution in Cluster-based Network Servers",
//! 1998, figure 2): the first request for a target goes to the member with the least to do, later ones to the same, whose
//! cache then has it, until that member has too much to do while another has too little.
//!
//! Needs to know what this lcore has open, which it counts itself. Costs one look into the table of targets, and a look at each
//! member where a target is given away. Each lcore has its own table: with several a target may have as many members.

use super::least::{Score, least};
use super::targets::Targets;
use super::{Ask, Choice, LardSettings, Policy, Reason, View};
use crate::policy::Member;

/// The member of each target.
#[derive(Clone, Debug)]
pub(super) struct Lard {
    owners: Targets<u16>,
    thresholds: Thresholds,
}

/// When a member has too little and too much to do.
///
/// They are meant for all connections of a member of mean weight. A lcore sees one in as many connections as there are lcores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    low: u64,
    high: u64,
    members: u64,
    weights: u64,
}

impl Thresholds {
    pub(super) fn new(members: &[Member], settings: &LardSettings) -> Self {
        Self {
            low: settings.low.into(),
            high: settings.high.into(),
            members: u64::try_from(members.len()).unwrap_or(u64::MAX),
            weights: members.iter().map(|member| u64::from(member.weight)).sum(),
        }
    }

    /// Says whether a member has too much to do: more than the upper threshold while `least` has less than the lower one; or
    /// twice the upper one. The paper refuses connections before all members have that much; here nobody does, so it must
    /// also be true that `least` has half as much at most.
    pub(super) fn is_too_much(&self, view: &View<'_>, member: usize, least: usize) -> bool {
        let (here, there) = (self.load(view, member), self.load(view, least));
        (here > self.scaled(self.high, view, member) && there < self.scaled(self.low, view, least))
            || (here >= self.scaled(2 * self.high, view, member)
                && here * self.weight(view, least) >= 2 * there * self.weight(view, member))
    }

    /// Says whether a member has less to do than the least that could be too much.
    pub(super) fn is_fine(&self, view: &View<'_>, member: usize) -> bool {
        self.load(view, member) <= self.scaled(self.high, view, member)
    }

    /// A member's connections times the mean weight, in units of 1/members.
    fn load(&self, view: &View<'_>, member: usize) -> u128 {
        u128::from(connections(view, member)) * u128::from(view.lcores.max(1)) * u128::from(self.weights)
    }

    /// A threshold times a member's weight, in the same units.
    fn scaled(&self, threshold: u64, view: &View<'_>, member: usize) -> u128 {
        u128::from(threshold) * u128::from(self.members) * self.weight(view, member)
    }

    fn weight(&self, view: &View<'_>, member: usize) -> u128 {
        view.members.get(member).map_or(1, |member| member.weight.into())
    }
}

fn connections(view: &View<'_>, member: usize) -> u32 {
    view.members.get(member).map_or(0, |member| view.tally(member.backend).connections)
}

/// The usable member with the least to do. Among equals the target's hash decides, on all lcores alike.
pub(super) fn least_loaded(ask: &Ask<'_>, view: &View<'_>) -> Option<usize> {
    least(view, ask.key, |_, member| Score::of(view.tally(member.backend).connections.into(), member))
}

impl Lard {
    pub(super) fn new(members: &[Member], settings: &LardSettings) -> Self {
        Self { owners: Targets::new(settings.targets_max), thresholds: Thresholds::new(members, settings) }
    }
}

impl Policy for Lard {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let owner = self.owners.find(ask.key).map(|(_, owner)| usize::from(*owner));
        let Some(owner) = owner.filter(|owner| view.is_usable(*owner)) else {
            return Some(Choice { member: least_loaded(ask, view)?, reason: Reason::TargetAssigned });
        };
        if !self.thresholds.is_fine(view, owner) {
            let least = least_loaded(ask, view)?;
            if least != owner && self.thresholds.is_too_much(view, owner, least) {
                return Some(Choice { member: least, reason: Reason::TargetMoved });
            }
        }
        Some(Choice { member: owner, reason: Reason::TargetOwner })
    }

    fn commit(&mut self, ask: &Ask<'_>, choice: &Choice, _: &View<'_>) {
        if let (Some((_, owner)), Ok(member)) = (self.owners.enter(ask.key), u16::try_from(choice.member)) {
            *owner = member;
        }
    }
}
