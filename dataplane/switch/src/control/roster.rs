//! All backends: who speaks for each, what it last reported, whether it may get new connections.

use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use baton_core::Snapshot;
use baton_core::policy::{self, BackendIndex};
use handoff_proto::control::{CONTROL_VERSION, REASONS_MAX, Report, SESSIONS_MAX, Sessions, VIPS_MAX};
use handoff_proto::{Micros, TlsSessionId, Vip, admin};
use thiserror::Error;

use super::catalog::{Catalog, NamedBackend, NamedVip};
use super::lifecycle::{Happening, SessionId, Standing};
use super::measured::load_of;
use super::member::{Health, Member, Outlook, plain, reasons, shortcomings};

/// For how long a failure to authenticate is worth a word beside backends nobody speaks for; agents come back much sooner.
const STRANGER_RECENT: Micros = Micros::from_secs(10);
/// How often the lcores are told of loads at most.
const LOADS_INTERVAL: Micros = Micros::from_millis(50);

/// How many learned TLS sessions wait to be passed on; beyond that the oldest are lost, and counted.
pub const LEARNED_MAX: usize = 8_192;

/// A TLS session a backend's server knows: who names it when connecting to the VIP belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The backend.
    pub backend: BackendIndex,
    /// Where the session began.
    pub vip: Vip,
    /// The session's id.
    pub id: TlsSessionId,
}

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of its control messages.
    pub version: u16,
    /// Name of the backend.
    pub name: String,
    /// Its address on the data network.
    pub address: IpAddr,
    /// The VIPs it serves.
    pub vips: Vec<Vip>,
    /// Its release.
    pub release: String,
    /// Its wall clock when it wrote this.
    pub time: Micros,
}

/// Why an agent is turned away, with a remedy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// It speaks another version.
    #[error(
        "the agent speaks version {0} of the control messages, the switch version {CONTROL_VERSION}; install the \
         same release on both"
    )]
    Version(u16),
    /// No backend has this name.
    #[error(
        "no [[backend]] of the switch is called \"{name}\"; correct name in agent.toml or add it to switch.toml \
         (there: {known})"
    )]
    UnknownName {
        /// What it calls itself.
        name: String,
        /// What the backends are called.
        known: String,
    },
    /// The backend has another address.
    #[error(
        "backend \"{name}\" has address {configured} in switch.toml, its agent says {found}; correct one of them"
    )]
    WrongAddress {
        /// The backend.
        name: String,
        /// What the agent says.
        found: IpAddr,
        /// What the switch's configuration says.
        configured: IpAddr,
    },
    /// The backend is not configured any more.
    #[error("the operator took backend \"{0}\" out of the switch's configuration")]
    Removed(String),
    /// More VIPs than an agent may serve.
    #[error("the agent serves {0} VIPs; at most {VIPS_MAX} are allowed")]
    TooManyVips(usize),
    /// More in a report than allowed.
    #[error(
        "a report with {reasons} reasons on {vips} VIPs; at most {REASONS_MAX} and {VIPS_MAX} are allowed"
    )]
    ReportTooLong {
        /// Reasons in it.
        reasons: usize,
        /// VIPs in it.
        vips: usize,
    },
    /// More TLS sessions in a message than allowed.
    #[error("a message of {0} TLS sessions; at most {SESSIONS_MAX} are allowed")]
    TooManySessions(usize),
    /// TLS sessions at a VIP it does not serve.
    #[error("TLS sessions at VIP {0}, which the agent did not say it serves; restart it")]
    StrangeVip(Vip),
}

/// Why a report, or a message of TLS sessions, is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportFault {
    /// Another connection speaks for the backend by now.
    Superseded,
    /// It is beyond its limits, or of a backend that does not belong here any more.
    Turned(Refusal),
}

/// Something an operator should know, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The backend.
    pub backend: String,
    /// Whether it may get new connections now.
    pub usable: bool,
    /// Whether it might before.
    pub was_usable: bool,
    /// Why not; empty if usable.
    pub reasons: Vec<String>,
}

/// The backends in their configured order.
#[derive(Debug)]
pub struct Roster {
    catalog: Arc<Catalog>,
    members: Vec<Member>,
    /// Who last failed to authenticate, and when.
    stranger: Option<(IpAddr, Micros)>,
    changes: Vec<Change>,
    is_stale: bool,
    learned: VecDeque<Learned>,
    learned_lost: u64,
    loads: LoadNews,
}

