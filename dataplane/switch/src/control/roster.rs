//! All backends: who speaks for each, what it last reported, whether it may get new connections.

use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use baton_core::Snapshot;
use baton_core::policy::BackendIndex;
use handoff_proto::control::{
    CONTROL_VERSION, Load, REASON_BYTES_MAX, REASONS_MAX, Report, SESSIONS_MAX, Sessions, VIPS_MAX,
};
use handoff_proto::{Micros, TlsSessionId, Vip, admin};
use thiserror::Error;

use super::catalog::{Catalog, NamedBackend, NamedVip};
use super::lifecycle::{Absence, Happening, SessionId, Standing};
use super::operate::WEIGHT_DEFAULT;

/// For how long a failure to authenticate is worth a word beside backends nobody speaks for; agents come back much sooner.
const STRANGER_RECENT: Micros = Micros::from_secs(10);

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
    /// It is beyond its limits.
    TooLong(Refusal),
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

#[derive(Debug)]
struct Member {
    standing: Standing,
    /// VIPs whose requests some rule may send here.
    needed: Vec<NamedVip>,
    release: Option<String>,
    clock_ahead_ms: Option<i64>,
    vips: Vec<Vip>,
    load: Option<Load>,
    /// Why it is not usable, as far as its reports say.
    unfit: Vec<String>,
    /// Why an agent that meant this backend was turned away, if none has been welcomed since.
    turned_away: Option<String>,
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
}

impl Roster {
    /// Starts without any agent: no backend is usable.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        let members = (0..)
            .map(BackendIndex)
            .zip(&catalog.backends)
            .map(|(index, _)| Member {
                standing: Standing::Absent(Absence::Never),
                needed: catalog.vips_of(index).into_iter().cloned().collect(),
                release: None,
                clock_ahead_ms: None,
                vips: Vec::new(),
                load: None,
                unfit: Vec::new(),
                turned_away: None,
            })
            .collect();
        let (changes, learned) = Default::default();
        Self { catalog, members, stranger: None, changes, is_stale: false, learned, learned_lost: 0 }
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
                self.catalog.backends.iter().map(|backend| backend.name.as_str()).collect();
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
            if is_meant(backend) && member.standing.session().is_none() {
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
            return Err(ReportFault::TooLong(Refusal::ReportTooLong { reasons, vips }));
        }
        let member = self.members.get(usize::from(index.0)).ok_or(ReportFault::Superseded)?;
        let unfit = shortcomings(member, report);
        let happening = if unfit.is_empty() { Happening::FitReport } else { Happening::UnfitReport };
        let standing = member.standing.after(happening, session, now).ok_or(ReportFault::Superseded)?;
        self.note(index, |member| {
            member.standing = standing;
            member.load = Some(report.load);
            member.unfit = unfit;
        });
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
            return Err(ReportFault::TooLong(Refusal::TooManySessions(ids.len())));
        }
        if !member.vips.contains(vip) {
            return Err(ReportFault::TooLong(Refusal::StrangeVip(*vip)));
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
        let Some(member) = self.members.get_mut(usize::from(index.0)) else { return };
        let (was_usable, reasons_before) = (member.standing.is_usable(), member.reasons());
        change(member);
        let (usable, reasons) = (member.standing.is_usable(), member.reasons());
        self.is_stale |= usable != was_usable;
        // That it has not reported yet is told by the report that follows.
        let is_passing = matches!(member.standing, Standing::Greeted { .. });
        if (usable != was_usable || reasons != reasons_before) && !is_passing {
            let backend = self.catalog.backend_name(index).unwrap_or_default().to_owned();
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
        self.catalog.snapshot(|index| self.is_usable(index))
    }

    /// Says whether a backend may get new connections.
    pub fn is_usable(&self, index: BackendIndex) -> bool {
        self.members.get(usize::from(index.0)).is_some_and(|member| member.standing.is_usable())
    }

    /// Says why a backend gets no new connections, and what else may have to do with it.
    fn reasons(&self, member: &Member, now: Micros) -> Vec<String> {
        let mut reasons = member.reasons();
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
        let named = (0..).map(BackendIndex).zip(&self.catalog.backends).zip(&self.members);
        named
            .map(|((index, backend), member)| admin::Backend {
                name: backend.name.clone(),
                address: backend.address.into(),
                usable: member.standing.is_usable(),
                reasons: self.reasons(member, now),
                next_hop_mac: None,
                report_age_ms: member.standing.heard().map(|heard| now.since(heard).0 / 1000),
                agent_release: member.release.clone(),
                clock_ahead_ms: member.clock_ahead_ms,
                load: member.load,
                pools: self.catalog.pools_of(index).map(str::to_owned).collect(),
                weight: WEIGHT_DEFAULT,
                draining: false,
                connections: None,
            })
            .collect()
    }
}

impl Member {
    /// Says why the backend gets no new connections; empty if it does.
    fn reasons(&self) -> Vec<String> {
        let absent = |why: &str| match &self.turned_away {
            Some(refusal) => vec![format!("its agent is turned away: {refusal}")],
            None => vec![why.to_owned()],
        };
        match self.standing {
            Standing::Usable { .. } => Vec::new(),
            Standing::Greeted { .. } | Standing::Unfit { .. } => self.unfit.clone(),
            Standing::Absent(Absence::Never) => {
                absent("its agent has not connected; is baton-agent running there?")
            }
            Standing::Absent(Absence::Closed) => absent("the connection of its agent ended"),
            Standing::Absent(Absence::Silent) => {
                absent("its agent fell silent; is the host or its management network down?")
            }
            Standing::Absent(Absence::Left) => absent("its agent said goodbye"),
        }
    }
}

/// Says what keeps a backend from getting new connections, going by its agent's report.
fn shortcomings(member: &Member, report: &Report) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if !report.ready {
        found.extend(report.reasons.iter().map(|reason| plain(reason)));
        if found.is_empty() {
            found.push("its agent says that the host is not ready".to_owned());
        }
    }
    for NamedVip { name, vip } in &member.needed {
        let health = report.health.iter().find(|health| health.vip == *vip);
        match health {
            Some(health) if health.healthy => {}
            Some(health) => {
                let why = health.why.as_deref().map_or("its health probe failed".to_owned(), plain);
                found.push(format!("VIP {name} ({vip}) is unhealthy: {why}"));
            }
            None if member.vips.contains(vip) => {
                found.push(format!("VIP {name} ({vip}) is missing from its agent's report"));
            }
            None => found.push(format!(
                "its agent does not serve VIP {name} ({vip}); add that [[vip]] to its agent.toml"
            )),
        }
    }
    found
}

/// Says by how many milliseconds `time` is ahead of `now`; negative if behind.
fn ahead_ms(time: Micros, now: Micros) -> i64 {
    (i128::from(time.0) - i128::from(now.0)).div_euclid(1000).try_into().unwrap_or(i64::MAX)
}

/// Makes text from an agent fit for logs and terminals: one line, no control characters, bounded.
fn plain(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(REASON_BYTES_MAX)
        .collect();
    while line.len() > REASON_BYTES_MAX {
        line.pop();
    }
    line
}
