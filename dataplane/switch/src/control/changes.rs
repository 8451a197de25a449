//! What differs between two configurations, in sentences.

use std::collections::HashMap;

use serde::Serialize;
use toml::{Table, Value};

use crate::config::{RawConfig, RawRule};

/// How many differences are told.
const TOLD_MAX: usize = 200;

/// Says what of `after` is not as in `before`. What cannot differ while the switch runs is not looked at.
pub(super) fn between(before: &RawConfig, after: &RawConfig) -> Vec<String> {
    let mut told = Vec::new();
    entries("vip", &before.vip, &after.vip, &mut told);
    entries("backend", &before.backend, &after.backend, &mut told);
    entries("pool", &before.pool, &after.pool, &mut told);
    entries("class", &before.class, &after.class, &mut told);
    rules(&before.rule, &after.rule, &mut told);
    keys("overload", &table(&before.overload), &table(&after.overload), &mut told);
    if before.error_page != after.error_page {
        told.push("error pages: others than before".to_owned());
    }
    if told.len() > TOLD_MAX {
        let more = told.len() - TOLD_MAX;
        told.truncate(TOLD_MAX);
        told.push(format!("and {more} further differences"));
    }
    told
}

fn table<T: Serialize>(entry: &T) -> Table {
    Table::try_from(entry).unwrap_or_default()
}

/// Compares entries that have a name.
fn entries<T: Serialize>(section: &str, before: &[T], after: &[T], told: &mut Vec<String>) {
    let named = |entries: &[T]| -> Vec<(String, Table)> {
        let name = |table: &Table| table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        entries.iter().map(table).map(|table| (name(&table), table)).collect()
    };
    let (before, after) = (named(before), named(after));
    let (known, kept): (HashMap<&str, &Table>, HashMap<&str, &Table>) = (by_name(&before), by_name(&after));
    for (name, _) in before.iter().filter(|(name, _)| !kept.contains_key(name.as_str())) {
        told.push(format!("{section} {name:?} is taken out"));
    }
    for (name, table) in &after {
        match known.get(name.as_str()) {
            None => told.push(format!("{section} {name:?} is new")),
            Some(known) => keys(&format!("{section} {name:?}"), known, table, told),
        }
    }
}

fn by_name(entries: &[(String, Table)]) -> HashMap<&str, &Table> {
    entries.iter().map(|(name, table)| (name.as_str(), table)).collect()
}

/// Compares the keys of one table.
fn keys(of: &str, before: &Table, after: &Table, told: &mut Vec<String>) {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    for key in after.keys().chain(gone) {
        match (before.get(key), after.get(key)) {
            (Some(was), Some(is)) if was == is => {}
            (Some(was), Some(is)) => told.push(format!("{of}: {key} = {is}, was {was}")),
            (None, Some(is)) => told.push(format!("{of}: {key} = {is}")),
            (Some(was), None) => told.push(format!("{of}: {key} is left out, was {was}")),
            (None, None) => {}
        }
    }
}

/// Compares the rules, which have no names but an order: what is the same at the start and at the end is not told.
fn rules(before: &[RawRule], after: &[RawRule], told: &mut Vec<String>) {
    let same = before.iter().zip(after).take_while(|(was, is)| was == is).count();
    let (before, after) = (&before[same..], &after[same..]);
    let same_at_end = before.iter().rev().zip(after.iter().rev()).take_while(|(was, is)| was == is).count();
    let (gone, new) = (before.len() - same_at_end, after.len() - same_at_end);
    let first = same + 1;
    match (gone, new) {
        (0, 0) => {}
        (0, new) => told.push(format!("{} put in at place {first}", counted(new))),
        (gone, 0) => told.push(format!("{} taken out at place {first}", counted(gone))),
        (gone, new) => {
            told.push(format!("{} at place {first} in place of {gone}", counted(new)));
        }
    }
}

fn counted(rules: usize) -> String {
    if rules == 1 { "1 rule".to_owned() } else { format!("{rules} rules") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &str, after: &str) -> Vec<String> {
        let read = |text: &str| toml::from_str::<RawConfig>(text).expect("a configuration");
        between(&read(before), &read(after))
    }

    #[test]
    fn what_differs_is_told_by_name_and_key_and_nothing_else() {
        let before = "[overload]\nbegin_percent = 80\n[[backend]]\nname = \"a\"\naddress = \"10.0.0.1\"\nweight = 2\n\
                      [[backend]]\nname = \"b\"\n[[pool]]\nname = \"p\"\nbackends = [\"a\", \"b\"]\n";
        assert_eq!(told(before, before), [""; 0]);
        let after = "[[backend]]\nname = \"c\"\n[[backend]]\naddress = \"10.0.0.1\"\nname = \"a\"\ndrain = true\n\
                     [[pool]]\nname = \"p\"\nbackends = [\"a\", { name = \"c\", weight = 3 }]\n";
        assert_eq!(
            told(before, after),
            [
                "backend \"b\" is taken out",
                "backend \"c\" is new",
                "backend \"a\": drain = true",
                "backend \"a\": weight is left out, was 2",
                "pool \"p\": backends = [\"a\", { name = \"c\", weight = 3 }], was [\"a\", \"b\"]",
                "overload: begin_percent is left out, was 80",
            ]
        );
    }

    #[test]
    fn of_the_rules_the_part_that_differs_is_told() {
        let text = |hosts: &str| {
            hosts.chars().map(|host| format!("[[rule]]\nhost = \"{host}\"\n")).collect::<String>()
        };
        for (before, after, expected) in [
            ("abc", "abc", None),
            ("abc", "abxc", Some("1 rule put in at place 3")),
            ("abc", "c", Some("2 rules taken out at place 1")),
            ("abc", "axyc", Some("2 rules at place 2 in place of 1")),
            ("aa", "aaa", Some("1 rule put in at place 3")),
            ("", "ab", Some("2 rules put in at place 1")),
        ] {
            assert_eq!(
                told(&text(before), &text(after)).first().map(String::as_str),
                expected,
                "{before} {after}"
            );
        }
    }

    #[test]
    fn differences_without_end_are_not_all_told() {
        let many: String = (0..300).map(|name| format!("[[class]]\nname = \"{name}\"\n")).collect();
        let told = told("", &many);
        assert_eq!((told.len(), told.last().map(String::as_str)), (201, Some("and 100 further differences")));
    }
}
