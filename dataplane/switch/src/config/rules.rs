//! `[[rule]]`: which request becomes what.

use baton_core::policy::{
    Action, AnswerIndex, ClassIndex, Conditions, PoolIndex, Rule, RuleAnswer, Rules, VipIndex,
};
use baton_core::switch::Inspect;

use super::answers;
use super::conditions::Reader;
use super::faults::Findings;
use super::names::Names;
use super::raw::RawRule;
use super::vips::inspect_name;
use crate::control::NamedVip;

/// Conditions for which a request must be read, and those for which a ClientHello must.
const HTTP_KEYS: [&str; 10] = [
    "service",
    "host",
    "path_exact",
    "path_prefix",
    "path_suffix",
    "path_regex",
    "method",
    "header",
    "cookie",
    "query",
];
const TLS_KEYS: [&str; 2] = ["server_name", "protocol"];
/// How many pairs of rules are compared to find those that are never reached.
const COMPARISONS_MAX: usize = 1 << 22;

/// What rules refer to, by name.
pub(super) struct Terms<'a> {
    pub(super) vips: &'a [NamedVip],
    pub(super) vip_names: &'a Names<'a>,
    pub(super) pool_names: &'a Names<'a>,
    /// The places of the pools, in the order of the file.
    pub(super) pools: &'a [PoolIndex],
    pub(super) class_names: &'a Names<'a>,
    /// By position in the configuration.
    pub(super) classes: &'a [ClassIndex],
}

/// Checks the rules; those that are faulty are left out. Beside them are the answers they give.
pub(super) fn rules(raw: &[RawRule], terms: &Terms<'_>, findings: &mut Findings) -> (Rules, Vec<RuleAnswer>) {
    let (mut rules, mut answers) = (Vec::new(), Vec::new());
    for (position, entry) in raw.iter().enumerate() {
        let mut reader = Reader { raw: entry, position, findings, is_right: true };
        let conditions = reader.conditions(terms.vip_names);
        let class = class(entry, position, terms, findings);
        let action = action(entry, position, terms, &mut answers, findings);
        if let Some(conditions) = &conditions {
            content_fits(entry, position, conditions, terms.vips, findings);
            if let Some(Action::Answer(_)) = action {
                answer_fits(entry, position, conditions, terms.vips, findings);
            }
        }
        if let (Some(conditions), Some(class), Some(action)) = (conditions, class, action) {
            rules.push(Rule { conditions, class, action });
        }
    }
    let rules = Rules::new(rules);
    if rules.iter().len() == raw.len() {
        never_reached(&rules, findings);
    }
    (rules, answers)
}

fn class(entry: &RawRule, position: usize, terms: &Terms<'_>, findings: &mut Findings) -> Option<ClassIndex> {
    let Some(name) = &entry.class else { return Some(ClassIndex::default()) };
    let found = terms.class_names.find(name, &format!("rule[{position}].class"), findings)?;
    terms.classes.get(usize::from(found)).copied()
}

/// Reads what becomes of the requests: exactly one thing.
fn action(
    entry: &RawRule,
    position: usize,
    terms: &Terms<'_>,
    answers: &mut Vec<RuleAnswer>,
    findings: &mut Findings,
) -> Option<Action> {
    let key = |name: &str| format!("rule[{position}].{name}");
    let given = [
        ("pool", entry.pool.is_some()),
        ("redirect", entry.redirect.is_some()),
        ("respond", entry.respond.is_some()),
    ];
    let mut given = given.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name);
    let (first, second) = (given.next(), given.next());
    if let (Some(first), Some(second)) = (first, second) {
        let allowed =
            format!("a rule has one of pool, redirect and respond, and this one has {first} already");
        findings.fault(key(second), "", allowed);
        return None;
    }
    let answer = match (&entry.pool, &entry.redirect, &entry.respond) {
        (Some(name), _, _) => {
            let found = terms.pool_names.find(name, &key("pool"), findings)?;
            return terms.pools.get(usize::from(found)).copied().map(Action::Dispatch);
        }
        (None, Some(raw), _) => answers::redirect(raw, &key("redirect"), findings)?,
        (None, None, Some(raw)) => answers::respond(raw, &key("respond"), findings),
        (None, None, None) => {
            let needed = "missing; the name of a [[pool]] is needed, or redirect or respond in its place";
            findings.fault(key("pool"), "", needed);
            return None;
        }
    };
    // There are no more answers than rules, and of those no more than fit.
    let index = u16::try_from(answers.len()).ok()?;
    answers.push(answer);
    Some(Action::Answer(AnswerIndex(index)))
}

