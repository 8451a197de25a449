//! Least traffic (RFC 2391, section 5.3): the member with the fewest bytes, or packets, per second for its weight.
//!
//! Needs a fresh report of each usable member. A report is old news: until the next, what was given to a member since is
//! added, each connection at the average of the pool. Costs two looks at each member.

use super::least::{Score, least};
use super::least_connections::by_own_counts;
use super::{Ask, Choice, Policy, Reason, TrafficUnit, View};
use crate::policy::Load;

/// Chooses by reported traffic.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeastTraffic {
    unit: TrafficUnit,
}

/// Traffic is counted in fractions of a byte or packet, so that the average of a connection is not rounded away.
const FRACTIONS: u64 = 1 << 10;

impl LeastTraffic {
    pub(super) fn new(unit: TrafficUnit) -> Self {
        Self { unit }
    }

    fn traffic(self, load: &Load) -> u64 {
        let per_s = match self.unit {
            TrafficUnit::Bytes => load.bytes_per_s,
            TrafficUnit::Packets => load.packets_per_s,
        };
        per_s.saturating_mul(FRACTIONS)
    }

    /// What one more connection brings: the pool's traffic by its connections, those of the reports or those given since,
    /// whichever are more: where connections are short, few are open when a report is made. `None` without all reports.
    fn per_connection(self, view: &View<'_>) -> Option<u64> {
        let (mut traffic, mut open, mut given) = (0_u64, 0_u64, 0_u64);
        for member in view.usable_members() {
            let load = view.load(member.backend)?;
            traffic = traffic.saturating_add(self.traffic(load));
            open = open.saturating_add(load.connections.into());
            given = given.saturating_add(view.given_since_report(member.backend));
        }
        // Where nothing was measured at all the connections themselves decide.
        Some((traffic / open.max(given).max(1)).max(1))
    }
}

impl Policy for LeastTraffic {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let Some(each) = self.per_connection(view) else {
            return by_own_counts(ask, view, Reason::StaleReports);
        };
        let member = least(view, ask.entropy, |_, member| {
            let reported = view.load(member.backend).map_or(u64::MAX, |load| self.traffic(load));
            let since = view.given_since_report(member.backend).saturating_mul(each);
            Score::of(reported.saturating_add(since), member)
        })?;
        Some(Choice { member, reason: Reason::LeastTraffic })
    }

    fn commit(&mut self, _: &Ask<'_>, _: &Choice, _: &View<'_>) {}
}
