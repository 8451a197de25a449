//! How requests find their backends, as text for people.

use handoff_proto::admin::{Changes, Class, Pool, Route, RouteOutcome, Rule, RuleAction};

use super::{NOTHING, percent};
use crate::table::Align::{Left, Right};
use crate::table::Table;

pub(crate) fn pools(pools: &[Pool]) -> String {
    let mut table = Table::new([
        ("POOL", Left),
        ("POLICY", Left),
        ("STICKY", Left),
        ("USABLE", Right),
        ("BACKENDS (WEIGHT)", Left),
    ]);
    for pool in pools {
        let usable = pool.members.iter().filter(|member| member.usable).count();
        let members = pool.members.iter().map(|member| {
            let down = if member.usable { "" } else { " unusable" };
            format!("{} ({}){down}", member.backend, member.weight)
        });
        table.row([
            pool.name.clone(),
            pool.policy.clone(),
            pool.sticky.clone().unwrap_or_else(|| NOTHING.to_owned()),
            format!("{usable} of {}", pool.members.len()),
            members.collect::<Vec<_>>().join(", "),
        ]);
    }
    if pools.is_empty() { "no pools\n".to_owned() } else { table.text() }
}

pub(crate) fn rules(rules: &[Rule]) -> String {
    let mut table = Table::new([
        ("RULE", Right),
        ("REQUESTS", Right),
        ("CONDITIONS", Left),
        ("CLASS", Left),
        ("ACTION", Left),
    ]);
    for rule in rules {
        let requests = rule.requests.map_or(NOTHING.to_owned(), |requests| requests.to_string());
        table.row([rule.number.to_string(), requests, conditions(rule), class(rule), action(&rule.action)]);
    }
    if rules.is_empty() { "no rules: every request is refused\n".to_owned() } else { table.text() }
}

fn conditions(rule: &Rule) -> String {
    match rule.conditions.as_slice() {
        [] => "every request".to_owned(),
        conditions => conditions.join(", "),
    }
}

fn class(rule: &Rule) -> String {
    rule.class.clone().unwrap_or_else(|| NOTHING.to_owned())
}

fn action(action: &RuleAction) -> String {
    match action {
        RuleAction::Pool(pool) => format!("pool {pool}"),
        RuleAction::Redirect { status, location } => format!("redirect {status} to {location}"),
        RuleAction::Respond { status } => format!("respond {status}"),
    }
}

pub(crate) fn classes(classes: &[Class]) -> String {
    let mut table = Table::new([
        ("CLASS", Left),
        ("PRIORITY", Right),
        ("WEIGHT", Right),
        ("GUARANTEED", Right),
        ("RULES", Right),
        ("LET IN", Right),
        ("REFUSED", Right),
    ]);
    for class in classes {
        table.row([
            class.name.clone(),
            class.priority.to_string(),
            class.weight.to_string(),
            class.rate_per_s.map_or(NOTHING.to_owned(), |rate| format!("{rate}/s")),
            class.rules.to_string(),
            class.let_in.to_string(),
            class.refused.to_string(),
        ]);
    }
    if classes.is_empty() { "no classes\n".to_owned() } else { table.text() }
}

/// What a change changed, or would.
pub(crate) fn changes(changes: &Changes, is_done: bool) -> String {
    let mut text: String = changes.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    text += &match (changes.changes.as_slice(), is_done) {
        ([], true) => format!("nothing changed; configuration {} goes on\n", changes.generation),
        ([], false) => format!("no fault, and no difference from configuration {}\n", changes.generation),
        (_, true) => format!("configuration {} runs\n", changes.generation),
        (_, false) => format!("no fault; differences from configuration {}:\n", changes.generation),
    };
    text.extend(changes.changes.iter().map(|change| format!("  {change}\n")));
    text
}

pub(crate) fn route(route: &Route) -> String {
    let mut lines: Vec<(&str, String)> = vec![("vip", route.vip.clone())];
    match &route.rule {
        None => lines.push(("rule", "none matches".to_owned())),
        Some(rule) => lines.push(("rule", format!("{}: {}", rule.number, conditions(rule)))),
    }
    lines.push(("class", route.rule.as_ref().map_or(NOTHING.to_owned(), class)));
    let fullness = route.pool_fullness_permille;
    let full = fullness.map_or(NOTHING.to_owned(), |permille| percent(permille.into()));
    match &route.outcome {
        RouteOutcome::Dispatch { pool, affinity, policy, backend, why } => {
            lines.push(("pool", pool.clone()));
            lines.push(("full", full));
            lines.push(("affinity", affinity.clone().unwrap_or_else(|| NOTHING.to_owned())));
            lines.push(("policy", policy.clone()));
            lines.push(("backend", backend.clone().unwrap_or_else(|| "none: status 503".to_owned())));
            lines.push(("why", why.clone()));
        }
        RouteOutcome::Answer { status, location, why } => {
            let to = location.as_ref().map(|location| format!(" to {location}")).unwrap_or_default();
            lines.push(("full", full));
            lines.push(("answer", format!("{status}{to}")));
            lines.push(("why", why.clone()));
        }
    }
    lines.into_iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect()
}