/// Refuses rules that ask for what is not looked at where they apply.
fn content_fits(
    entry: &RawRule,
    position: usize,
    conditions: &Conditions,
    vips: &[NamedVip],
    findings: &mut Findings,
) {
    let (keys, why): (&[&str], _) = match (conditions.need_http(), conditions.need_tls()) {
        (true, true) => {
            let allowed = "a request is read or a ClientHello, never both, and this rule has a condition on the request already; write two rules";
            (&TLS_KEYS, Some(allowed.to_owned()))
        }
        (true, false) => (&HTTP_KEYS, lack(conditions, vips, Inspect::Http)),
        (false, true) => (&TLS_KEYS, lack(conditions, vips, Inspect::Tls)),
        (false, false) => (&[], None),
    };
    let Some(allowed) = why else { return };
    let written = toml::Table::try_from(entry).unwrap_or_default();
    if let Some((key, found)) = keys.iter().find_map(|key| Some((*key, written.get(*key)?))) {
        let found = if found.is_str() { found.to_string() } else { String::new() };
        findings.fault(format!("rule[{position}].{key}"), found, allowed);
    }
}

/// Says which VIP, or that every one, lacks what must be looked at for these conditions to hold.
fn lack(conditions: &Conditions, vips: &[NamedVip], wanted: Inspect) -> Option<String> {
    let wanted_name = inspect_name(wanted);
    match conditions.vip.and_then(|VipIndex(at)| vips.get(usize::from(at))) {
        Some(named) if named.service.inspect != wanted => Some(format!(
            "VIP \"{}\" has inspect = \"{}\"; this needs one with inspect = \"{wanted_name}\"",
            named.name,
            inspect_name(named.service.inspect),
        )),
        None if !vips.iter().any(|named| named.service.inspect == wanted) => {
            Some(format!("no [[vip]] has inspect = \"{wanted_name}\", which this needs"))
        }
        _ => None,
    }
}

/// Refuses answers where no request is read.
fn answer_fits(
    entry: &RawRule,
    position: usize,
    conditions: &Conditions,
    vips: &[NamedVip],
    findings: &mut Findings,
) {
    if conditions.need_http() {
        return;
    }
    let blind = vips.iter().find(|named| named.service.inspect != Inspect::Http);
    let allowed = match (conditions.vip, blind) {
        (None, Some(blind)) => Some(format!(
            "this would have to answer at VIP \"{}\", too, which has inspect = \"{}\"; name a vip with inspect = \"http\"",
            blind.name,
            inspect_name(blind.service.inspect)
        )),
        _ => lack(conditions, vips, Inspect::Http),
    };
    if let Some(allowed) = allowed {
        let key = if entry.redirect.is_some() { "redirect" } else { "respond" };
        findings.fault(format!("rule[{position}].{key}"), "", allowed);
    }
}

/// Warns of rules all of whose requests go to one that stands before them.
fn never_reached(rules: &Rules, findings: &mut Findings) {
    for (later, earlier) in rules.unreached(COMPARISONS_MAX) {
        let advice =
            format!("never reached: rule[{}] stands before it and takes all its requests", earlier.0);
        findings.warn(format!("rule[{}]", later.0), "", advice);
    }
}
