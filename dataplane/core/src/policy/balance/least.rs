//! The member with the least of something for its weight.

use core::cmp::Ordering;

use super::View;
use crate::policy::Member;

/// So much work, for so much weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Score {
    pub(super) load: u64,
    /// At least 1.
    pub(super) weight: u64,
}

impl Score {
    /// What a member of this weight has to do.
    pub(super) fn of(load: u64, member: &Member) -> Self {
        Self { load, weight: u64::from(member.weight).max(1) }
    }

    /// Compares what one unit of weight has to do: as fractions, exactly.
    pub(super) fn cmp(self, other: Self) -> Ordering {
        let share = |load: u64, weight: u64| u128::from(load) * u128::from(weight);
        share(self.load, other.weight).cmp(&share(other.load, self.weight))
    }
}

/// Finds the usable member with the least score, of its position and itself; among equals the first at or after `from`, around the end.
pub(super) fn least(view: &View<'_>, from: u64, score: impl Fn(usize, &Member) -> Score) -> Option<usize> {
    let mut best: Option<(usize, Score)> = None;
    for member in around(view.members.len(), from) {
        if let Some(scored) = view.usable_member(member).map(|this| score(member, this))
            && best.is_none_or(|(_, least)| scored.cmp(least).is_lt())
        {
            best = Some((member, scored));
        }
    }
    best.map(|(member, _)| member)
}

/// Finds the first usable member at or after `from`, around the end.
pub(super) fn first_usable(view: &View<'_>, from: u64) -> Option<usize> {
    around(view.members.len(), from).find(|member| view.is_usable(*member))
}

/// Every position below `count` once, beginning at `from`, which may be any number.
pub(super) fn around(count: usize, from: u64) -> impl Iterator<Item = usize> {
    let from = modulo(from, count);
    (from..count).chain(0..from)
}

/// The remainder of a hash, as a position below `count`; 0 if there is none.
pub(super) fn modulo(hash: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    usize::try_from(hash.checked_rem(count).unwrap_or(0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_compared_as_fractions_without_overflow() {
        let score = |load, weight| Score { load, weight };
        assert_eq!(score(1, 3).cmp(score(1, 2)), Ordering::Less);
        assert_eq!(score(2, 4).cmp(score(1, 2)), Ordering::Equal);
        assert_eq!(score(u64::MAX, 1000).cmp(score(u64::MAX, 999)), Ordering::Less);
        assert_eq!(score(u64::MAX, 1).cmp(score(0, 1000)), Ordering::Greater);
    }

    #[test]
    fn around_visits_each_once_from_anywhere() {
        assert_eq!(around(4, 6).collect::<Vec<_>>(), [2, 3, 0, 1]);
        assert_eq!(around(4, u64::MAX).collect::<Vec<_>>(), [3, 0, 1, 2]);
        assert_eq!(around(0, 6).count(), 0);
    }
}
