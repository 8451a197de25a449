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

    /// What it is so far in this interval.
    pub(super) fn so_far(self, interval: u64) -> u64 {
        self.at(interval).current
    }

    /// Corrects what was measured, for what is now elsewhere; in the first interval what there is so far.
    fn correct(&mut self, interval: u64, is_first: bool, change: impl FnOnce(u64) -> u64) {
        *self = self.at(interval);
        let sum = if is_first { &mut self.current } else { &mut self.earlier };
        *sum = change(*sum);
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

    /// Says whether nothing was measured yet: nothing was asked for before this interval.
    pub(super) fn is_first(&self, interval: u64) -> bool {
        self.total.measured(interval) == 0
    }

    /// Notes that a subtree belongs to another member from now on.
    pub(super) fn transfer(&mut self, from: usize, to: usize, interval: u64, load: u64) {
        if let Some(share) = self.members.get_mut(from) {
            share.correct(interval, false, |earlier| earlier.saturating_sub(load));
        }
        if let Some(share) = self.members.get_mut(to) {
            share.correct(interval, false, |earlier| earlier.saturating_add(load));
        }
    }

    /// Notes that a subtree belongs to all members from now on, in parts that are not known yet.
    pub(super) fn spread(&mut self, view: &View<'_>, from: usize, interval: u64, load: u64) {
        let weights = u128::from(self.weights);
        let is_first = self.is_first(interval);
        for (share, member) in self.members.iter_mut().zip(view.members) {
            let part = u128::from(load) * u128::from(member.weight) / weights;
            let part = u64::try_from(part).unwrap_or(u64::MAX);
            share.correct(interval, is_first, |sum| sum.saturating_add(part));
        }
        if let Some(share) = self.members.get_mut(from) {
            share.correct(interval, is_first, |sum| sum.saturating_sub(load));
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

    /// Says whether a subtree of such a load is to be taken apart, or to stay so. In the first interval it goes by what there is so
    /// far: all that is asked for may lie in one subtree.
    pub(super) fn is_too_large(&self, load: u64, is_apart: bool, interval: u64) -> bool {
        let parts = if is_apart { APART_MIN } else { WHOLE_MAX };
        let members = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        let is_first = self.is_first(interval);
        let total = if is_first { self.total.so_far(interval) } else { self.total.measured(interval) };
        self.is_enough(total) && load.saturating_mul(parts).saturating_mul(members) > total
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
