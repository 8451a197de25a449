//! `[[class]]` and `[overload]`: what is refused first when there is too much.

use core::ops::RangeInclusive;

use baton_core::policy::{Class, Overload};

use super::faults::Findings;
use super::names::text;
use super::raw::{RawClass, RawOverload};
use crate::control::NamedClass;

const PRIORITY: RangeInclusive<u8> = 0..=u8::MAX;
const SESSION_WEIGHT: RangeInclusive<u16> = 1..=1_000;
const RATE_PER_S: RangeInclusive<u32> = 1..=10_000_000;
const BEGIN_PERCENT: RangeInclusive<u16> = 1..=100;
const BEGIN_PERCENT_DEFAULT: u16 = 80;

/// Checks the classes. The first is the one of rules that name none: it has no name, and is as dispensable as the most dispensable
/// of the others.
pub(super) fn classes(raw: &[RawClass], findings: &mut Findings) -> Vec<NamedClass> {
    let named: Vec<NamedClass> = (0..)
        .zip(raw)
        .map(|(position, entry): (usize, _)| {
            let key = |name: &str| format!("class[{position}].{name}");
            let class = Class {
                priority: findings.number(&key("priority"), entry.priority, 0, PRIORITY),
                weight: findings.number(&key("weight"), entry.weight, 1, SESSION_WEIGHT),
                rate_per_s: entry
                    .rate_per_s
                    .map(|found| findings.number(&key("rate_per_s"), Some(found), 1, RATE_PER_S)),
            };
            NamedClass { name: text(&entry.name).to_owned(), class }
        })
        .collect();
    let priority = named.iter().map(|named| named.class.priority).min().unwrap_or_default();
    let unnamed = NamedClass { name: String::new(), class: Class { priority, ..Class::default() } };
    core::iter::once(unnamed).chain(named).collect()
}

/// Checks `[overload]`.
pub(super) fn overload(raw: &RawOverload, findings: &mut Findings) -> Overload {
    let begin_percent =
        findings.number("overload.begin_percent", raw.begin_percent, BEGIN_PERCENT_DEFAULT, BEGIN_PERCENT);
    Overload { begin_permille: begin_percent * 10 }
}
