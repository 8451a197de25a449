//! Tells when a backend's reports become old, when requests are refused for overload, and when that is over.
//!
//! Both are looked at from outside, ten times a second: no packet tells anything. Of overload the lcores count refusals by
//! class, which is what they decide by; so events are of classes, and name the pools their rules lead to.

use core::time::Duration;

use baton_core::policy::{Action, ClassIndex, FRESH};
use handoff_proto::Micros;
use handoff_proto::admin::EventKind;
use tracing::{info, warn};

use super::answers::class_counts;
use super::catalog::Catalog;
use super::shared::Shared;
use super::spells::{CALM, Spells, Turn};
use crate::config::listed;

/// How often it is looked: between a report's growing old and its agent's being gone there are several looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// Watches for ever.
pub(super) async fn watch(shared: &Shared) {
    let (mut reports, mut overload) = (Reports::default(), Overload::default());
    loop {
        tokio::time::sleep(INTERVAL).await;
        reports.look(shared);
        overload.look(shared);
    }
}

/// Whose reports are old.
#[derive(Default)]
struct Reports {
    spells: Spells,
}

impl Reports {
    fn look(&mut self, shared: &Shared) {
        let now = shared.clock().now();
        let (stale, catalog) = {
            let roster = shared.roster.lock();
            (roster.stale(now), roster.catalog().clone())
        };
        for ((place, is_stale), backend) in stale.into_iter().enumerate().zip(&catalog.backends) {
            // Of one whose agent is gone, it is told that it gets no connections.
            let turn = self.spells.look(place, is_stale.filter(|_| !backend.is_removed), now);
            let Some(turn) = turn else { continue };
            let (backend, kind, text) = match turn {
                Turn::Begins => {
                    let text = format!(
                        "no report of its agent for more than {} ms: policies go by the switch's own counts until one comes",
                        FRESH.0 / 1000
                    );
                    (&backend.name, EventKind::ReportsStale, text)
                }
                Turn::Ends { since } => {
                    let text = format!(
                        "reports of its agent have come in time for {} s; they were late at times for {} s before",
                        CALM.as_secs(),
                        before_calm(since, now)
                    );
                    (&backend.name, EventKind::ReportsFresh, text)
                }
            };
            match turn {
                Turn::Begins => warn!(%backend, "{text}"),
                Turn::Ends { .. } => info!(%backend, "{text}"),
            }
            shared.note(kind, Some(backend), &text);
        }
    }
}

/// Which classes are refused.
#[derive(Default)]
struct Overload {
    spells: Spells,
    /// By place of the class: refusals counted by the last look, and before the spell that goes on.
    counted: Vec<(u64, u64)>,
}

impl Overload {
    fn look(&mut self, shared: &Shared) {
        let (now, catalog) = (shared.clock().now(), shared.catalog());
        self.counted.resize(catalog.classes.len().max(self.counted.len()), (0, 0));
        let classes = (0..=u8::MAX).map(ClassIndex).zip(&catalog.classes).zip(&mut self.counted);
        for (place, ((index, named), (last, before))) in classes.enumerate() {
            let (_, refused) = class_counts(shared, index);
            let earlier = core::mem::replace(last, refused);
            let Some(turn) = self.spells.look(place, Some(refused != earlier), now) else { continue };
            let name = named.name.as_str();
            let whose = if name.is_empty() {
                "requests of rules that name no class".to_owned()
            } else {
                format!("requests of class {name:?}")
            };
            let (kind, text) = match turn {
                Turn::Begins => {
                    *before = earlier;
                    let text = format!("{whose} are refused for overload; {}", pools_of(&catalog, index));
                    (EventKind::OverloadBegan, text)
                }
                Turn::Ends { since } => {
                    let text = format!(
                        "{whose} are refused no more, for {} s now; {} were, in {} s",
                        CALM.as_secs(),
                        refused.saturating_sub(*before),
                        before_calm(since, now)
                    );
                    (EventKind::OverloadEnded, text)
                }
            };
            match turn {
                Turn::Begins => warn!("{text}"),
                Turn::Ends { .. } => info!("{text}"),
            }
            shared.note(kind, (!name.is_empty()).then_some(name), &text);
        }
    }
}

/// Returns how many seconds a spell lasted that is over after its calm, one at least.
fn before_calm(since: Micros, now: Micros) -> u64 {
    now.since(since).since(CALM).as_secs().max(1)
}

/// Says which pools the rules of a class lead to.
fn pools_of(catalog: &Catalog, class: ClassIndex) -> String {
    let mut places: Vec<usize> = Vec::new();
    for rule in catalog.rules.iter().filter(|rule| rule.class == class) {
        if let Action::Dispatch(pool) = rule.action
            && !places.contains(&usize::from(pool.0))
        {
            places.push(usize::from(pool.0));
        }
    }
    let names = places.iter().filter_map(|place| Some(catalog.pools.get(*place)?.name.as_str()));
    let pools = if places.len() == 1 { "pool" } else { "the pools" };
    format!("its rules lead to {pools} {}", listed(names).unwrap_or_default())
}
