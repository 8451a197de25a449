//! Pools, rules and classes in the names and words of switch.toml.

use std::collections::HashMap;

use baton_core::policy::{Action, BackendIndex, ClassIndex, RuleAnswer};
use handoff_proto::admin::{Class, Pool, PoolMember, Rule, RuleAction};
use serde::Serialize;
use toml::{Table, Value};

use super::catalog::{Catalog, NamedPool};
use super::reload::Running;
use crate::config::{RawRule, TextOr};

/// What of a rule is no condition.
const NO_CONDITIONS: [&str; 4] = ["class", "pool", "redirect", "respond"];

/// Lists the pools in their configured order, given which backends may get new connections.
pub(super) fn pools(running: &Running, usable: impl Fn(BackendIndex) -> bool) -> Vec<Pool> {
    let catalog = &running.config.catalog;
    let known: HashMap<&str, &NamedPool> =
        catalog.pools.iter().map(|named| (named.name.as_str(), named)).collect();
    let listed = running.config.raw.pool.iter().filter_map(|raw| {
        let named = known.get(raw.name.as_deref()?)?;
        let member = |member: &baton_core::policy::Member| {
            let backend = catalog.backend_name(member.backend)?.to_owned();
            Some(PoolMember { backend, weight: member.weight, usable: usable(member.backend) })
        };
        Some(Pool {
            name: named.name.clone(),
            policy: named.pool.policy.name().to_owned(),
            sticky: raw.sticky.as_ref().map(written),
            members: named.pool.members.iter().filter_map(member).collect(),
        })
    });
    listed.collect()
}

/// Writes a word as it is, and a table as TOML.
fn written<T: Serialize>(value: &TextOr<T>) -> String {
    match value {
        TextOr::Text(word) => word.clone(),
        TextOr::Table(table) => Value::try_from(table).map(|value| value.to_string()).unwrap_or_default(),
    }
}

/// Lists the rules in their order.
pub(super) fn rules(running: &Running) -> Vec<Rule> {
    (0..running.config.raw.rule.len()).filter_map(|position| rule(running, position)).collect()
}

/// Describes the rule at a position.
pub(super) fn rule(running: &Running, position: usize) -> Option<Rule> {
    let catalog = &running.config.catalog;
    let raw = running.config.raw.rule.get(position)?;
    let rule = catalog.rules.iter().nth(position)?;
    Some(Rule {
        number: u32::try_from(position + 1).unwrap_or(u32::MAX),
        conditions: conditions(raw),
        class: raw.class.clone(),
        action: action(rule.action, catalog),
        requests: None,
    })
}

fn conditions(raw: &RawRule) -> Vec<String> {
    let table = Table::try_from(raw).unwrap_or_default();
    let conditions = table.iter().filter(|(key, _)| !NO_CONDITIONS.contains(&key.as_str()));
    conditions.map(|(key, value)| format!("{key} = {value}")).collect()
}

fn action(action: Action, catalog: &Catalog) -> RuleAction {
    match action {
        Action::Dispatch(pool) => {
            let named = catalog.pools.get(usize::from(pool.0));
            RuleAction::Pool(named.map(|named| named.name.clone()).unwrap_or_default())
        }
        Action::Answer(answer) => match catalog.answers.get(usize::from(answer.0)) {
            Some(RuleAnswer::Redirect { status, location }) => {
                RuleAction::Redirect { status: *status, location: location.clone() }
            }
            Some(RuleAnswer::Respond { status, .. }) => RuleAction::Respond { status: *status },
            None => unreachable!("the configuration's check gives every rule its answer"),
        },
    }
}

/// Lists the classes that have a name, in the order of their places, given how many requests of each were let in and refused.
pub(super) fn classes(catalog: &Catalog, counted: impl Fn(ClassIndex) -> (u64, u64)) -> Vec<Class> {
    let mut rules = vec![0; catalog.classes.len()];
    for rule in catalog.rules.iter() {
        if let Some(count) = rules.get_mut(usize::from(rule.class.0)) {
            *count += 1;
        }
    }
    let all = (0..=u8::MAX).map(ClassIndex).zip(&catalog.classes).zip(rules);
    all.filter(|((_, named), _)| !named.name.is_empty())
        .map(|((index, named), rules)| {
            let (let_in, refused) = counted(index);
            Class {
                name: named.name.clone(),
                priority: named.class.priority,
                weight: named.class.weight,
                rate_per_s: named.class.rate_per_s,
                rules,
                let_in,
                refused,
            }
        })
        .collect()
}
