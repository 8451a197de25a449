//! What operators are answered.

use core::net::IpAddr;
use std::collections::HashMap;
use std::time::Duration;

use baton_core::flow::State;
use baton_core::policy::balance::Tally;
use baton_core::policy::{BackendIndex, ClassIndex};
use baton_core::switch::FlowView;
use baton_core::{DropReason, Event};
use handoff_proto::Micros;
use handoff_proto::admin::{Backend, Counter, Flow, Flows, LcoreStatus, Status, VipStatus};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::catalog::Catalog;
use super::shared::Shared;
use crate::metrics::{NEWS_LOST, SESSIONS_LOST};
use crate::runtime::{Dispatched, LcoreView, Mailbox, Question};

/// How long an lcore may take to answer: many turns of its loop.
pub(super) const LCORE_ANSWER_MAX: Duration = Duration::from_millis(500);
/// Next hops besides those that backends may be themselves: the gateway.
const GATEWAYS_MAX: usize = 1;

/// Describes the switch as a whole.
pub(super) fn status(shared: &Shared) -> Status {
    let Shared { identity, observer, .. } = shared;
    let catalog = shared.catalog();
    let elapsed = observer.clock().elapsed();
    let backends = shared.backends();
    let lcores: Vec<LcoreStatus> =
        observer.lcores().iter().map(|lcore| lcore_status(lcore, elapsed)).collect();
    Status {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: elapsed.as_secs(),
        address: identity.address,
        mac: identity.mac.clone(),
        device: identity.device.clone(),
        lcore_count: lcores.len(),
        vips: catalog
            .vips
            .iter()
            .map(|named| VipStatus { name: named.name.clone(), vip: named.service.vip })
            .collect(),
        backends_usable: backends.iter().filter(|(_, backend)| backend.usable).count(),
        backends_configured: backends.len(),
        flows: observer.sum(|lcore| lcore.core.flows()),
        flows_capacity: flows_capacity(shared),
        rx_frames: observer.sum(|lcore| lcore.door().rx_frames),
        tx_frames: observer.sum(|lcore| lcore.door().tx_frames),
        handoffs: observer.sum(|lcore| lcore.core.event(Event::Handoffs)),
        drops: observer.sum(drops),
        lcores,
    }
}

fn lcore_status(lcore: &LcoreView, elapsed: Micros) -> LcoreStatus {
    let (busy, idle) = lcore.busy_and_idle(elapsed);
    LcoreStatus {
        lcore: lcore.index,
        cpu: lcore.cpu,
        flows: lcore.core.flows(),
        rx_frames: lcore.door().rx_frames,
        tx_frames: lcore.door().tx_frames,
        drops: drops(lcore),
        busy_us: busy.0,
        idle_us: idle.0,
    }
}

