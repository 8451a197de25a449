//! Round robin against a line of people: whoever is first in it and usable is chosen, and all up to there go to its end.

use std::cell::Cell;
use std::collections::VecDeque;

use baton_core::policy::{BackendIndex, Cursor, Pool};
use proptest::prelude::*;

proptest! {
    /// "in turn among those that are usable" (`docs/OPERATING.md`), while backends come and go.
    #[test]
    fn the_pool_gives_turns_as_a_line_does(
        count in 0..9_u16,
        // Bit n: whether the n-th member is usable at this choice. Often the same, so that turns go round.
        moods in prop::collection::vec((any::<u8>(), 1..12_usize), 1..12),
    ) {
        let pool = Pool { members: (0..count).map(|member| BackendIndex(40 - member)).collect() };
        let mut line: VecDeque<(usize, BackendIndex)> = pool.members.iter().copied().enumerate().collect();
        let mut cursor = Cursor::default();
        for (mood, times) in moods {
            for _ in 0..times {
                let is_usable = |place: usize| place >= 8 || mood >> place & 1 == 1;
                let first = line.iter().position(|(place, _)| is_usable(*place));
                let expected = first.map(|first| {
                    line.rotate_left(first + 1);
                    line.back().expect("somebody was chosen").1
                });
                let calls = Cell::new(0);
                let chosen = cursor.choose(&pool, |member| {
                    calls.set(calls.get() + 1);
                    is_usable(usize::from(40 - member.0))
                });
                prop_assert_eq!(chosen, expected);
                prop_assert_eq!(calls.get(), first.map_or(pool.members.len(), |first| first + 1), "looks");
            }
        }
    }

    /// A snapshot may bring any other pool at the same place: the turn goes on somewhere in it, and round.
    #[test]
    fn a_pool_that_changed_still_gives_everyone_a_turn_in_as_many_choices_as_members(
        before in 0..9_u16, choices in 0..20_usize, after in 1..9_u16,
    ) {
        let pool = |count: u16| Pool { members: (0..count).map(BackendIndex).collect() };
        let (old, new) = (pool(before), pool(after));
        let mut cursor = Cursor::default();
        for _ in 0..choices {
            prop_assert_eq!(cursor.choose(&old, |_| true).is_some(), before > 0);
        }
        let mut chosen: Vec<u16> =
            (0..after).filter_map(|_| cursor.choose(&new, |_| true)).map(|backend| backend.0).collect();
        chosen.sort_unstable();
        prop_assert_eq!(chosen, (0..after).collect::<Vec<_>>());
    }
}
