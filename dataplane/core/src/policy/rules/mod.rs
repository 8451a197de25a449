//! Ordered rules: the first whose conditions all hold says what becomes of the request.

mod client;
mod conditions;
mod cookie;
mod header;
mod host;
mod method;
mod path;
mod protocol;
mod query;
mod regex;
mod service;
mod value;

pub use client::{ClientNetworks, NETWORK_COUNT_MAX, NetworkError};
pub use conditions::Conditions;
pub use cookie::CookieMatch;
pub use header::HeaderMatch;
pub use host::{HOST_BYTES_MAX, HostError, HostMatch};
pub use method::{METHOD_COUNT_MAX, MethodError, Methods};
pub use path::{PATH_BYTES_MAX, PathError, PathMatch};
pub use protocol::{ProtocolError, ProtocolMatch};
pub use query::{QueryMatch, parameters};
pub use regex::{PATTERN_BYTES_MAX, PathRegex, RegexError, TABLE_BYTES_MAX};
pub use service::{FILE_TYPES, PROGRAM_TYPES, Service, VIDEO_TYPES};
pub use value::{Allowed, FIELD_NAME_BYTES_MAX, FIELD_VALUE_BYTES_MAX, FieldError, ValueMatch};

use crate::ids::{AnswerIndex, ClassIndex, PoolIndex, RuleIndex};
use crate::policy::Request;

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

/// The rules in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Takes the rules in their order.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// Returns the first rule whose conditions hold.
    pub fn find(&self, request: &Request<'_>) -> Option<(RuleIndex, &Rule)> {
        (0..).map(RuleIndex).zip(&self.0).find(|(_, rule)| rule.conditions.hold(request))
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the rules in their order.
    pub fn iter(&self) -> core::slice::Iter<'_, Rule> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::ids::VipIndex;
    use crate::policy::{Content, Http};

    fn rule(vip: Option<u16>, host: Option<&str>, path: Option<&str>, pool: u16) -> Rule {
        let conditions = Conditions {
            vip: vip.map(VipIndex),
            host: host.map(|name| HostMatch::new(name).expect("a name")),
            path: path.map(|prefix| PathMatch::prefix(prefix).expect("a path")),
            ..Conditions::default()
        };
        Rule::to_pool(conditions, PoolIndex(pool))
    }

    fn ask<'a>(vip: u16, host: Option<&'a str>, path: &'a str) -> Request<'a> {
        let content = Content::Http(Http { method: "GET", host, path, query: None, fields: &[] });
        Request { vip: VipIndex(vip), client: IpAddr::V4(Ipv4Addr::LOCALHOST), content }
    }

    #[test]
    fn the_first_rule_whose_conditions_all_hold_wins() {
        let rules = Rules::new(vec![
            rule(Some(1), None, None, 1),
            rule(None, Some("Video.Example."), Some("/hd/"), 2),
            rule(None, Some("video.example"), None, 3),
            rule(None, None, Some("/hd/"), 4),
        ]);
        for (request, pool) in [
            (ask(1, Some("video.example"), "/hd/x"), Some(1)),
            (ask(0, Some("VIDEO.example"), "/hd/x"), Some(2)),
            (ask(0, Some("video.example."), "/sd/x"), Some(3)),
            (ask(0, None, "/hd/x"), Some(4)),
            (ask(0, Some("other.example"), "/sd/x"), None),
        ] {
            let found = rules.find(&request).and_then(|(_, rule)| rule.pool());
            assert_eq!(found, pool.map(PoolIndex), "{request:?}");
        }
    }
}
