//! Content and load: the few members that a content has by its hash are the candidates, and the least loaded of them is chosen. A
//! content is in few caches, yet none of its members has to take what it cannot.
//!
//! Needs a fresh report of each candidate: what it has open, on all lcores; what came and went since is taken in. Costs a look
//! into the table, some more until there are enough candidates, and a look at each of these. A table takes 128 KB per
//! lcore.

use super::least::{Score, first_usable};
use super::table::Table;
use super::{Ask, Choice, ContentAndLoadSettings, Policy, Reason, View};
use crate::policy::Member;

/// How many places are looked at for candidates.
const WALK_MAX: usize = 256;
/// Room for candidates.
const CANDIDATES_MAX: usize = ContentAndLoadSettings::CANDIDATES_MAX as usize;

/// Chooses among a content's members.
#[derive(Clone, Debug)]
pub(super) struct ContentAndLoad {
    table: Table,
    candidates: usize,
}

/// Some members, each once.
#[derive(Default)]
struct Candidates {
    members: [usize; CANDIDATES_MAX],
    count: usize,
}

impl Candidates {
    fn as_slice(&self) -> &[usize] {
        self.members.get(..self.count).unwrap_or_default()
    }

    fn add(&mut self, member: usize) {
        if !self.as_slice().contains(&member)
            && let Some(place) = self.members.get_mut(self.count)
        {
            *place = member;
            self.count += 1;
        }
    }
}

impl ContentAndLoad {
    pub(super) fn new(members: &[Member], settings: &ContentAndLoadSettings) -> Self {
        Self { table: Table::new(members, Table::PLACES), candidates: settings.candidates.into() }
    }

    fn candidates(&self, ask: &Ask<'_>, view: &View<'_>) -> Candidates {
        let mut candidates = Candidates::default();
        for member in self.table.walk(ask.key).take(WALK_MAX).filter(|member| view.is_usable(*member)) {
            candidates.add(member);
            if candidates.count == self.candidates {
                break;
            }
        }
        if candidates.count == 0 {
            first_usable(view, ask.key).into_iter().for_each(|member| candidates.add(member));
        }
        candidates
    }
}

impl Policy for ContentAndLoad {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let candidates = self.candidates(ask, view);
        let members = || candidates.as_slice().iter().filter_map(|at| Some((*at, view.members.get(*at)?)));
        let (reported, reason) = if members().all(|(_, member)| view.load(member.backend).is_some()) {
            (true, Reason::LeastLoadedCandidate)
        } else {
            (false, Reason::StaleReports)
        };
        let score = |member: &Member| {
            let tally = view.tally(member.backend);
            let open = match view.load(member.backend) {
                Some(load) if reported => tally.open(load.connections, view.lcores),
                _ => tally.connections.into(),
            };
            Score::of(open + 1, member)
        };
        // Equals in the order of the walk, so that a content stays where it was.
        let (member, _) = members().min_by(|(_, one), (_, other)| score(one).cmp(score(other)))?;
        Some(Choice { member, reason })
    }

    fn commit(&mut self, _: &Ask<'_>, _: &Choice, _: &View<'_>) {}
}
