//! `[[class]]` and `[overload]`: what is refused first when there is too much.

use core::ops::RangeInclusive;

use baton_core::policy::{CLASSES_MAX, Class, ClassIndex, Overload};

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
/// of the others. Returns them by place, and the place of each `[[class]]`.
///
/// A class that was there `before` keeps its place: by it flows know it, and its requests are counted. What is gone leaves a
/// class without a name behind, whose place another one gets when no other is left.
pub(super) fn classes(
    raw: &[RawClass],
    before: &[NamedClass],
    findings: &mut Findings,
) -> (Vec<NamedClass>, Vec<ClassIndex>) {
    let named = (0..).zip(raw).map(|(position, entry): (usize, _)| {
        let key = |name: &str| format!("class[{position}].{name}");
        let class = Class {
            priority: findings.number(&key("priority"), entry.priority, 0, PRIORITY),
            weight: findings.number(&key("weight"), entry.weight, 1, SESSION_WEIGHT),
            rate_per_s: entry
                .rate_per_s
                .map(|found| findings.number(&key("rate_per_s"), Some(found), 1, RATE_PER_S)),
        };
        NamedClass { name: text(&entry.name).to_owned(), class }
    });
    let named: Vec<NamedClass> = named.collect();
    let priority = named.iter().map(|named| named.class.priority).min().unwrap_or_default();
    let unnamed = NamedClass { name: String::new(), class: Class { priority, ..Class::default() } };
    let mut by_place = vec![unnamed.clone(); before.len().max(1)];
    let kept = |name: &str| before.iter().skip(1).position(|former| former.name == name).map(|at| at + 1);
    let mut places: Vec<Option<usize>> = named.iter().map(|named| kept(&named.name)).collect();
    let mut free: Vec<usize> = (before.len().max(1)..CLASSES_MAX).collect();
    free.extend((1..before.len()).filter(|place| !places.contains(&Some(*place))));
    let mut free = free.into_iter();
    for (place, named) in places.iter_mut().zip(named) {
        // More classes than there are places are a fault of their own.
        let Some(at) = place.or_else(|| free.next()) else { break };
        *place = Some(at);
        by_place.resize(by_place.len().max(at + 1), unnamed.clone());
        if let Some(class) = by_place.get_mut(at) {
            *class = named;
        }
    }
    let index = |place: Option<usize>| ClassIndex(place.and_then(|at| u8::try_from(at).ok()).unwrap_or(0));
    (by_place, places.into_iter().map(index).collect())
}

/// Checks `[overload]`.
pub(super) fn overload(raw: &RawOverload, findings: &mut Findings) -> Overload {
    let begin_percent =
        findings.number("overload.begin_percent", raw.begin_percent, BEGIN_PERCENT_DEFAULT, BEGIN_PERCENT);
    Overload { begin_permille: begin_percent * 10 }
}
