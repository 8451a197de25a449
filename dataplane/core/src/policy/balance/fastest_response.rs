//! Fastest response (RFC 2391, section 5.5): the member whose requests are answered soonest.
//!
//! The response time is that of real requests, from request in to first byte out, as the agents report it; nobody pings. It
//! is old news, and whoever is fastest when nobody asks would be stormed by all: so what a member was given lately
//! counts against it, and between reports members get requests in inverse proportion to their response times. One without
//! a time, since nobody asked it, is asked.
//!
//! A report has the time of what was answered since the one before. A member that takes longer to answer than reports take to come
//! has none in many of them: meanwhile the last time it had counts, or it would be taken for an average one.
//!
//! Needs a fresh report of each usable member. Costs some looks at each member.

use handoff_proto::Micros;

use super::least::{Score, around, least};
use super::least_connections::by_own_counts;
use super::{Ask, Choice, Policy, Reason, View};
use crate::policy::Member;

/// Chooses by reported response times.
#[derive(Clone, Debug)]
pub(super) struct FastestResponse {
    /// What each member was given lately, by position.
    lately: Box<[Lately]>,
    /// The last time that was seen in a report of each member, by position.
    last: Box<[Option<Micros>]>,
}

/// Half of what was given counts no more after this time. About as long as a report takes to tell what came of it.
const HALF_LIFE: Micros = Micros::from_millis(100);
/// What one request counts: enough that halves of it are not lost.
const REQUEST: u64 = 1 << 10;

/// Requests, of which half are forgotten every [`HALF_LIFE`].
#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    amount: u64,
    at: Micros,
}

impl Lately {
    /// What is left of it: halved for each whole half-life, and on a straight line in between.
    fn amount(self, now: Micros) -> u64 {
        let age = now.since(self.at).0;
        let halvings = u32::try_from(age / HALF_LIFE.0).unwrap_or(u32::MAX);
        let amount = self.amount.checked_shr(halvings).unwrap_or(0);
        amount - amount.saturating_mul(age % HALF_LIFE.0) / (2 * HALF_LIFE.0)
    }
}

impl FastestResponse {
    pub(super) fn new(members: usize) -> Self {
        Self { lately: vec![Lately::default(); members].into(), last: vec![None; members].into() }
    }

    /// The response time of a member: that of its report, or the last that one had.
    fn response(&self, at: usize, view: &View<'_>) -> Option<Micros> {
        let reported = view.members.get(at).and_then(|member| view.load(member.backend)?.response);
        reported.or_else(|| self.last.get(at).copied().flatten())
    }

    /// Finds a member whose last report has no time, and which was given nothing since.
    fn untried(ask: &Ask<'_>, view: &View<'_>) -> Option<usize> {
        let is_untried = |member: &Member| {
            view.tally(member.backend).dispatched == 0
                && view.load(member.backend).is_some_and(|load| load.response.is_none())
        };
        around(view.members.len(), ask.entropy).find(|at| view.usable_member(*at).is_some_and(is_untried))
    }
}

impl Policy for FastestResponse {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        if !view.has_all_reports() {
            return by_own_counts(ask, view, Reason::StaleReports);
        }
        if let Some(member) = Self::untried(ask, view) {
            return Some(Choice { member, reason: Reason::Untried });
        }
        let response = |at: usize| self.response(at, view);
        let (sum, count) = (0..view.members.len())
            .filter(|at| view.is_usable(*at))
            .filter_map(response)
            .fold((0_u64, 0), |(sum, count), time| (sum.saturating_add(time.0), count + 1));
        // Who is tried for the first time counts as average until something is known.
        let average = sum.checked_div(count).unwrap_or(1);
        let member = least(view, ask.entropy, |at, member| {
            let lately = self.lately.get(at).map_or(0, |lately| lately.amount(view.now));
            let each = response(at).map_or(average, |time| time.0).max(1);
            Score::of(each.saturating_mul(lately.saturating_add(REQUEST)), member)
        })?;
        Some(Choice { member, reason: Reason::FastestResponse })
    }

    fn commit(&mut self, _: &Ask<'_>, choice: &Choice, view: &View<'_>) {
        for at in 0..view.members.len() {
            let response = self.response(at, view);
            if let Some(last) = self.last.get_mut(at) {
                *last = response;
            }
        }
        if let Some(lately) = self.lately.get_mut(choice.member) {
            *lately = Lately { amount: lately.amount(view.now).saturating_add(REQUEST), at: view.now };
        }
    }
}
