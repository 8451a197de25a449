//! Ordered rules: the first whose conditions all hold says what becomes of the request.

mod client;
mod conditions;
mod cookie;
mod header;
mod host;
mod index;
mod method;
mod path;
mod protocol;
mod query;
mod regex;
mod service;
mod trie;
mod value;

pub use client::{ClientNetworks, NETWORK_COUNT_MAX, NetworkError};
pub use conditions::Conditions;
pub use cookie::CookieMatch;
pub use header::HeaderMatch;
pub use host::{HOST_BYTES_MAX, HostError, HostMatch};
pub use method::{METHOD_COUNT_MAX, MethodError, Methods};
pub use path::{PATH_BYTES_MAX, PathError, PathMatch, SUFFIX_COUNT_MAX, Suffixes};
pub use protocol::{ProtocolError, ProtocolMatch};
pub use query::{QueryMatch, parameters};
pub use regex::{PATTERN_BYTES_MAX, PathRegex, RegexError, TABLE_BYTES_MAX};
pub use service::{FILE_TYPES, PROGRAM_TYPES, Service, VIDEO_TYPES};
pub use value::{Allowed, FIELD_NAME_BYTES_MAX, FIELD_VALUE_BYTES_MAX, FieldError, ValueMatch};

use std::sync::Arc;

use self::index::{Index, Keys};
use crate::ids::{AnswerIndex, ClassIndex, PoolIndex, RuleIndex};
use crate::policy::Request;

/// Most rules there may be. Finding one does not take longer for it; with a host and a path they take about 1 KB each.
pub const RULE_COUNT_MAX: usize = 65_535;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to a backend of this pool.
    Dispatch(PoolIndex),
    /// The switch answers it itself.
    Answer(AnswerIndex),
}

/// Conditions, and what becomes of requests for which they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// When it applies.
    pub conditions: Conditions,
    /// The service class of such requests.
    pub class: ClassIndex,
    /// What becomes of them.
    pub action: Action,
}

impl Rule {
    /// Makes a rule that sends requests to a pool, in no class of their own.
    pub fn to_pool(conditions: Conditions, pool: PoolIndex) -> Self {
        Self { conditions, class: ClassIndex::default(), action: Action::Dispatch(pool) }
    }

    /// Returns the pool requests go to, unless the switch answers them itself.
    pub const fn pool(&self) -> Option<PoolIndex> {
        match self.action {
            Action::Dispatch(pool) => Some(pool),
            Action::Answer(_) => None,
        }
    }
}

/// The rules in their order, and the ways to them. Copies share both.
#[derive(Clone, Debug)]
pub struct Rules(Arc<Indexed>);

#[derive(Debug, Default)]
struct Indexed {
    rules: Vec<Rule>,
    index: Index,
}

impl Rules {
    /// Takes the rules in their order: up to [`RULE_COUNT_MAX`], which whoever makes them must see to; those behind are
    /// never found.
    pub fn new(mut rules: Vec<Rule>) -> Self {
        debug_assert!(rules.len() <= RULE_COUNT_MAX, "{} rules", rules.len());
        rules.truncate(RULE_COUNT_MAX);
        let index = Index::new((0..=u16::MAX).zip(rules.iter().map(|rule| &rule.conditions)));
        Self(Arc::new(Indexed { rules, index }))
    }

    /// Returns the first rule whose conditions hold.
    ///
    /// Rules for other VIPs, hosts, server names and paths are not looked at, however many there are; those that name none of
    /// them are looked at until one is found. Nothing is allocated.
    pub fn find(&self, request: &Request<'_>) -> Option<(RuleIndex, &Rule)> {
        self.search(request, |_| {})
    }

    /// Finds as [`find`](Self::find) does, and gives the position of each rule whose conditions are looked at.
    fn search(&self, request: &Request<'_>, mut tried: impl FnMut(u16)) -> Option<(RuleIndex, &Rule)> {
        let Indexed { rules, index } = &*self.0;
        let mut found: Option<(u16, &Rule)> = None;
        index.lists(&Keys::of_request(request), |list| {
            for position in list.iter().copied() {
                if found.is_some_and(|(first, _)| first <= position) {
                    return; // and so is all that follows in this list
                }
                let Some(rule) = rules.get(usize::from(position)) else { return };
                tried(position);
                if rule.conditions.hold(request) {
                    found = Some((position, rule));
                    return;
                }
            }
        });
        found.map(|(position, rule)| (RuleIndex(position), rule))
    }

    /// Returns the rules that are never reached, each with the first one before it that takes all its requests (see
    /// [`Conditions::covers`]). It may look at every pair of rules, and gives up after `comparisons_max` of them: what it has
    /// found by then is right, and may not be all.
    pub fn unreached(&self, comparisons_max: usize) -> Vec<(RuleIndex, RuleIndex)> {
        let Indexed { rules, index } = &*self.0;
        let mut left = comparisons_max;
        let mut unreached = Vec::new();
        for (position, later) in (0..=u16::MAX).zip(rules) {
            let mut first: Option<u16> = None;
            index.lists(&Keys::of_conditions(&later.conditions), |list| {
                let end = first.unwrap_or(position);
                for earlier in list.iter().copied().take_while(|earlier| *earlier < end) {
                    let Some(next) = left.checked_sub(1) else { return };
                    left = next;
                    let covers = |rule: &Rule| rule.conditions.covers(&later.conditions);
                    if rules.get(usize::from(earlier)).is_some_and(covers) {
                        first = Some(earlier);
                        return;
                    }
                }
            });
            unreached.extend(first.map(|earlier| (RuleIndex(position), RuleIndex(earlier))));
        }
        unreached
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.rules.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.rules.is_empty()
    }

    /// Returns the rules in their order.
    pub fn iter(&self) -> core::slice::Iter<'_, Rule> {
        self.0.rules.iter()
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        // Every snapshot shares them until they change.
        Arc::ptr_eq(&self.0, &other.0) || self.0.rules == other.0.rules
    }
}

impl Eq for Rules {}

#[cfg(test)]
mod tests;
