//! What agents, operators and scrapers come together at: the roster behind its lock, and the way to the lcores.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_core::policy::BackendIndex;
use baton_core::switch::{Renewal, Update};
use handoff_proto::admin::{Backend, EventKind};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::catalog::Catalog;
use super::events::Chronicle;
use super::reload::{Live, Order, OrderFault, Outcome};
use super::roster::{Change, Roster};
use super::session::End;
use super::told::Told;
use crate::dpdk::{DpdkError, PortStats};
use crate::runtime::{Clock, LearnedSession, Mailbox, Observer};

/// What does not change while the switch runs, for operators to see.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its address on the data network.
    pub address: IpAddr,
    /// Next hop towards backends that are not on that network.
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address of its port, as six colon-separated hex bytes.
    pub mac: String,
    /// The device as configured.
    pub device: String,
    /// Entries one lcore's flow table can hold.
    pub flow_count_max: usize,
}

/// The port as the driver sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortReading {
    /// The driver's counters.
    pub stats: PortStats,
    /// Free buffers of the pool.
    pub free_frames: usize,
}

/// Reads the port.
pub type ReadPort = Box<dyn Fn() -> Result<PortReading, DpdkError> + Send + Sync>;

/// What control itself counts.
#[derive(Debug, Default)]
pub struct ControlCounters {
    /// Agents that were welcomed.
    pub welcomed: AtomicU64,
    /// Connections of agents that ended for a fault of theirs.
    pub refused: AtomicU64,
    /// Connections not taken because too many were not authenticated yet.
    pub crowded: AtomicU64,
    /// Snapshots published to the lcores.
    pub published: AtomicU64,
}

/// What control's parts share. Locks here are held for microseconds, and for as long as it takes to copy a catalog while a
/// configuration comes into force; never across a wait.
pub struct Shared {
    /// Who the switch is.
    pub identity: Identity,
    /// What the lcores count.
    pub observer: Observer,
    /// What control counts.
    pub counters: ControlCounters,
    /// What happened.
    pub chronicle: Chronicle,
    /// The running configuration.
    pub live: Live,
    /// Guards what agents say and what follows from it; also the order in which snapshots reach the lcores.
    pub(super) roster: Mutex<Roster>,
    pub(super) mailboxes: Arc<[Mailbox]>,
    /// Of the capture that runs.
    pub(super) capture_seat: Arc<Semaphore>,
    /// Guards which refusals the log was told of.
    refusals: Mutex<Told>,
    read_port: ReadPort,
}

impl Shared {
    /// Starts with no agent connected. `mailboxes` and the lcores of `observer` are in the order of their numbers.
    pub fn new(
        identity: Identity,
        live: Live,
        observer: Observer,
        mailboxes: Arc<[Mailbox]>,
        read_port: ReadPort,
    ) -> Self {
        let roster = Mutex::new(Roster::new(Arc::clone(&live.running().config.catalog)));
        let (counters, chronicle, refusals) = Default::default();
        let capture_seat = Arc::new(Semaphore::new(1));
        Self {
            identity,
            observer,
            counters,
            chronicle,
            live,
            roster,
            mailboxes,
            capture_seat,
            refusals,
            read_port,
        }
    }

    /// The switch's clock.
    pub const fn clock(&self) -> &Clock {
        self.observer.clock()
    }

    /// Describes the backends that are configured, each with its place, without the addresses of their next hops.
    pub fn backends(&self) -> Vec<(BackendIndex, Backend)> {
        let roster = self.roster.lock();
        let places = roster.catalog().configured_backends().map(|(index, _)| index);
        places.zip(roster.describe(self.clock().now())).collect()
    }

