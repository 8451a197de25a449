//! A pool under a policy, with what a switch keeps beside it.

use baton_core::Entropy;
use baton_core::ids::{BackendIndex, ClassIndex};
use baton_core::policy::balance::{Ask, Choice, Policy, PolicySettings, Reason, Tally, View};
use baton_core::policy::{Load, Member};
use handoff_proto::Micros;

pub(crate) const START: Micros = Micros::from_secs(1_800_000_000);
pub(crate) const ASK: Ask<'static> =
    Ask { key: 0, class: ClassIndex(0), session_weight: 1, path: None, entropy: 0 };

pub(crate) struct Pool {
    policy: Box<dyn Policy>,
    pub(crate) members: Vec<Member>,
    /// Where a backend is among the members.
    positions: Vec<Option<usize>>,
    pub(crate) usable: Vec<bool>,
    pub(crate) now: Micros,
    pub(crate) lcores: u16,
    /// By backend, as in the switch.
    tallies: Vec<Tally>,
    loads: Vec<Option<Load>>,
    entropy: Entropy,
}

/// Backends are not numbered as members are: who takes one for the other is found out.
pub(crate) fn member(number: usize, weight: u16) -> Member {
    let backend = BackendIndex(u16::try_from(2 * number + 1).expect("few"));
    Member { backend, weight, identity: Member::identity_of(&format!("backend-{number}")) }
}

pub(crate) fn members(weights: &[u16]) -> Vec<Member> {
    weights.iter().enumerate().map(|(number, weight)| member(number, *weight)).collect()
}

impl Pool {
    pub(crate) fn new(policy: &PolicySettings, weights: &[u16]) -> Self {
        Self::of(policy, members(weights))
    }

    pub(crate) fn of(policy: &PolicySettings, members: Vec<Member>) -> Self {
        let backends = members.iter().map(|member| usize::from(member.backend.0) + 1).max().unwrap_or(0);
        let mut positions = vec![None; backends];
        for (position, member) in members.iter().enumerate() {
            positions[usize::from(member.backend.0)] = Some(position);
        }
        Self {
            policy: policy.build(&members),
            positions,
            usable: vec![true; members.len()],
            members,
            now: START,
            lcores: 1,
            tallies: vec![Tally::default(); backends],
            loads: vec![None; backends],
            entropy: Entropy::from_seed(7),
        }
    }

    pub(crate) fn tally(&mut self, member: usize) -> &mut Tally {
        &mut self.tallies[usize::from(self.members[member].backend.0)]
    }

    pub(crate) fn connections(&self, member: usize) -> u32 {
        self.tallies[usize::from(self.members[member].backend.0)].connections
    }

    /// A report that comes now.
    pub(crate) fn report(&mut self, member: usize, load: Load) {
        let backend = usize::from(self.members[member].backend.0);
        self.loads[backend] = Some(Load { reported: self.now, ..load });
        self.tallies[backend].dispatched = 0;
        self.tallies[backend].connections_at_report = self.tallies[backend].connections;
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.entropy.bits()
    }

    fn look<T>(&mut self, act: impl FnOnce(&mut dyn Policy, &View<'_>) -> T) -> T {
        let Self { policy, members, positions, usable, now, lcores, tallies, loads, .. } = self;
        let is_usable = |backend: BackendIndex| {
            positions[usize::from(backend.0)].is_some_and(|position| usable[position])
        };
        act(
            policy.as_mut(),
            &View { now: *now, lcores: *lcores, members, usable: &is_usable, tallies, loads },
        )
    }

    /// Who would get it. Asking changes nothing.
    pub(crate) fn peek(&mut self, ask: Ask<'_>) -> Option<Choice> {
        self.look(|policy, view| {
            let choice = policy.choose(&ask, view);
            assert_eq!(policy.choose(&ask, view), choice, "a choice alone changes nothing");
            assert!(choice.is_none_or(|choice| view.is_usable(choice.member)), "{choice:?}");
            choice
        })
    }

    /// Gives it to whoever is chosen; the connection stays open.
    pub(crate) fn try_give(&mut self, ask: Ask<'_>) -> Option<Choice> {
        let choice = self.peek(ask)?;
        self.look(|policy, view| policy.commit(&ask, &choice, view));
        let tally = self.tally(choice.member);
        tally.connections += 1;
        tally.dispatched += 1;
        tally.session_weight += u64::from(ask.session_weight);
        Some(choice)
    }

    pub(crate) fn give(&mut self, ask: Ask<'_>) -> (usize, Reason) {
        let entropy = self.entropy.bits();
        let choice = self.try_give(Ask { entropy, ..ask }).expect("somebody is usable");
        (choice.member, choice.reason)
    }

    /// Who gets each of some requests.
    pub(crate) fn give_all<'a>(&mut self, asks: impl IntoIterator<Item = Ask<'a>>) -> Vec<usize> {
        let mut counts = vec![0; self.members.len()];
        asks.into_iter().for_each(|ask| counts[self.give(ask).0] += 1);
        counts
    }

    pub(crate) fn end(&mut self, member: usize, session_weight: u16) {
        let tally = self.tally(member);
        tally.connections -= 1;
        tally.session_weight -= u64::from(session_weight);
    }
}

/// Asks with as many different keys.
pub(crate) fn keys(count: usize) -> impl Iterator<Item = Ask<'static>> {
    let mut entropy = Entropy::from_seed(11);
    core::iter::repeat_with(move || Ask { key: entropy.bits(), ..ASK }).take(count)
}

/// Says whether a count is that expected, but for so many percent.
pub(crate) fn is_near(count: usize, expected: usize, percent: usize) -> bool {
    count.abs_diff(expected) * 100 <= expected * percent
}
