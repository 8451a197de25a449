//! What one lcore knows for dispatch: the state of every pool's policy, what it has given each backend, what agents report, who is
//! let in. Without packets and flows: [`Dispatcher`] is asked and told.

use std::sync::Arc;

use handoff_proto::Micros;

use crate::entropy::Entropy;
use crate::flow::{Bond, Wanted};
use crate::ids::{BackendIndex, PoolIndex, RuleIndex};
use crate::metrics::{Counters, Event};
use crate::policy::balance::{Ask, Choice, Policy, Reason, Tally, View, client_key, value_key};
use crate::policy::{Action, Admission, Affinity, Load, Member, Pool, Request, Rule, Sessions, rendezvous};
use crate::switch::fullness::Fullness;
use crate::switch::{Renewal, Snapshot};

/// How old the fullness of a pool may be when somebody is let in by it.
const FULLNESS_AGE: Micros = Micros::from_millis(10);

/// What one lcore knows for dispatch.
#[derive(Debug)]
pub(super) struct Dispatcher {
    /// Per pool.
    policies: Vec<Box<dyn Policy>>,
    /// Per backend.
    tallies: Vec<Tally>,
    /// Per backend.
    loads: Arc<[Option<Load>]>,
    /// Per pool: how full it was, and when that was found.
    fullness: Vec<(Micros, u16)>,
    /// Per rule: how many requests it took since it has been in force.
    rule_hits: Vec<u64>,
    admission: Admission,
    sessions: Sessions,
    entropy: Entropy,
    lcores: u16,
}

/// A backend that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The backend.
    pub(super) backend: BackendIndex,
    /// Why it.
    pub(super) why: Why,
    /// What the policy chose; `None` if it was not asked.
    choice: Option<Choice>,
    /// Whether full backends were among those it could choose, since all are.
    among_full: bool,
}

/// Why a backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The pool's policy says so.
    Policy(Reason),
    /// The client's address or its cookie belongs to it.
    Hash,
    /// The cookie names it, or it made the TLS session.
    Owner,
}

impl Chosen {
    /// Counts the choice.
    pub(super) fn count(&self, snapshot: &Snapshot, wanted: &Wanted, counters: &Counters) {
        counters.count_handoff(self.backend);
        let pool = snapshot.pools.get(usize::from(wanted.pool.0));
        let by_session = pool.is_some_and(|pool| pool.affinity == Some(Affinity::TlsSession));
        match self.why {
            Why::Policy(Reason::StaleReports) => counters.count(Event::StaleReports),
            Why::Policy(_) => {}
            Why::Hash if by_session => counters.count(Event::SessionsUnknown),
            Why::Hash => counters.count(Event::BoundByHash),
            Why::Owner if by_session => counters.count(Event::SessionsFound),
            Why::Owner => counters.count(Event::BoundByRoute),
        }
    }
}

impl Why {
    /// Says it to an operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Policy(reason) => reason.text(),
            Self::Hash => "what the pool is sticky by belongs to it",
            Self::Owner => "what the pool is sticky by names it",
        }
    }
}

impl Dispatcher {
    /// Allocates what does not depend on the configuration.
    pub(super) fn new(lcore_count: u8, entropy: &mut Entropy) -> Self {
        Self {
            policies: Vec::new(),
            tallies: Vec::new(),
            loads: Arc::new([]),
            fullness: Vec::new(),
            rule_hits: Vec::new(),
            admission: Admission::new(lcore_count),
            sessions: Sessions::new(entropy.key()),
            entropy: Entropy::from_seed(entropy.bits()),
            lcores: u16::from(lcore_count).max(1),
        }
    }

    /// Goes by `new` from now on. What was learned of a pool stays unless `renewal` has other state for it. Returns the state that
    /// is needed no more.
    pub(super) fn renew(&mut self, new: &Snapshot, mut renewal: Renewal) -> Vec<Box<dyn Policy>> {
        let mut retired = Vec::with_capacity(self.policies.len());
        let mut known = core::mem::take(&mut self.policies).into_iter();
        let renewed = new.pools.iter().enumerate().map(|(position, pool)| {
            match (known.next(), renewal.take_policy(position)) {
                (Some(known), None) => known,
                (known, Some(fresh)) => {
                    retired.extend(known);
                    fresh
                }
                (None, None) => {
                    debug_assert!(false, "a renewal has the policy of every pool that is new");
                    pool.policy.build(&pool.members)
                }
            }
        });
        self.policies = renewed.collect();
        retired.extend(known);
        self.tallies.resize(new.backends.len().max(self.tallies.len()), Tally::default());
        self.fullness.clear();
        self.fullness.resize(new.pools.len(), (Micros(0), 0));
        self.admission.set_classes(&new.classes, new.overload);
        if renewal.rules_differ() {
            self.rule_hits.clear();
        }
        self.rule_hits.resize(new.rules.len(), 0);
        retired
    }

