//! Everything that is exported, read at one moment.

use std::sync::atomic::{AtomicU64, Ordering};

use baton_core::policy::ClassIndex;
use baton_core::{DropReason, Event};
use handoff_proto::control::Load;

use crate::control::{PortReading, Shared};
use crate::dpdk::LcoreSnapshot;

/// Everything that is exported, at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When the switch started, in seconds since the Unix epoch.
    pub started_s: f64,
    /// Each lcore, in the order of their numbers.
    pub lcores: Vec<LcoreSample>,
    /// Each backend, in the configured order.
    pub backends: Vec<BackendSample>,
    /// Each service class, in the configured order.
    pub classes: Vec<ClassSample>,
    /// The port, unless it is closed.
    pub port: Option<PortReading>,
    /// What control counts.
    pub control: ControlSample,
}

/// One lcore.
#[derive(Clone, Debug)]
pub struct LcoreSample {
    /// Its number.
    pub index: u8,
    /// In the order of [`Event::ALL`].
    pub events: Vec<u64>,
    /// In the order of [`DropReason::ALL`].
    pub drops: Vec<u64>,
    /// Entries in its flow table.
    pub flows: u64,
    /// Entries its flow table can hold.
    pub flow_count_max: usize,
    /// What the door counts.
    pub door: LcoreSnapshot,
    /// Seconds in which it had work.
    pub busy_s: f64,
    /// Seconds in which it had none.
    pub idle_s: f64,
}

/// One backend.
#[derive(Clone, Debug)]
pub struct BackendSample {
    /// Its configured name.
    pub name: String,
    /// Whether it may get new connections.
    pub usable: bool,
    /// Seconds since its agent was last heard, if it is there.
    pub report_age_s: Option<f64>,
    /// Connections it was given.
    pub handoffs: u64,
    /// Whether its agent's report is too old for policies, if it is there.
    pub report_stale: Option<bool>,
    /// What its agent last said it has to do, if it is there.
    pub load: Option<Load>,
}

/// One service class.
#[derive(Clone, Debug)]
pub struct ClassSample {
    /// Its configured name; empty for that of rules which name none.
    pub name: String,
    /// Requests let in.
    pub let_in: u64,
    /// Requests refused for overload.
    pub refused: u64,
}

/// What control counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct ControlSample {
    /// See [`crate::control::ControlCounters`].
    pub welcomed: u64,
    /// See [`crate::control::ControlCounters`].
    pub refused: u64,
    /// See [`crate::control::ControlCounters`].
    pub crowded: u64,
    /// See [`crate::control::ControlCounters`].
    pub published: u64,
    /// Learned addresses that did not reach another lcore.
    pub news_lost: u64,
    /// Learned TLS sessions that did not reach an lcore.
    pub sessions_lost: u64,
}

impl Sample {
    /// Reads everything.
    pub fn take(shared: &Shared) -> Self {
        let clock = shared.clock();
        let elapsed = clock.elapsed();
        let lcores = shared.observer.lcores().iter().map(|lcore| {
            let (busy, idle) = lcore.busy_and_idle(elapsed);
            LcoreSample {
                index: lcore.index,
                events: Event::ALL.iter().map(|event| lcore.core.event(*event)).collect(),
                drops: DropReason::ALL.iter().map(|reason| lcore.core.drops(*reason)).collect(),
                flows: lcore.core.flows(),
                flow_count_max: shared.identity.flow_count_max,
                door: lcore.door(),
                busy_s: seconds(busy.0),
                idle_s: seconds(idle.0),
            }
        });
        let (catalog, observer) = (shared.catalog(), &shared.observer);
        let backends = shared.backends().into_iter().map(|(index, backend)| BackendSample {
            usable: backend.usable,
            report_age_s: backend.report_age_ms.map(|ms| seconds(ms.saturating_mul(1000))),
            handoffs: observer.sum(|lcore| lcore.core.handoffs(index)),
            report_stale: backend.report_stale,
            // What was said by one who is gone is no measurement any more.
            load: backend.load.filter(|_| backend.report_age_ms.is_some()),
            name: backend.name,
        });
        // The first is that of rules which name none; further ones without a name are gone.
        let classes = (0..=u8::MAX).map(ClassIndex).zip(&catalog.classes);
        let classes = classes.filter(|(index, named)| index.0 == 0 || !named.name.is_empty());
        let classes = classes.map(|(index, named)| ClassSample {
            name: named.name.clone(),
            let_in: observer.sum(|lcore| lcore.core.class(index).0),
            refused: observer.sum(|lcore| lcore.core.class(index).1),
        });
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &shared.counters;
        Self {
            started_s: seconds(clock.started().0),
            lcores: lcores.collect(),
            backends: backends.collect(),
            classes: classes.collect(),
            port: shared.port().ok(),
            control: ControlSample {
                welcomed: read(&counters.welcomed),
                refused: read(&counters.refused),
                crowded: read(&counters.crowded),
                published: read(&counters.published),
                news_lost: shared.news_lost(),
                sessions_lost: shared.sessions_lost(),
            },
        }
    }
}

/// Microseconds as seconds; exact to the microsecond for two centuries.
#[expect(clippy::cast_precision_loss, reason = "a double holds 2^53 microseconds: 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
