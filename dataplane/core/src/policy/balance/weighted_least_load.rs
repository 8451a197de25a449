//! Least weighted load (RFC 2391, section 5.4): sessions are weighed by what their class is likely to cost, hosts by what they
//! can do; the member with the least for its weight is chosen.
//!
//! Needs to know the weights of classes and members, and what this lcore has open, which it counts itself. With
//! `host_weights = "reported"` a member weighs less the more of its processor, memory or accept queue is in use, for which a
//! fresh report of each usable member is needed. Costs a look at each member, with reports two.

use super::least::{Score, least};
use super::{Ask, Choice, HostWeights, Policy, Reason, View};
use crate::policy::Load;

/// Chooses by weighed sessions.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightedLeastLoad {
    weights: HostWeights,
}

/// A host in full use still counts for this much, in thousandths: its sessions end, and reports of full use are no refusal.
const FREE_PERMILLE_MIN: u64 = 50;

impl WeightedLeastLoad {
    pub(super) fn new(weights: HostWeights) -> Self {
        Self { weights }
    }
}

/// What of a host is not in use, in thousandths: of whatever is scarcest.
fn free_permille(load: &Load) -> u64 {
    let used = load.cpu_permille.max(load.memory_permille).max(load.accept_queue_permille);
    1000_u64.saturating_sub(used.into()).max(FREE_PERMILLE_MIN)
}

impl Policy for WeightedLeastLoad {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let (by_reports, reason) = match self.weights {
            HostWeights::Configured => (false, Reason::LeastLoad),
            HostWeights::Reported if view.has_all_reports() => (true, Reason::LeastLoad),
            HostWeights::Reported => (false, Reason::StaleReports),
        };
        let member = least(view, ask.entropy, |_, member| {
            let sessions =
                view.tally(member.backend).session_weight.saturating_add(ask.session_weight.into());
            let mut score = Score::of(sessions, member);
            if by_reports {
                score.weight *= view.load(member.backend).map_or(FREE_PERMILLE_MIN, free_permille);
            }
            score
        })?;
        Some(Choice { member, reason })
    }

    fn commit(&mut self, _: &Ask<'_>, _: &Choice, _: &View<'_>) {}
}