    /// Takes the newest reports, by backend.
    pub(super) fn take_loads(&mut self, loads: Arc<[Option<Load>]>) {
        for (position, tally) in self.tallies.iter_mut().enumerate() {
            let reported = |loads: &[Option<Load>]| {
                loads.get(position).copied().flatten().map_or(Micros(0), |load| load.reported)
            };
            if reported(&loads) != reported(&self.loads) {
                tally.dispatched = 0;
                tally.connections_at_report = tally.connections;
            }
        }
        self.loads = loads;
    }

    /// Remembers who made a TLS session.
    pub(super) fn learn_session(&mut self, id: &[u8], backend: BackendIndex, now: Micros) {
        self.sessions.learn(id, backend, now);
    }

    /// Notes that a backend has a connection more.
    pub(super) fn begin(&mut self, backend: BackendIndex, session_weight: u16) {
        if let Some(tally) = self.tallies.get_mut(usize::from(backend.0)) {
            tally.connections = tally.connections.saturating_add(1);
            tally.session_weight = tally.session_weight.saturating_add(session_weight.into());
        }
    }

    /// Notes that a backend has a connection less.
    pub(super) fn end(&mut self, backend: BackendIndex, session_weight: u16) {
        if let Some(tally) = self.tallies.get_mut(usize::from(backend.0)) {
            debug_assert!(tally.connections > 0, "a connection ended twice");
            tally.connections = tally.connections.saturating_sub(1);
            tally.session_weight = tally.session_weight.saturating_sub(session_weight.into());
        }
    }

    /// Returns what this lcore has given each backend.
    pub(super) fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// Returns how many requests each rule took.
    pub(super) fn rule_hits(&self) -> &[u64] {
        &self.rule_hits
    }

    /// Counts a request for the rule that took it.
    pub(super) fn count_rule(&mut self, rule: RuleIndex) {
        if let Some(hits) = self.rule_hits.get_mut(usize::from(rule.0)) {
            *hits = hits.wrapping_add(1);
        }
    }

    /// Finds out what a pool goes by in a request.
    pub(super) fn wanted(
        &self,
        snapshot: &Snapshot,
        request: &Request<'_>,
        rule: &Rule,
        now: Micros,
    ) -> Option<Wanted> {
        let Action::Dispatch(index) = rule.action else { return None };
        let pool = snapshot.pools.get(usize::from(index.0))?;
        let class = snapshot.classes.get(usize::from(rule.class.0)).copied().unwrap_or_default();
        let (bond, key) = self.bond(pool, request, now);
        Some(Wanted { pool: index, class: rule.class, session_weight: class.weight, bond, key })
    }

    /// Finds out what binds a request to a backend, and the key its choice goes by.
    fn bond(&self, pool: &Pool, request: &Request<'_>, now: Micros) -> (Bond, u64) {
        let client = client_key(request.client);
        let free = || {
            let hash_on = pool.policy.hash_on();
            (Bond::Free, hash_on.and_then(|hash_on| hash_on.key(request)).unwrap_or(client))
        };
        match &pool.affinity {
            None => free(),
            Some(Affinity::Client) => (Bond::Hash, client),
            Some(Affinity::Cookie { name }) => match request.http().and_then(|http| http.cookie(name)) {
                Some(value) => (Bond::Hash, value_key(value)),
                None => free(),
            },
            Some(Affinity::CookieRoute { name, labels }) => {
                let value = request.http().and_then(|http| http.cookie(name));
                let owner = value.and_then(|value| {
                    let label = value.rsplit(|byte| *byte == b'.').next()?;
                    labels.iter().find(|(known, _)| known.as_bytes() == label).map(|(_, backend)| *backend)
                });
                owner.map_or_else(free, |backend| (Bond::Owner(backend), client))
            }
            Some(Affinity::TlsSession) => {
                let id = request.tls().map_or(&[][..], |tls| tls.session_id);
                match self.sessions.owner(id, now) {
                    Some(backend) => (Bond::Owner(backend), client),
                    None => (Bond::Hash, client),
                }
            }
        }
    }

    /// Chooses a backend for which `usable` holds; prefers one that is not full. Changes nothing.
    pub(super) fn choose(
        &self,
        snapshot: &Snapshot,
        wanted: &Wanted,
        path: Option<&str>,
        usable: &dyn Fn(BackendIndex) -> bool,
        now: Micros,
    ) -> Option<Chosen> {
        let fullness = self.fullness_at(snapshot, now);
        let with_room = |backend: BackendIndex| usable(backend) && !fullness.is_full(backend);
        self.choose_among(snapshot, wanted, path, &with_room, now).or_else(|| {
            let chosen = self.choose_among(snapshot, wanted, path, usable, now)?;
            Some(Chosen { among_full: true, ..chosen })
        })
    }

