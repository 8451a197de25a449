//! LARD with replication (Pai et al., 1998, figure 3): a target has a set of members. The least loaded of them gets the request;
//! when even that has too much to do, the least loaded of all joins them; when the set stayed the same for some time, its
//! most loaded member leaves it.
//!
//! Needs to know what this lcore has open, which it counts itself, and the time. Costs one look into the table of targets and
//! one at each member of the set, and a look at each member of the pool where the set changes. Each lcore has its own table.

use handoff_proto::Micros;

use super::lard::{Thresholds, least_loaded};
use super::least::Score;
use super::targets::Targets;
use super::{Ask, Choice, LardReplicatedSettings, Policy, Reason, View};
use crate::policy::Member;

/// The members of each target.
#[derive(Clone, Debug)]
pub(super) struct LardReplicated {
    targets: Targets<Changed>,
    sets: Sets,
    thresholds: Thresholds,
    replicate: Micros,
}

/// When a target's set changed last; `None` for a target that has none.
type Changed = Option<Micros>;

/// Sets of members, by place: one bit for each.
#[derive(Clone, Debug)]
struct Sets {
    words: Box<[u64]>,
    words_each: usize,
}

impl Sets {
    fn new(places: usize, members: usize) -> Self {
        let words_each = members.div_ceil(64).max(1);
        Self { words: vec![0; places * words_each].into(), words_each }
    }

    fn iter(&self, place: usize) -> impl Iterator<Item = usize> {
        let words = self.words.get(place * self.words_each..).into_iter().flat_map(|words| words.iter());
        words.take(self.words_each).enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = usize::try_from(left.trailing_zeros()).ok().filter(|_| left != 0)?;
                left &= left - 1;
                Some(at * 64 + bit)
            })
        })
    }

    fn set(&mut self, place: usize, member: usize, is_in: bool) {
        if let Some(word) = self.words.get_mut(place * self.words_each + member / 64) {
            let bit = 1 << (member % 64);
            *word = if is_in { *word | bit } else { *word & !bit };
        }
    }

    fn clear(&mut self, place: usize) {
        let words = self.words.iter_mut().skip(place * self.words_each).take(self.words_each);
        words.for_each(|word| *word = 0);
    }
}

impl LardReplicated {
    pub(super) fn new(members: &[Member], settings: &LardReplicatedSettings) -> Self {
        let targets = Targets::new(settings.lard.targets_max);
        Self {
            sets: Sets::new(targets.places(), members.len()),
            targets,
            thresholds: Thresholds::new(members, &settings.lard),
            replicate: settings.replicate,
        }
    }

    /// The usable member of a set with the least to do.
    fn least_of(&self, place: usize, view: &View<'_>) -> Option<usize> {
        let usable = self.sets.iter(place).filter(|member| view.is_usable(*member));
        usable.min_by(|one, other| score(view, *one).cmp(score(view, *other)))
    }

    /// The member of a set with the most to do. One that cannot be chosen is worth least.
    fn most_of(&self, place: usize, view: &View<'_>) -> Option<usize> {
        self.sets.iter(place).max_by(|one, other| {
            let usable = |member: usize| view.is_usable(member);
            usable(*other).cmp(&usable(*one)).then(score(view, *one).cmp(score(view, *other)))
        })
    }
}

fn score(view: &View<'_>, at: usize) -> Score {
    view.members.get(at).map_or(Score { load: u64::MAX, weight: 1 }, |member| {
        Score::of(view.tally(member.backend).connections.into(), member)
    })
}

impl Policy for LardReplicated {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let known = self.targets.find(ask.key).and_then(|(place, _)| self.least_of(place, view));
        let Some(replica) = known else {
            return Some(Choice { member: least_loaded(ask, view)?, reason: Reason::TargetAssigned });
        };
        if !self.thresholds.is_fine(view, replica) {
            let least = least_loaded(ask, view)?;
            if least != replica && self.thresholds.is_too_much(view, replica, least) {
                return Some(Choice { member: least, reason: Reason::ReplicaAdded });
            }
        }
        Some(Choice { member: replica, reason: Reason::TargetOwner })
    }

    fn commit(&mut self, ask: &Ask<'_>, choice: &Choice, view: &View<'_>) {
        let Some((place, changed)) = self.targets.enter(ask.key) else { return };
        let before = *changed;
        *changed = Some(before.unwrap_or(view.now));
        if before.is_none() {
            // Whoever had this place is forgotten.
            self.sets.clear(place);
        }
        let is_new = !self.sets.iter(place).any(|member| member == choice.member);
        // The paper chooses who leaves before anybody joins, so the new one does not leave at once.
        let most = self.most_of(place, view).filter(|most| *most != choice.member);
        let is_old = before.is_some_and(|at| view.now.since(at) > self.replicate);
        if is_new {
            self.sets.set(place, choice.member, true);
        }
        let leaves = most.filter(|_| is_old);
        if let Some(member) = leaves {
            self.sets.set(place, member, false);
        }
        if (is_new || leaves.is_some())
            && let Some((_, changed)) = self.targets.enter(ask.key)
        {
            *changed = Some(view.now);
        }
    }
}
