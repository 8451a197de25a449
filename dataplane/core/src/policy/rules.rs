//! Ordered rules: the first that matches names the pool.

use crate::ids::{PoolIndex, VipIndex};
use crate::policy::{PathMatch, Request};

/// A host name to compare with, without port. Comparison ignores ASCII case (RFC 9110, section 4.2.3) and one trailing
/// dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMatch(String);

impl HostMatch {
    /// Compares with this name.
    pub fn new(name: &str) -> Self {
        Self(without_dot(name).to_owned())
    }

    /// Says whether `host` is this name.
    pub fn matches(&self, host: &str) -> bool {
        without_dot(host).eq_ignore_ascii_case(&self.0)
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Conditions that must all hold, and the pool for requests of which they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The VIP the client connected to, or any.
    pub vip: Option<VipIndex>,
    /// The host asked for, or any.
    pub host: Option<HostMatch>,
    /// The path asked for, or any.
    pub path: Option<PathMatch>,
    /// Where such requests go.
    pub pool: PoolIndex,
}

impl Rule {
    /// Says whether every condition holds.
    pub fn matches(&self, request: &Request<'_>) -> bool {
        self.vip.is_none_or(|vip| vip == request.vip)
            && self.host.as_ref().is_none_or(|wanted| request.host.is_some_and(|host| wanted.matches(host)))
            && self.path.as_ref().is_none_or(|wanted| wanted.matches(request.path))
    }
}

/// The rules in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// Returns the pool of the first rule that matches.
    pub fn pool_for(&self, request: &Request<'_>) -> Option<PoolIndex> {
        self.0.iter().find(|rule| rule.matches(request)).map(|rule| rule.pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(vip: Option<u16>, host: Option<&str>, path: Option<&str>, pool: u16) -> Rule {
        Rule {
            vip: vip.map(VipIndex),
            host: host.map(HostMatch::new),
            path: path.map(|prefix| PathMatch::Prefix(prefix.into())),
            pool: PoolIndex(pool),
        }
    }

    fn ask<'a>(vip: u16, host: Option<&'a str>, path: &'a str) -> Request<'a> {
        Request { vip: VipIndex(vip), host, path }
    }

    #[test]
    fn the_first_rule_whose_conditions_all_hold_wins() {
        let rules = Rules(vec![
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
            assert_eq!(rules.pool_for(&request), pool.map(PoolIndex), "{request:?}");
        }
    }
}