/// What the lcores have not been told of loads.
#[derive(Clone, Copy, Debug, Default)]
struct LoadNews {
    is_there: bool,
    /// When they were told last.
    told: Option<Micros>,
}

impl Roster {
    /// Starts without any agent: no backend is usable.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        let needed = catalog.vips_by_backend().into_iter();
        let members = needed.map(|needed| Member::new(needed.into_iter().cloned().collect())).collect();
        let (changes, loads, learned) = Default::default();
        Self { catalog, members, stranger: None, changes, is_stale: false, learned, learned_lost: 0, loads }
    }

    /// Goes by another configuration from now on. Backends keep their places: who speaks for one that is still there speaks
    /// on, who speaks for one that is gone is turned away when next heard.
    pub fn adopt(&mut self, catalog: Arc<Catalog>) {
        let before: Vec<Outlook> = (0..self.members.len()).map(|place| self.outlook(place)).collect();
        let needed = catalog.vips_by_backend().into_iter();
        let needed = needed.map(|needed| needed.into_iter().cloned().collect::<Vec<NamedVip>>());
        for (place, needed) in needed.enumerate() {
            match self.members.get_mut(place) {
                Some(member) => member.need(needed),
                None => self.members.push(Member::new(needed)),
            }
        }
        self.catalog = catalog;
        self.is_stale = true;
        for (place, before) in before.into_iter().enumerate() {
            self.tell(place, before);
        }
    }

    /// Returns what is configured.
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Takes in the agent of a backend, in place of an earlier one.
    ///
    /// # Errors
    /// Says why it does not belong here.
    pub fn greet(&mut self, session: SessionId, hello: Hello, now: Micros) -> Result<BackendIndex, Refusal> {
        let index = match self.place_of(&hello) {
            Ok(index) => index,
            Err(refusal) => {
                self.turn_away(&hello, &refusal);
                return Err(refusal);
            }
        };
        let Hello { vips, release, time, .. } = hello;
        self.note(index, |member| {
            member.turned_away = None;
            member.standing =
                member.standing.after(Happening::Greeting, session, now).unwrap_or(member.standing);
            member.vips = vips;
            member.release = Some(plain(&release));
            member.clock_ahead_ms = Some(ahead_ms(time, now));
            member.load = None;
            member.health = None;
            member.measured = None;
            member.unfit = vec!["its agent has not reported yet".to_owned()];
        });
        Ok(index)
    }

    /// Finds the backend an agent speaks for, if it belongs here.
    fn place_of(&self, hello: &Hello) -> Result<BackendIndex, Refusal> {
        if hello.version != CONTROL_VERSION {
            return Err(Refusal::Version(hello.version));
        }
        let Some((index, backend)) = self.catalog.backend_named(&hello.name) else {
            let known: Vec<&str> =
                self.catalog.configured_backends().map(|(_, backend)| backend.name.as_str()).collect();
            return Err(Refusal::UnknownName { name: plain(&hello.name), known: plain(&known.join(", ")) });
        };
        let configured = IpAddr::from(backend.address);
        if configured != hello.address {
            return Err(Refusal::WrongAddress { name: hello.name.clone(), found: hello.address, configured });
        }
        if hello.vips.len() > VIPS_MAX {
            return Err(Refusal::TooManyVips(hello.vips.len()));
        }
        Ok(index)
    }

    /// Remembers for operators why an agent was turned away, where its name or its address tells which backend it meant.
    fn turn_away(&mut self, hello: &Hello, refusal: &Refusal) {
        let is_meant = |backend: &NamedBackend| {
            backend.name == hello.name || IpAddr::from(backend.address) == hello.address
        };
        for (backend, member) in self.catalog.backends.iter().zip(&mut self.members) {
            if !backend.is_removed && is_meant(backend) && member.standing.session().is_none() {
                member.turned_away = Some(refusal.to_string());
            }
        }
    }

    /// Notes that somebody failed to authenticate.
    pub fn stranger(&mut self, peer: IpAddr, now: Micros) {
        self.stranger = Some((peer, now));
    }

    /// Takes a report.
    ///
    /// # Errors
    /// Another connection speaks for the backend by now, or the report is beyond its limits.
    pub fn report(
        &mut self,
        index: BackendIndex,
        session: SessionId,
        report: &Report,
        now: Micros,
    ) -> Result<(), ReportFault> {
        let (reasons, vips) = (report.reasons.len(), report.health.len());
        if reasons > REASONS_MAX || vips > VIPS_MAX {
            return Err(ReportFault::Turned(Refusal::ReportTooLong { reasons, vips }));
        }
        let place = usize::from(index.0);
        let member = self.members.get(place).ok_or(ReportFault::Superseded)?;
        if let Some(removed) = self.catalog.backends.get(place).filter(|backend| backend.is_removed) {
            return Err(ReportFault::Turned(self.removal(removed)));
        }
        let health = Health {
            ready: report.ready,
            reasons: report.reasons.iter().map(|reason| plain(reason)).collect(),
            vips: report.health.clone(),
        };
        let unfit = shortcomings(&member.needed, &member.vips, &health);
        let happening = if unfit.is_empty() { Happening::FitReport } else { Happening::UnfitReport };
        let standing = member.standing.after(happening, session, now).ok_or(ReportFault::Superseded)?;
        self.note(index, |member| {
            member.standing = standing;
            member.load = Some(report.load);
            member.health = Some(health);
            member.measured = load_of(&report.load, now);
            member.unfit = unfit;
        });
        self.loads.is_there = true;
        Ok(())
    }

    /// Takes TLS sessions an agent learned of, for [`Roster::take_learned`].
    ///
    /// # Errors
    /// Another connection speaks for the backend by now, or the message is beyond its limits: then nothing of it is taken.
    pub fn learn(
        &mut self,
        index: BackendIndex,
        session: SessionId,
        sessions: &Sessions,
    ) -> Result<(), ReportFault> {
        let member = self.members.get(usize::from(index.0)).ok_or(ReportFault::Superseded)?;
        if member.standing.session() != Some(session) {
            return Err(ReportFault::Superseded);
        }
        let Sessions { vip, ids } = sessions;
        if ids.len() > SESSIONS_MAX {
            return Err(ReportFault::Turned(Refusal::TooManySessions(ids.len())));
        }
        if !member.vips.contains(vip) {
            return Err(ReportFault::Turned(Refusal::StrangeVip(*vip)));
        }
        for id in ids {
            if self.learned.len() == LEARNED_MAX {
                self.learned.pop_front();
                self.learned_lost += 1;
            }
            self.learned.push_back(Learned { backend: index, vip: *vip, id: *id });
        }
        Ok(())
    }

    /// Returns the TLS sessions learned since the last call, oldest first.
    pub fn take_learned(&mut self) -> Vec<Learned> {
        std::mem::take(&mut self.learned).into()
    }

    /// Returns how many learned TLS sessions nobody took in time, since start.
    pub const fn learned_lost(&self) -> u64 {
        self.learned_lost
    }

    /// Says why the agent of a backend that is not configured any more is turned away.
    fn removal(&self, removed: &NamedBackend) -> Refusal {
        match self.catalog.backend_named(&removed.name) {
            Some((_, moved)) => Refusal::WrongAddress {
                name: removed.name.clone(),
                found: removed.address.into(),
                configured: moved.address.into(),
            },
            None => Refusal::Removed(removed.name.clone()),
        }
    }

    /// Returns what every backend has to do, by place: `None` where no agent speaks, or not any more.
    pub fn loads(&self, now: Micros) -> Arc<[Option<policy::Load>]> {
        let load = |member: &Member| {
            let measured = member.measured.filter(|_| member.standing.session().is_some());
            measured.filter(|load| load.is_fresh(now))
        };
        self.members.iter().map(load).collect()
    }

    /// Returns what the lcores should be told of loads, if there is anything new and they were not told just now.
    pub fn loads_due(&mut self, now: Micros) -> Option<Arc<[Option<policy::Load>]>> {
        let is_early = self.loads.told.is_some_and(|told| now.since(told) < LOADS_INTERVAL);
        if !self.loads.is_there || is_early {
            return None;
        }
        self.loads = LoadNews { is_there: false, told: Some(now) };
        Some(self.loads(now))
    }

    /// Notes that a connection ended. Nothing happens if another one speaks for the backend.
    pub fn part(&mut self, index: BackendIndex, session: SessionId, how: Happening, now: Micros) {
        self.note(index, |member| {
            if let Some(standing) = member.standing.after(how, session, now) {
                member.standing = standing;
            }
        });
    }

    /// Changes one member, and remembers what of it is news.
    fn note(&mut self, index: BackendIndex, change: impl FnOnce(&mut Member)) {
        let place = usize::from(index.0);
        let before = self.outlook(place);
        let Some(member) = self.members.get_mut(place) else { return };
        change(member);
        self.tell(place, before);
    }

    /// Returns how a backend stands for now.
    fn outlook(&self, place: usize) -> Outlook {
        match (self.catalog.backends.get(place), self.members.get(place)) {
            (Some(backend), Some(member)) => {
                let usable = backend.is_wanted() && member.standing.is_usable();
                Outlook { usable, reasons: reasons(backend, member) }
            }
            _ => Outlook { usable: false, reasons: Vec::new() },
        }
    }

    /// Remembers what of a backend is news, given how it stood before.
    fn tell(&mut self, place: usize, before: Outlook) {
        let Outlook { usable, reasons } = self.outlook(place);
        self.is_stale |= usable != before.usable;
        // That it has not reported yet is told by the report that follows.
        let is_passing =
            self.members.get(place).is_some_and(|member| matches!(member.standing, Standing::Greeted { .. }));
        if (usable != before.usable || reasons != before.reasons) && !is_passing {
            let backend = self.catalog.backends.get(place).map(|backend| backend.name.clone());
            let (backend, was_usable) = (backend.unwrap_or_default(), before.usable);
            self.changes.push(Change { backend, usable, was_usable, reasons });
        }
    }

    /// Returns what changed since the last call, and a snapshot if the lcores must know.
    pub fn settle(&mut self) -> (Vec<Change>, Option<Snapshot>) {
        let changes = std::mem::take(&mut self.changes);
        let is_stale = std::mem::take(&mut self.is_stale);
        (changes, is_stale.then(|| self.snapshot()))
    }

    /// Makes what the lcores work with.
    pub fn snapshot(&self) -> Snapshot {
        self.catalog.snapshot(|index| {
            self.members.get(usize::from(index.0)).is_some_and(|member| member.standing.is_usable())
        })
    }

    /// Says of each backend, by place, whether its report is so old that policies go on without it; `None` where no agent
    /// speaks.
    pub fn stale(&self, now: Micros) -> Vec<Option<bool>> {
        self.members.iter().map(|member| member.is_stale(now)).collect()
    }

    /// Says whether a backend may get new connections.
    pub fn is_usable(&self, index: BackendIndex) -> bool {
        let place = usize::from(index.0);
        let is_wanted = self.catalog.backends.get(place).is_some_and(NamedBackend::is_wanted);
        is_wanted && self.members.get(place).is_some_and(|member| member.standing.is_usable())
    }

    /// Says why a backend gets no new connections, and what else may have to do with it.
    fn reasons(&self, backend: &NamedBackend, member: &Member, now: Micros) -> Vec<String> {
        let mut reasons = reasons(backend, member);
        let is_unheard = matches!(member.standing, Standing::Absent(_)) && member.turned_away.is_none();
        if let Some((peer, _)) =
            self.stranger.filter(|(_, at)| is_unheard && now.since(*at) < STRANGER_RECENT)
        {
            reasons.push(format!(
                "an agent at {peer} does not authenticate: if it is this one, its key file is not the switch's"
            ));
        }
        reasons
    }

    /// Describes all backends for operators, without the addresses of their next hops.
    pub fn describe(&self, now: Micros) -> Vec<admin::Backend> {
        let pools = self.catalog.pools_by_backend();
        let named = self.catalog.backends.iter().zip(&self.members).zip(pools);
        named
            .filter(|((backend, _), _)| !backend.is_removed)
            .map(|((backend, member), pools)| admin::Backend {
                name: backend.name.clone(),
                address: backend.address.into(),
                usable: backend.is_wanted() && member.standing.is_usable(),
                reasons: self.reasons(backend, member, now),
                next_hop_mac: None,
                report_age_ms: member.standing.heard().map(|heard| now.since(heard).0 / 1000),
                report_stale: member.is_stale(now),
                agent_release: member.release.clone(),
                clock_ahead_ms: member.clock_ahead_ms,
                load: member.load,
                pools: pools.into_iter().map(str::to_owned).collect(),
                weight: backend.weight,
                draining: backend.drain,
                connections: None,
                handoffs: 0,
            })
            .collect()
    }
}

/// Says by how many milliseconds `time` is ahead of `now`; negative if behind.
fn ahead_ms(time: Micros, now: Micros) -> i64 {
    (i128::from(time.0) - i128::from(now.0)).div_euclid(1000).try_into().unwrap_or(i64::MAX)
}