/// Returns how many flows all tables together can hold.
fn flows_capacity(shared: &Shared) -> u64 {
    let count = shared.identity.flow_count_max.saturating_mul(shared.observer.lcores().len());
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Returns what an lcore dropped: the core's reasons, and what the door could not receive or send.
fn drops(lcore: &LcoreView) -> u64 {
    let door = lcore.door();
    let core: u64 = DropReason::ALL.iter().map(|reason| lcore.core.drops(*reason)).sum();
    core + door.rx_multi_segment + door.tx_dropped
}

/// Describes the backends. Their next hops are asked of the first lcore; without its answer they stay out.
pub(super) async fn backends(shared: &Shared) -> Vec<Backend> {
    let mut backends = shared.backends();
    // Those that were taken out of the configuration are among the next hops, too: their flows go on.
    let room = Vec::with_capacity(shared.catalog().backends.len() + GATEWAYS_MAX);
    let hops = match shared.mailboxes.first() {
        Some(mailbox) => ask(mailbox, |reply| Question::NextHops { room, reply }).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let hops: HashMap<IpAddr, _> = hops.into_iter().map(|(address, mac)| (address.into(), mac)).collect();
    let gateway = shared.identity.gateway.and_then(|gateway| hops.get(&IpAddr::from(gateway)));
    let counted = dispatched(shared).await;
    for (index, backend) in &mut backends {
        // Backends that are no next hops themselves are behind the gateway.
        let mac = hops.get(&backend.address).or(gateway).copied().flatten();
        backend.next_hop_mac = mac.map(|mac| mac.to_string().replace('-', ":"));
        let tally = |counted: &Dispatched| counted.tallies.get(usize::from(index.0)).copied();
        backend.connections = counted.as_ref().and_then(tally).map(|tally| tally.connections.into());
        backend.handoffs = shared.observer.sum(|lcore| lcore.core.handoffs(*index));
    }
    backends.into_iter().map(|(_, backend)| backend).collect()
}

/// Asks all lcores what they have given to whom; `None` if one does not answer.
pub(super) async fn dispatched(shared: &Shared) -> Option<Dispatched> {
    let (backends, rules) = {
        let catalog = shared.catalog();
        (catalog.backends.len(), catalog.rules.len())
    };
    let mut all = Dispatched { tallies: vec![Tally::default(); backends], rule_hits: vec![0; rules] };
    for mailbox in shared.mailboxes.iter() {
        let room = Dispatched { tallies: Vec::with_capacity(backends), rule_hits: Vec::with_capacity(rules) };
        let one = ask(mailbox, |reply| Question::Dispatched { room, reply }).await?;
        for (sum, tally) in all.tallies.iter_mut().zip(one.tallies) {
            sum.connections = sum.connections.saturating_add(tally.connections);
        }
        all.rule_hits.iter_mut().zip(one.rule_hits).for_each(|(sum, hits)| *sum += hits);
    }
    Some(all)
}

/// Returns how many requests of a class were let in, and how many refused for overload.
pub(super) fn class_counts(shared: &Shared, class: ClassIndex) -> (u64, u64) {
    let count = |pick: fn((u64, u64)) -> u64| shared.observer.sum(|lcore| pick(lcore.core.class(class)));
    (count(|(let_in, _)| let_in), count(|(_, refused)| refused))
}

/// Asks an lcore; `None` if it has too many questions or takes too long.
pub(super) async fn ask<T>(
    mailbox: &Mailbox,
    question: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    if !mailbox.ask(question(reply)) {
        return None;
    }
    timeout(LCORE_ANSWER_MAX, answer).await.ok()?.ok()
}

/// Lists flows, lcore by lcore, until `limit` are found; `None` if an lcore does not answer.
pub(super) async fn flows(shared: &Shared, limit: usize) -> Option<Flows> {
    let total = shared.observer.sum(|lcore| lcore.core.flows());
    let mut flows = Vec::new();
    for (mailbox, lcore) in shared.mailboxes.iter().zip(shared.observer.lcores()) {
        let wanted = limit - flows.len();
        if wanted == 0 {
            break;
        }
        let room = Vec::with_capacity(wanted);
        let views = ask(mailbox, |reply| Question::Flows { room, reply }).await?;
        let (catalog, now) = (shared.catalog(), shared.clock().now());
        flows.extend(views.iter().take(wanted).map(|view| flow(&catalog, view, lcore.index, now)));
    }
    Some(Flows { total, flows })
}

fn flow(catalog: &Catalog, view: &FlowView, lcore: u8, now: Micros) -> Flow {
    let backend = view.state.has_backend().then_some(view.backend);
    Flow {
        tuple: view.tuple,
        backend: backend.and_then(|index: BackendIndex| catalog.backend_name(index)).map(str::to_owned),
        state: state_name(view.state).to_owned(),
        age_ms: now.since(view.created).0 / 1000,
        idle_ms: now.since(view.last_seen).0 / 1000,
        lcore,
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Asking => "asking",
        State::Unclaimed => "unclaimed",
        State::Holding => "holding",
        State::Unconfirmed => "unconfirmed",
        State::Established => "established",
        State::ClosingUnconfirmed => "closing-unconfirmed",
        State::Closing => "closing",
        State::Answered => "answered",
    }
}

/// Lists every counter of core and door, summed over the lcores, and what did not reach one of them.
pub(super) fn counters(shared: &Shared) -> Vec<Counter> {
    let observer = &shared.observer;
    let counter = |name: &str, description: &str, value| Counter {
        name: name.to_owned(),
        description: description.to_owned(),
        value,
    };
    let events = Event::ALL.iter().map(|event| {
        counter(event.name(), event.description(), observer.sum(|lcore| lcore.core.event(*event)))
    });
    let drops = DropReason::ALL.iter().map(|reason| {
        counter(reason.name(), reason.description(), observer.sum(|lcore| lcore.core.drops(*reason)))
    });
    let door: Vec<Counter> = match observer.lcores().first() {
        None => Vec::new(),
        Some(first) => (0..)
            .zip(first.door().entries())
            .map(|(place, (name, description, _))| {
                let value =
                    observer.sum(|lcore| lcore.door().entries().nth(place).map_or(0, |entry| entry.2));
                counter(&format!("lcore_{name}"), description, value)
            })
            .collect(),
    };
    let lost = [(NEWS_LOST, shared.news_lost()), (SESSIONS_LOST, shared.sessions_lost())];
    let lost = lost.map(|((name, description), value)| counter(name, description, value));
    events.chain(drops).chain(door).chain(lost).collect()
}
