//! How full backends are: whether one has room for another connection, and how much of a pool's room is taken.

use handoff_proto::Micros;

use crate::ids::BackendIndex;
use crate::policy::balance::Tally;
use crate::policy::{FULL_PERMILLE, Load, Member};
use crate::switch::Backend;

/// What an lcore knows of how full backends are: all lists by [`BackendIndex`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Fullness<'a> {
    /// The backends with their limits.
    pub(super) backends: &'a [Backend],
    /// What this lcore has given them.
    pub(super) tallies: &'a [Tally],
    /// What their agents report.
    pub(super) loads: &'a [Option<Load>],
    /// How many lcores give them connections.
    pub(super) lcores: u16,
    /// The time.
    pub(super) now: Micros,
}

impl Fullness<'_> {
    /// Returns how full a backend is, in thousandths: its fullest accept queue, or its connections beside their limit.
    pub(super) fn of(&self, backend: BackendIndex) -> u16 {
        let at = usize::from(backend.0);
        let load = self.loads.get(at).and_then(Option::as_ref).filter(|load| load.is_fresh(self.now));
        let queue = load.map_or(0, |load| load.accept_queue_permille);
        let Some(limit) = self.backends.get(at).and_then(|backend| backend.connections_max) else {
            return queue.min(FULL_PERMILLE);
        };
        let tally = self.tallies.get(at).copied().unwrap_or_default();
        // Without a report, what the other lcores have given it is as much as this one.
        let connections = match load {
            Some(load) => tally.open(load.connections, self.lcores),
            None => u64::from(tally.connections) * u64::from(self.lcores),
        };
        let share = connections.saturating_mul(FULL_PERMILLE.into()) / u64::from(limit.max(1));
        u16::try_from(share).unwrap_or(FULL_PERMILLE).max(queue).min(FULL_PERMILLE)
    }

    /// Says whether a backend has no room.
    pub(super) fn is_full(&self, backend: BackendIndex) -> bool {
        self.of(backend) >= FULL_PERMILLE
    }

    /// Returns how full the usable members of a pool are on average, in thousandths; 0 if there are none.
    pub(super) fn of_pool(&self, members: &[Member], usable: &dyn Fn(BackendIndex) -> bool) -> u16 {
        let usable = members.iter().filter(|member| usable(member.backend));
        let (sum, count) = usable
            .map(|member| u32::from(self.of(member.backend)))
            .fold((0_u32, 0_u32), |(sum, count), each| (sum + each, count + 1));
        sum.checked_div(count).and_then(|mean| u16::try_from(mean).ok()).unwrap_or(0)
    }
}
