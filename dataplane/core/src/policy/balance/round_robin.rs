//! Round robin (RFC 2391, section 5.1): each usable member in its turn.
//!
//! Needs to know nothing. Costs one question per member passed over.

use super::{Ask, Choice, Policy, Reason, View};

/// Where the turn is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RoundRobin {
    next: usize,
}

impl Policy for RoundRobin {
    fn choose(&self, _: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let count = view.members.len();
        let from_here = self.next.checked_rem(count)?;
        let in_turn = (from_here..count).chain(0..from_here);
        in_turn
            .into_iter()
            .find(|member| view.is_usable(*member))
            .map(|member| Choice { member, reason: Reason::Turn })
    }

    fn commit(&mut self, _: &Ask<'_>, choice: &Choice, _: &View<'_>) {
        self.next = choice.member + 1;
    }
}

#[cfg(test)]
mod tests {
    use handoff_proto::Micros;

    use super::*;
    use crate::ids::{BackendIndex, ClassIndex};
    use crate::policy::Member;

    const ASK: Ask<'_> = Ask { key: 0, class: ClassIndex(0), session_weight: 1, path: None, entropy: 0 };

    fn members(count: u16) -> Vec<Member> {
        (0..count).map(|number| Member { backend: BackendIndex(number), weight: 1, identity: 0 }).collect()
    }

    fn turn(
        policy: &mut RoundRobin,
        members: &[Member],
        usable: &dyn Fn(BackendIndex) -> bool,
    ) -> Option<usize> {
        let view = View { now: Micros(0), lcores: 1, members, usable, tallies: &[], loads: &[] };
        let choice = policy.choose(&ASK, &view)?;
        assert_eq!(policy.choose(&ASK, &view), Some(choice), "a choice alone changes nothing");
        policy.commit(&ASK, &choice, &view);
        Some(choice.member)
    }

    #[test]
    fn each_usable_member_gets_its_turn_within_one_of_the_others() {
        let members = members(5);
        let mut policy = RoundRobin::default();
        let mut turns = [0; 5];
        for _ in 0..1003 {
            turns[turn(&mut policy, &members, &|member| member.0 != 2).expect("four are usable")] += 1;
        }
        assert_eq!(turns[2], 0);
        let busy = [turns[0], turns[1], turns[3], turns[4]];
        assert!(busy.iter().all(|count| (250..=251).contains(count)), "{turns:?}");
    }

    #[test]
    fn a_pool_without_usable_members_gives_none_and_a_shrunk_pool_no_panic() {
        let mut policy = RoundRobin { next: 7 };
        assert_eq!(turn(&mut policy, &members(0), &|_| true), None);
        assert_eq!(turn(&mut policy, &members(3), &|_| false), None);
        assert_eq!(turn(&mut policy, &members(3), &|_| true), Some(1));
    }
}
