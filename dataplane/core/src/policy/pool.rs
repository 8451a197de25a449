//! Pools of backends, and round robin among them.

use crate::ids::BackendIndex;

/// Backends that can serve the same requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Its backends, in the configured order.
    pub members: Vec<BackendIndex>,
}

/// Where round robin stands in one pool. Each lcore has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(usize);

impl Cursor {
    /// Chooses the next member for which `usable` holds and moves behind it; `None` if it holds for none.
    ///
    /// Round robin (RFC 2391, section 5.1). Costs one call of `usable` per member passed over.
    pub fn choose(&mut self, pool: &Pool, usable: impl Fn(BackendIndex) -> bool) -> Option<BackendIndex> {
        let count = pool.members.len();
        let (before, from_here) = pool.members.split_at(self.0.checked_rem(count)?);
        let in_turn = from_here.iter().chain(before);
        let (passed, chosen) = in_turn.enumerate().find(|(_, member)| usable(**member))?;
        self.0 = (self.0 % count + passed + 1) % count;
        Some(*chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u16) -> Pool {
        Pool { members: (0..count).map(BackendIndex).collect() }
    }

    #[test]
    fn each_usable_member_gets_its_turn_within_one_of_the_others() {
        let pool = pool(5);
        let mut cursor = Cursor::default();
        let mut turns = [0; 5];
        for _ in 0..1003 {
            let chosen = cursor.choose(&pool, |member| member.0 != 2).expect("four are usable");
            turns[usize::from(chosen.0)] += 1;
        }
        assert_eq!(turns[2], 0);
        let busy = [turns[0], turns[1], turns[3], turns[4]];
        assert!(busy.iter().all(|count| (250..=251).contains(count)), "{turns:?}");
    }

    #[test]
    fn a_pool_without_usable_members_gives_none_and_a_shrunk_pool_no_panic() {
        let mut cursor = Cursor(7);
        assert_eq!(cursor.choose(&pool(0), |_| true), None);
        assert_eq!(cursor.choose(&pool(3), |_| false), None);
        assert_eq!(cursor.choose(&pool(3), |_| true), Some(BackendIndex(1)));
    }
}