    /// Returns what is configured now.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(self.roster.lock().catalog())
    }

    /// Carries out an order on the running configuration, and tells the lcores and the log. May take seconds: not for the
    /// control thread.
    ///
    /// # Errors
    /// Everything that is wrong with what it would lead to; nothing has changed then.
    pub fn carry_out(&self, order: &Order) -> Result<Outcome, OrderFault> {
        let prepare = |catalog: &Arc<Catalog>| {
            let nobody = |_| false;
            let (before, after) = (self.catalog().snapshot(nobody), catalog.snapshot(nobody));
            let renewals = self.mailboxes.iter().map(|_| Renewal::between(&before, &after)).collect();
            let catalog = Arc::clone(catalog);
            move || self.publish(renewals, |roster| roster.adopt(catalog)).1
        };
        match self.live.carry_out(order, self.clock().now(), prepare) {
            Ok((outcome, changed)) => {
                self.tell(&changed);
                let Outcome { generation, changes, warnings } = &outcome;
                let text = format!("configuration applied ({order}): {}", told(changes));
                info!(generation, "{text}");
                self.note(EventKind::ConfigurationApplied, None, &text);
                warnings.iter().for_each(|warning| warn!("{warning}"));
                Ok(outcome)
            }
            Err(fault) => {
                let text = format!("configuration not applied ({order}), the one before goes on: {fault}");
                warn!("{text}");
                self.note(EventKind::ConfigurationRefused, None, &text);
                Err(fault)
            }
        }
    }

    /// Reads the port.
    ///
    /// # Errors
    /// The port is closed or its driver has no counters.
    pub fn port(&self) -> Result<PortReading, DpdkError> {
        (self.read_port)()
    }

    /// Returns how many learned addresses did not reach an lcore since start.
    pub fn news_lost(&self) -> u64 {
        self.mailboxes.iter().map(Mailbox::news_lost).sum()
    }

    /// Returns how many learned TLS sessions did not reach an lcore since start.
    pub fn sessions_lost(&self) -> u64 {
        let waited = self.roster.lock().learned_lost();
        self.mailboxes.iter().map(Mailbox::sessions_lost).fold(waited, u64::saturating_add)
    }

    /// Does something to the roster, then tells the lcores and the log what changed by it. It must not change what the roster
    /// goes by: that is for [`Shared::carry_out`].
    pub(super) fn with_roster<T>(&self, act: impl FnOnce(&mut Roster) -> T) -> T {
        let (outcome, changes) = self.publish(Vec::new(), act);
        self.tell(&changes);
        outcome
    }

    /// Does something to the roster by which the lcores' memory begins anew as `renewals` say, of each in the order of their
    /// numbers; without any it stays. Tells the lcores, and returns what the log is to be told.
    fn publish<T>(&self, renewals: Vec<Renewal>, act: impl FnOnce(&mut Roster) -> T) -> (T, Vec<Change>) {
        let mut roster = self.roster.lock();
        let outcome = act(&mut roster);
        let (changes, snapshot) = roster.settle();
        if let Some(snapshot) = snapshot {
            // Under the lock, so that a later snapshot cannot be overtaken by this one.
            let snapshot = Arc::new(snapshot);
            let renewals = renewals.into_iter().chain(std::iter::repeat_with(Renewal::default));
            for (mailbox, renewal) in self.mailboxes.iter().zip(renewals) {
                mailbox.publish(Update::new(Arc::clone(&snapshot), renewal));
            }
            self.counters.published.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(loads) = roster.loads_due(self.clock().now()) {
            self.mailboxes.iter().for_each(|mailbox| mailbox.publish_loads(Arc::clone(&loads)));
        }
        for learned in roster.take_learned() {
            let session = LearnedSession { id: learned.id, backend: learned.backend };
            self.mailboxes.iter().for_each(|mailbox| mailbox.tell_session(session));
        }
        (outcome, changes)
    }

    /// Counts a connection that ended for a fault of the peer, and tells of it if that is news.
    pub(super) fn refused(&self, peer: IpAddr, end: &End) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        if matches!(end, End::Channel(_)) {
            self.roster.lock().stranger(peer, self.clock().now());
        }
        let why = end.to_string();
        if self.refusals.lock().is_news(peer, &why, self.clock().now()) {
            warn!(%peer, "agent refused: {why}");
            self.note(EventKind::AgentRefused, Some(&peer.to_string()), &format!("agent refused: {why}"));
        }
    }

    /// Tells that the switch serves from now on.
    pub(super) fn started(&self) {
        let Identity { address, device, .. } = &self.identity;
        let text =
            format!("baton-switch {} serves, address {address}, device {device}", env!("CARGO_PKG_VERSION"));
        self.note(EventKind::Started, None, &text);
    }

    /// Keeps an event for operators. What is logged as well is logged where it happens, with its own words for the log.
    pub(super) fn note(&self, kind: EventKind, subject: Option<&str>, text: &str) {
        self.chronicle.note(self.clock().now(), kind, subject, text);
    }

    fn tell(&self, changes: &[Change]) {
        changes.iter().for_each(|change| self.tell_one(change));
    }

    fn tell_one(&self, change: &Change) {
        let Change { backend, usable, was_usable, reasons } = change;
        let reasons = reasons.join("; ");
        let (kind, text) = if *usable {
            info!(%backend, "backend is usable");
            (EventKind::BackendUsable, "backend is usable".to_owned())
        } else if *was_usable {
            warn!(%backend, "backend gets no new connections any more: {reasons}");
            (EventKind::BackendUnusable, format!("backend gets no new connections any more: {reasons}"))
        } else {
            // As at every start of an agent, for a second or two.
            info!(%backend, "backend gets no new connections yet: {reasons}");
            (EventKind::BackendUnusable, format!("backend gets no new connections yet: {reasons}"))
        };
        self.note(kind, Some(backend), &text);
    }
}

/// Puts what differs into one line.
fn told(changes: &[String]) -> String {
    if changes.is_empty() { "nothing differs".to_owned() } else { changes.join("; ") }
}