    fn choose_among(
        &self,
        snapshot: &Snapshot,
        wanted: &Wanted,
        path: Option<&str>,
        usable: &dyn Fn(BackendIndex) -> bool,
        now: Micros,
    ) -> Option<Chosen> {
        let position = usize::from(wanted.pool.0);
        let pool = snapshot.pools.get(position)?;
        if let Bond::Owner(backend) = wanted.bond
            && usable(backend)
            && pool.contains(backend)
        {
            return Some(Chosen { backend, why: Why::Owner, choice: None, among_full: false });
        }
        if wanted.bond != Bond::Free {
            let member = rendezvous::owner(wanted.key, &pool.members, usable)?;
            let backend = pool.members.get(member)?.backend;
            return Some(Chosen { backend, why: Why::Hash, choice: None, among_full: false });
        }
        let view = self.view(&pool.members, usable, now);
        let choice = self.policies.get(position)?.choose(&self.ask(wanted, path), &view)?;
        let backend = pool.members.get(choice.member)?.backend;
        Some(Chosen { backend, why: Why::Policy(choice.reason), choice: Some(choice), among_full: false })
    }

    /// Chooses a backend as [`Dispatcher::choose`] does, and notes that the request goes there.
    pub(super) fn give(
        &mut self,
        snapshot: &Snapshot,
        wanted: &Wanted,
        path: Option<&str>,
        usable: &dyn Fn(BackendIndex) -> bool,
        now: Micros,
    ) -> Option<Chosen> {
        let chosen = self.choose(snapshot, wanted, path, usable, now)?;
        let position = usize::from(wanted.pool.0);
        let ask = self.ask(wanted, path);
        let Self { policies, tallies, loads, lcores, .. } = self;
        let lcores = *lcores;
        if let Some(choice) = &chosen.choice
            && let Some(pool) = snapshot.pools.get(position)
            && let Some(policy) = policies.get_mut(position)
        {
            // As it was seen when it was chosen: who was passed over for being full has not had its turn.
            let fullness = Fullness { backends: &snapshot.backends, tallies, loads, lcores, now };
            let could_be =
                |backend: BackendIndex| usable(backend) && (chosen.among_full || !fullness.is_full(backend));
            let view = View { now, lcores, members: &pool.members, usable: &could_be, tallies, loads };
            policy.commit(&ask, choice, &view);
        }
        if let Some(tally) = self.tallies.get_mut(usize::from(chosen.backend.0)) {
            tally.dispatched = tally.dispatched.saturating_add(1);
        }
        self.entropy.bits();
        Some(chosen)
    }

    fn ask<'a>(&self, wanted: &Wanted, path: Option<&'a str>) -> Ask<'a> {
        let Wanted { class, session_weight, key, .. } = *wanted;
        Ask { key, class, session_weight, path, entropy: self.entropy.clone().bits() }
    }

    fn view<'a>(
        &'a self,
        members: &'a [Member],
        usable: &'a dyn Fn(BackendIndex) -> bool,
        now: Micros,
    ) -> View<'a> {
        View { now, lcores: self.lcores, members, usable, tallies: &self.tallies, loads: &self.loads }
    }

    fn fullness_at<'a>(&'a self, snapshot: &'a Snapshot, now: Micros) -> Fullness<'a> {
        let Self { tallies, loads, lcores, .. } = self;
        Fullness { backends: &snapshot.backends, tallies, loads, lcores: *lcores, now }
    }

    /// Returns how full the usable backends of a pool are on average, in thousandths; 0 for a pool without any.
    pub(super) fn fullness(
        &self,
        snapshot: &Snapshot,
        pool: PoolIndex,
        usable: &dyn Fn(BackendIndex) -> bool,
        now: Micros,
    ) -> u16 {
        let pool = snapshot.pools.get(usize::from(pool.0));
        pool.map_or(0, |pool| self.fullness_at(snapshot, now).of_pool(&pool.members, usable))
    }

    /// Says whether a request is let in, and takes it out of its class's guarantee. A pool's fullness is found anew every 10 ms.
    pub(super) fn admit(
        &mut self,
        snapshot: &Snapshot,
        wanted: &Wanted,
        usable: &dyn Fn(BackendIndex) -> bool,
        now: Micros,
    ) -> bool {
        let known = self.fullness.get(usize::from(wanted.pool.0)).copied();
        let permille = match known {
            Some((at, permille)) if at.0 > 0 && now.since(at) < FULLNESS_AGE => permille,
            _ => self.fullness(snapshot, wanted.pool, usable, now),
        };
        if let Some(place) = self.fullness.get_mut(usize::from(wanted.pool.0))
            && known.is_none_or(|(at, _)| at.0 == 0 || now.since(at) >= FULLNESS_AGE)
        {
            *place = (now, permille);
        }
        self.admission.admit(wanted.class, permille, now)
    }

    /// Says what [`Dispatcher::admit`] would say, and changes nothing.
    pub(super) fn would_admit(&self, wanted: &Wanted, fullness_permille: u16, now: Micros) -> bool {
        self.admission.would_admit(wanted.class, fullness_permille, now)
    }
}
