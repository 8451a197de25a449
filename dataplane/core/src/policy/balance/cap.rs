//! CAP, the client-aware policy (Casalicchio and Colajanni, 2001): turns within each service class. A class that strains the
//! disk, one that strains the processor and one that strains the network are each shared out evenly, so that no member
//! gets a class's expensive requests and another the cheap ones of the rest, without anyone measuring.
//!
//! Needs to know the classes and the weights. Costs a look at each member when choosing, and again when the choice holds.

use super::turns::Turns;
use super::{Ask, Choice, Policy, Reason, View};
use crate::ids::ClassIndex;

/// How many classes have turns of their own: as many as there may be.
const CLASSES: usize = 64;

/// Whose turn it is, by class.
#[derive(Clone, Debug)]
pub(super) struct Cap {
    turns: Box<[Turns]>,
}

impl Cap {
    pub(super) fn new(members: usize) -> Self {
        Self { turns: (0..CLASSES).map(|_| Turns::new(members)).collect() }
    }
}

fn position(class: ClassIndex) -> usize {
    usize::from(class.0) % CLASSES
}

impl Policy for Cap {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        // Each class begins with another member, or many classes' first requests would all meet the first.
        let member = self.turns.get(position(ask.class))?.next(view, ask.class.0.into())?;
        Some(Choice { member, reason: Reason::ClassTurn })
    }

    fn commit(&mut self, ask: &Ask<'_>, choice: &Choice, view: &View<'_>) {
        if let Some(turns) = self.turns.get_mut(position(ask.class)) {
            turns.take(view, choice.member);
        }
    }
}
