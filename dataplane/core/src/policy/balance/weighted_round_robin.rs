//! Weighted round robin: turns in proportion to the weights, spread evenly, as nginx's.
//!
//! Needs to know the weights. Costs a look at each member when choosing, and again when the choice holds.

use super::turns::Turns;
use super::{Ask, Choice, Policy, Reason, View};

/// Whose turn it is.
#[derive(Clone, Debug)]
pub(super) struct WeightedRoundRobin {
    turns: Turns,
}

impl WeightedRoundRobin {
    pub(super) fn new(members: usize) -> Self {
        Self { turns: Turns::new(members) }
    }
}

impl Policy for WeightedRoundRobin {
    fn choose(&self, _: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        Some(Choice { member: self.turns.next(view, 0)?, reason: Reason::Turn })
    }

    fn commit(&mut self, _: &Ask<'_>, choice: &Choice, view: &View<'_>) {
        self.turns.take(view, choice.member);
    }
}
