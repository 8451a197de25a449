//! Random two choices (Mitzenmacher, 2001): of two members drawn at random, in proportion to their weights, the one with fewer
//! connections for its weight. Nearly as even as looking at all of them, and lcores that know nothing of each other do not all
//! choose the same.
//!
//! Needs to know what this lcore has open, which it counts itself. Costs two searches among the weights, however many members.

use super::least::{Score, first_usable};
use super::{Ask, Choice, Policy, Reason, View};
use crate::Entropy;
use crate::policy::Member;

/// Draws by weight.
#[derive(Clone, Debug)]
pub(super) struct TwoChoices {
    /// The weights of the members so far, summed, by position.
    sums: Box<[u64]>,
}

/// How often one is drawn that can be chosen, before the next one that can is taken.
const DRAWS: usize = 4;

impl TwoChoices {
    pub(super) fn new(members: &[Member]) -> Self {
        let add = |sum: &mut u64, member: &Member| {
            *sum += u64::from(member.weight);
            Some(*sum)
        };
        Self { sums: members.iter().scan(0, add).collect() }
    }

    /// Draws a usable member other than `other`; that one, if there is no second.
    fn draw(&self, entropy: &mut Entropy, view: &View<'_>, other: Option<usize>) -> Option<usize> {
        let total = self.sums.last().copied().unwrap_or(0).max(1);
        let mut drawn = 0;
        for _ in 0..DRAWS {
            let at = entropy.bits() % total;
            drawn = self.sums.partition_point(|sum| *sum <= at);
            if other != Some(drawn) && view.is_usable(drawn) {
                return Some(drawn);
            }
        }
        first_usable(view, u64::try_from(drawn).unwrap_or(0) + 1)
    }
}

impl Policy for TwoChoices {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let mut entropy = Entropy::from_seed(ask.entropy);
        let one = self.draw(&mut entropy, view, None)?;
        let other = self.draw(&mut entropy, view, Some(one))?;
        let score = |at: usize| {
            let member = view.members.get(at)?;
            Some(Score::of(u64::from(view.tally(member.backend).connections) + 1, member))
        };
        let member = if score(other)?.cmp(score(one)?).is_lt() { other } else { one };
        Some(Choice { member, reason: Reason::FewerOfTwo })
    }

    fn commit(&mut self, _: &Ask<'_>, _: &Choice, _: &View<'_>) {}
}
