//! Least connections (RFC 2391, section 5.2): the member with the fewest open connections for its weight.
//!
//! Needs to know what this lcore has open, which it counts itself: no report is as new. Costs a look at each member.

use super::least::{Score, least};
use super::{Ask, Choice, Policy, Reason, View};

/// Chooses by the lcore's own counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeastConnections;

impl Policy for LeastConnections {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        by_own_counts(ask, view, Reason::FewestConnections)
    }

    fn commit(&mut self, _: &Ask<'_>, _: &Choice, _: &View<'_>) {}
}

/// Chooses by what this lcore has open. It is what other policies fall back to when reports are missing.
pub(super) fn by_own_counts(ask: &Ask<'_>, view: &View<'_>, reason: Reason) -> Option<Choice> {
    // With the one to come: of members that have nothing to do, the heaviest is asked first. Equals are taken in a random
    // order, or every lcore would begin with the same.
    let member = least(view, ask.entropy, |_, member| {
        Score::of(u64::from(view.tally(member.backend).connections) + 1, member)
    })?;
    Some(Choice { member, reason })
}
