//! Maglev: the same member for the same part of the request, on every lcore and every switch; few requests move when a member
//! comes or goes. Loads can be bounded (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018): a member
//! that has its fair share and some more of what this lcore has open is passed over.
//!
//! Needs to know nothing but the key; with bounded loads what this lcore has open, which it counts itself. Costs one look into
//! the table and one more per place passed over; with bounded loads a look at each member, too. A table takes 128 KB per
//! lcore.

use super::least::{Score, around, least};
use super::table::Table;
use super::{Ask, Choice, Policy, Reason, View};
use crate::policy::Member;

/// How many places are passed over before the members are asked in a row.
const WALK_MAX: usize = 256;

/// Chooses by a table.
#[derive(Clone, Debug)]
pub(super) struct Maglev {
    table: Table,
    bound_percent: Option<u16>,
}

impl Maglev {
    pub(super) fn new(members: &[Member], bound_percent: Option<u16>) -> Self {
        Self { table: Table::new(members, Table::PLACES), bound_percent }
    }
}

/// How many connections a member may have.
struct Bound {
    percent: u64,
    connections: u64,
    weight: u64,
}

impl Bound {
    fn new(percent: u16, view: &View<'_>) -> Self {
        // With the one to come.
        let (mut connections, mut weight) = (1, 0);
        for member in view.usable_members() {
            connections += u64::from(view.tally(member.backend).connections);
            weight += u64::from(member.weight);
        }
        Self { percent: percent.into(), connections, weight: weight.max(1) }
    }

    /// Says whether one more would be too many: more than its share times the bound, rounded up. Somebody always has room.
    fn is_full(&self, view: &View<'_>, member: &Member) -> bool {
        let share = u128::from(self.percent) * u128::from(self.connections) * u128::from(member.weight);
        let most = share.div_ceil(100 * u128::from(self.weight));
        u128::from(view.tally(member.backend).connections) >= most
    }
}

impl Policy for Maglev {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let bound = self.bound_percent.map(|percent| Bound::new(percent, view));
        let mut passed_over = None;
        let walk = self.table.walk(ask.key).take(WALK_MAX).chain(around(view.members.len(), ask.key));
        for member in walk {
            let why_not = match view.usable_member(member) {
                None => Reason::HashOwnerUnusable,
                Some(this) if bound.as_ref().is_some_and(|bound| bound.is_full(view, this)) => {
                    Reason::HashOwnerFull
                }
                Some(_) => return Some(Choice { member, reason: passed_over.unwrap_or(Reason::HashOwner) }),
            };
            passed_over.get_or_insert(why_not);
        }
        // Nobody is usable, or counts are such as never come about.
        let member = least(view, ask.key, |_, member| {
            Score::of(view.tally(member.backend).connections.into(), member)
        })?;
        Some(Choice { member, reason: Reason::HashOwnerFull })
    }

    fn commit(&mut self, _: &Ask<'_>, _: &Choice, _: &View<'_>) {}
}
