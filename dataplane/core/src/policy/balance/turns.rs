//! Turns in proportion to weights, spread as evenly as can be: each member gains its weight in credit with every turn, who has
//! most is next and pays for all. So does nginx (its "smooth weighted round robin"); after as many turns as the weights sum
//! up to, each has had exactly its weight.

use super::View;
use super::least::around;

/// Whose turn it is.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// By position. Their sum is zero.
    credits: Box<[i64]>,
}

impl Turns {
    pub(super) fn new(members: usize) -> Self {
        Self { credits: vec![0; members].into() }
    }

    /// Finds the usable member whose turn it is; the first at or after `from` if several could be.
    pub(super) fn next(&self, view: &View<'_>, from: u64) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        for position in around(view.members.len(), from) {
            let Some(member) = view.usable_member(position) else { continue };
            let credit = self.credits.get(position).map_or(0, |credit| credit + i64::from(member.weight));
            if best.is_none_or(|(_, most)| credit > most) {
                best = Some((position, credit));
            }
        }
        best.map(|(position, _)| position)
    }

    /// Notes that a member had its turn, among those that are usable.
    pub(super) fn take(&mut self, view: &View<'_>, chosen: usize) {
        let mut paid = 0;
        for (position, credit) in self.credits.iter_mut().enumerate() {
            if let Some(member) = view.usable_member(position) {
                *credit += i64::from(member.weight);
                paid += i64::from(member.weight);
            }
        }
        if let Some(credit) = self.credits.get_mut(chosen) {
            *credit -= paid;
        }
    }
}
