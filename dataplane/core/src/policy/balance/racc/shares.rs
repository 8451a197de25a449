//! What each member's part of the tree has cost, as far as this lcore was asked for it: measured over intervals.

use super::super::View;
use super::super::least::{Score, least};

/// A sum over intervals: that of this one, and the average of earlier ones, of which each counts half as much as the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Average {
    interval: u64,
    current: u64,
    earlier: u64,
}

impl Average {
    /// Returns it as it is in an interval.
    pub(super) fn at(self, interval: u64) -> Self {
        match interval.saturating_sub(self.interval) {
            0 => self,
            passed => {
                let sum = self.current.saturating_add(self.earlier);
                let earlier =
                    u32::try_from(passed).ok().and_then(|passed| sum.checked_shr(passed)).unwrap_or(0);
                Self { interval, current: 0, earlier }
            }
        }
    }

    /// Adds to this interval.
    pub(super) fn add(&mut self, interval: u64, amount: u64) {
        *self = self.at(interval);
        self.current = self.current.saturating_add(amount);
    }

    /// What it was on average until this interval.
    pub(super) fn measured(self, interval: u64) -> u64 {
        self.at(interval).earlier
    }

    /// The same, and what came on top of it in this interval.
    fn so_far(self, interval: u64) -> u64 {
        let Self { current, earlier, .. } = self.at(interval);
        current.saturating_add(earlier)
    }

    /// Takes out what is now elsewhere: of what was measured, and if that is not all, of what came since.
    fn take(&mut self, interval: u64, load: u64) {
        *self = self.at(interval);
        let rest = load.saturating_sub(self.earlier);
        self.earlier = self.earlier.saturating_sub(load);
        self.current = self.current.saturating_sub(rest);
    }

    /// Puts in what was elsewhere until now.
    fn give(&mut self, interval: u64, load: u64) {
        *self = self.at(interval);
        self.earlier = self.earlier.saturating_add(load);
    }
}

/// What members have to do.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    members: Box<[Average]>,
    total: Average,
    weights: u64,
}

/// A member has too much with more than this, in percent of its fair share.
const TOO_MUCH_PERCENT: u128 = 110;
/// How many requests a member must have had on average for the measurement to say anything: of 100, ten more or less are chance.
const REQUESTS_MIN: u64 = 100;
/// A subtree is too much for one member if it is more than this part of a fair share.
const WHOLE_MAX: u64 = 4;
/// One that was taken apart is whole again below this part.
const APART_MIN: u64 = 16;
/// What a request of cost 1 counts.
pub(super) const REQUEST: u64 = 1000;

impl Shares {
    pub(super) fn new(members: usize, weights: u64) -> Self {
        Self {
            members: vec![Average::default(); members].into(),
            total: Average::default(),
            weights: weights.max(1),
        }
    }

    pub(super) fn add(&mut self, member: usize, interval: u64, cost: u64) {
        self.total.add(interval, cost);
        if let Some(share) = self.members.get_mut(member) {
            share.add(interval, cost);
        }
    }

    /// Returns what a subtree has cost. Until what was measured before this interval says something, what came in it counts as
    /// well: all that is asked for may lie in one subtree.
    pub(super) fn known(&self, load: Average, interval: u64) -> u64 {
        if self.says_anything(interval) { load.measured(interval) } else { load.so_far(interval) }
    }

    /// Notes that a subtree belongs to another member from now on.
    pub(super) fn transfer(&mut self, from: usize, to: usize, interval: u64, load: u64) {
        if let Some(share) = self.members.get_mut(from) {
            share.take(interval, load);
        }
        if let Some(share) = self.members.get_mut(to) {
            share.give(interval, load);
        }
    }

    /// Notes that a subtree belongs to all members from now on, in parts that are not known yet.
    pub(super) fn spread(&mut self, view: &View<'_>, from: usize, interval: u64, load: u64) {
        if let Some(share) = self.members.get_mut(from) {
            share.take(interval, load);
        }
        let weights = u128::from(self.weights);
        for (share, member) in self.members.iter_mut().zip(view.members) {
            let part = u128::from(load) * u128::from(member.weight) / weights;
            share.give(interval, u64::try_from(part).unwrap_or(u64::MAX));
        }
    }

    /// Finds who should have a subtree of such a load instead of a member that has too much; who has least for its weight, if
    /// with it that one still has less than its owner has now.
    pub(super) fn better(&self, view: &View<'_>, owner: usize, load: u64, interval: u64) -> Option<usize> {
        let of = |at: usize| self.members.get(at).map_or(0, |share| share.measured(interval));
        let owners = view.members.get(owner)?;
        let total = self.total.measured(interval);
        let has_too_much = u128::from(of(owner)) * u128::from(self.weights) * 100
            > u128::from(total) * u128::from(owners.weight) * TOO_MUCH_PERCENT;
        if !self.says_anything(interval) || !has_too_much {
            return None;
        }
        let to = least(view, 0, |at, member| Score::of(of(at), member))?;
        let with_it = Score::of(of(to).saturating_add(load), view.members.get(to)?);
        with_it.cmp(Score::of(of(owner), owners)).is_lt().then_some(to)
    }

    /// Says whether a subtree of such a load, as [`Shares::known`] returns it, is to be taken apart, or to stay so.
    pub(super) fn is_too_large(&self, load: u64, is_apart: bool, interval: u64) -> bool {
        let parts = if is_apart { APART_MIN } else { WHOLE_MAX };
        let members = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        let total = self.known(self.total, interval);
        if self.is_enough(total) {
            load.saturating_mul(parts).saturating_mul(members) > total
        } else {
            is_apart // so little says nothing
        }
    }

    fn says_anything(&self, interval: u64) -> bool {
        self.is_enough(self.total.measured(interval))
    }

    /// Says whether so much says anything of the members' shares.
    fn is_enough(&self, total: u64) -> bool {
        let members = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        total >= members.saturating_mul(REQUESTS_MIN * REQUEST)
    }
}
