//! One backend as its agent describes it: where it stands, and why it gets no new connections.

use baton_core::policy;
use handoff_proto::control::{Load, REASON_BYTES_MAX, VipHealth};
use handoff_proto::{Micros, Vip};

use super::catalog::{NamedBackend, NamedVip};
use super::lifecycle::{Absence, Happening, Standing};

/// What a report says of the backend's fitness.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
    pub(super) vips: Vec<VipHealth>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) standing: Standing,
    /// VIPs whose requests some rule may send here.
    pub(super) needed: Vec<NamedVip>,
    pub(super) release: Option<String>,
    pub(super) clock_ahead_ms: Option<i64>,
    pub(super) vips: Vec<Vip>,
    pub(super) load: Option<Load>,
    /// The health its agent reported last, which counts as well for VIPs that a new configuration adds.
    pub(super) health: Option<Health>,
    /// What it has to do, for the policies.
    pub(super) measured: Option<policy::Load>,
    /// Why it is not usable, as far as its reports say.
    pub(super) unfit: Vec<String>,
    /// Why an agent that meant this backend was turned away, if none has been welcomed since.
    pub(super) turned_away: Option<String>,
}

/// How a backend stands: whether it may get new connections, and why not.
#[derive(Debug)]
pub(super) struct Outlook {
    pub(super) usable: bool,
    pub(super) reasons: Vec<String>,
}

/// Says why a backend gets no new connections, without what only time tells; empty if it does.
pub(super) fn reasons(backend: &NamedBackend, member: &Member) -> Vec<String> {
    if backend.is_removed {
        return vec!["it was taken out of the configuration".to_owned()];
    }
    let draining = backend.drain.then(|| "draining".to_owned());
    draining.into_iter().chain(member.reasons()).collect()
}

impl Member {
    /// Nobody speaks for it yet. `needed` are the VIPs whose requests some rule may send there.
    pub(super) fn new(needed: Vec<NamedVip>) -> Self {
        Self {
            standing: Standing::Absent(Absence::Never),
            needed,
            release: None,
            clock_ahead_ms: None,
            vips: Vec::new(),
            load: None,
            health: None,
            measured: None,
            unfit: Vec::new(),
            turned_away: None,
        }
    }

    /// Says whether its report, or its greeting where there is none yet, is so old that policies go on without it; `None`
    /// where no agent speaks.
    pub(super) fn is_stale(&self, now: Micros) -> Option<bool> {
        self.standing.heard().map(|heard| now.since(heard) > policy::FRESH)
    }

    /// Looks at its last report with other VIPs in mind.
    pub(super) fn need(&mut self, needed: Vec<NamedVip>) {
        self.needed = needed;
        let (Some(health), Some(session), Some(heard)) =
            (&self.health, self.standing.session(), self.standing.heard())
        else {
            return;
        };
        self.unfit = shortcomings(&self.needed, &self.vips, health);
        let happening = if self.unfit.is_empty() { Happening::FitReport } else { Happening::UnfitReport };
        // Not heard again: only its last words are weighed anew.
        self.standing = self.standing.after(happening, session, heard).unwrap_or(self.standing);
    }

    /// Says why the agent is not content; empty if it is.
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

/// Says what keeps a backend from getting new connections, going by its agent's report. `served` are the VIPs the agent serves.
pub(super) fn shortcomings(needed: &[NamedVip], served: &[Vip], health: &Health) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if !health.ready {
        found.extend(health.reasons.iter().cloned());
        if found.is_empty() {
            found.push("its agent says that the host is not ready".to_owned());
        }
    }
    for NamedVip { name, service } in needed {
        let vip = &service.vip;
        match health.vips.iter().find(|health| health.vip == *vip) {
            Some(health) if health.healthy => {}
            Some(health) => {
                let why = health.why.as_deref().map_or("its health probe failed".to_owned(), plain);
                found.push(format!("VIP {name} ({vip}) is unhealthy: {why}"));
            }
            None if served.contains(vip) => {
                found.push(format!("VIP {name} ({vip}) is missing from its agent's report"));
            }
            None => found.push(format!(
                "its agent does not serve VIP {name} ({vip}); add that [[vip]] to its agent.toml"
            )),
        }
    }
    found
}

/// Makes text from an agent fit for logs and terminals: one line, no control characters, bounded.
pub(super) fn plain(text: &str) -> String {
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
