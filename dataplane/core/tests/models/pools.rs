//! Round robin against a line of people: whoever is first in it and usable is chosen, and all up to there go to its end.

use std::cell::Cell;
use std::collections::VecDeque;

use baton_core::Micros;
use baton_core::policy::balance::{Ask, Policy, PolicySettings, View};
use baton_core::policy::{BackendIndex, ClassIndex, Pool};
use proptest::prelude::*;

const ASK: Ask<'_> = Ask { key: 0, class: ClassIndex(0), session_weight: 1, path: None, entropy: 0 };

/// Chooses and hands off.
fn turn(
    policy: &mut Box<dyn Policy>,
    pool: &Pool,
    usable: &dyn Fn(BackendIndex) -> bool,
) -> Option<BackendIndex> {
    let view = View { now: Micros(0), lcores: 1, members: &pool.members, usable, tallies: &[], loads: &[] };
    let choice = policy.choose(&ASK, &view)?;
    policy.commit(&ASK, &choice, &view);
    Some(pool.members[choice.member].backend)
}

proptest! {
    /// "in turn among those that are usable" (`docs/OPERATING.md`), while backends come and go.
    #[test]
    fn the_pool_gives_turns_as_a_line_does(
        count in 0..9_u16,
        // Bit n: whether the n-th member is usable at this choice. Often the same, so that turns go round.
        moods in prop::collection::vec((any::<u8>(), 1..12_usize), 1..12),
    ) {
        let pool = Pool::of((0..count).map(|member| BackendIndex(40 - member)));
        let mut line: VecDeque<usize> = (0..pool.members.len()).collect();
        let mut policy = PolicySettings::RoundRobin.build(&pool.members);
        for (mood, times) in moods {
            for _ in 0..times {
                let is_usable = |place: usize| place >= 8 || mood >> place & 1 == 1;
                let first = line.iter().position(|place| is_usable(*place));
                let expected = first.map(|first| {
                    line.rotate_left(first + 1);
                    pool.members[*line.back().expect("somebody was chosen")].backend
                });
                let calls = Cell::new(0);
                let chosen = turn(&mut policy, &pool, &|member| {
                    calls.set(calls.get() + 1);
                    is_usable(usize::from(40 - member.0))
                });
                prop_assert_eq!(chosen, expected);
                prop_assert_eq!(calls.get(), first.map_or(pool.members.len(), |first| first + 1), "looks");
            }
        }
    }
}
