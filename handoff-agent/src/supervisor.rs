//! Deciding whether this backend is ready, again and again.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use handoff_proto::{FRESHNESS_FUTURE, Vip};

use crate::births::{BirthWatch, Births};
use crate::bpf::abi::SETTING_CLOCK_KNOWN;
use crate::bpf::{Attachment, Programs, Steering, is_attached};
use crate::host::{self, Facts, Finding, FirewallFacts, Keeper, Scope, Severity, Wanted};
use crate::load::Servers;
use crate::mending::{Attempt, Mending, News};
use crate::selftest::SelfTest;
use crate::status::{Announcer, Notice, Readiness, Status};
use crate::sys::clock;

/// How often readiness is judged.
const TICK: Duration = Duration::from_millis(100);
/// How often the host is looked at.
const FACTS_INTERVAL: Duration = Duration::from_secs(2);
/// How often firewall rules are listed: that takes longer.
const FIREWALL_INTERVAL: Duration = Duration::from_secs(30);
/// How soon a failed self-test is made again: at first, and at most.
const SELF_TEST_PAUSE: Duration = Duration::from_millis(300);
const SELF_TEST_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Watches the host and judges.
pub struct Supervisor<'a> {
    wanted: Wanted,
    keeper: Option<Keeper>,
    mending: Mending,
    programs: &'a Programs,
    steering: &'a Steering<'a>,
    status: &'a Status,
    servers: &'a Servers,
    attachment: Option<Attachment>,
    firewall: (Instant, FirewallFacts),
    facts_next: Instant,
    /// Why the host could not be looked at, when it was tried last.
    unseen: Option<String>,
    findings: Vec<Finding>,
    self_test: SelfTestState,
    births: BirthWatch,
    announcer: Announcer,
    /// What was last told of failures to attach, and to tell the programs.
    unattached: Option<String>,
    unsteered: Option<String>,
}

struct SelfTestState {
    /// What the last one said; `None` before the first.
    last: Option<Result<(), String>>,
    next: Instant,
    pause: Duration,
    /// Whether the local servers were well when it was last made.
    healthy: bool,
}

/// The host as it is now, mended where `keeper` allows: what is left to find, and the firewall as listed.
///
/// # Errors
/// The kernel does not answer.
pub fn survey(
    wanted: &Wanted,
    keeper: Option<(&mut Keeper, &mut Mending)>,
    firewall: FirewallFacts,
) -> std::io::Result<(Vec<Finding>, Facts)> {
    let facts = host::gather(wanted, firewall)?;
    let findings = host::check(&facts, wanted);
    let Some((keeper, mending)) = keeper else { return Ok((findings, facts)) };
    let attempts: Vec<Attempt> = findings
        .iter()
        .filter_map(|finding| {
            let mend = finding.mend.clone()?;
            let failure = keeper.mend(&mend).err().map(|error| error.to_string());
            Some(Attempt { mend, what: finding.what.clone(), failure })
        })
        .collect();
    let mended = attempts.iter().any(|attempt| attempt.failure.is_none());
    mending.note(attempts).iter().for_each(News::log);
    if !mended {
        return Ok((findings, facts));
    }
    let facts = host::gather(wanted, host::gather_firewall())?;
    Ok((host::check(&facts, wanted), facts))
}

/// What the supervisor starts with.
pub struct Beginning<'a> {
    /// What the host is wanted for.
    pub wanted: Wanted,
    /// May change the host.
    pub keeper: Option<Keeper>,
    /// What has been told of mending the host.
    pub mending: Mending,
    /// What was found at the host, and told.
    pub findings: Vec<Finding>,
    /// The loaded programs.
    pub programs: &'a Programs,
    /// Their settings.
    pub steering: &'a Steering<'a>,
    /// Where to leave the judgement.
    pub status: &'a Status,
    /// Whose load is measured, to be found again when others listen.
    pub servers: &'a Servers,
    /// The programs at the interface.
    pub attachment: Attachment,
    /// The firewall as just listed.
    pub firewall: FirewallFacts,
}

impl<'a> Supervisor<'a> {
    /// Begins; nothing has been judged yet.
    pub fn new(beginning: Beginning<'a>) -> Self {
        let now = Instant::now();
        Self {
            wanted: beginning.wanted,
            keeper: beginning.keeper,
            mending: beginning.mending,
            programs: beginning.programs,
            steering: beginning.steering,
            status: beginning.status,
            servers: beginning.servers,
            attachment: Some(beginning.attachment),
            firewall: (now, beginning.firewall),
            facts_next: now,
            unseen: None,
            findings: beginning.findings,
            self_test: SelfTestState { last: None, next: now, pause: SELF_TEST_PAUSE, healthy: false },
            births: BirthWatch::default(),
            announcer: Announcer::new(now),
            unattached: None,
            unsteered: None,
        }
    }

    /// Judges until the other end of `stop` is dropped.
    pub fn run(&mut self, stop: &Receiver<()>) {
        loop {
            let mut reasons = Vec::new();
            self.look_at_host(&mut reasons);
            self.look_at_births(&mut reasons);
            if reasons.is_empty() {
                self.try_out(&mut reasons);
            }
            self.look_at_clock(&mut reasons);
            self.judge(Readiness { reasons });
            if stop.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn look_at_host(&mut self, reasons: &mut Vec<String>) {
        let now = Instant::now();
        if now >= self.facts_next {
            self.facts_next = now + FACTS_INTERVAL;
            if now.duration_since(self.firewall.0) >= FIREWALL_INTERVAL {
                self.firewall = (now, host::gather_firewall());
            }
            let keeper = self.keeper.as_mut().map(|keeper| (keeper, &mut self.mending));
            match survey(&self.wanted, keeper, self.firewall.1.clone()) {
                Ok((findings, facts)) => {
                    self.unseen = None;
                    self.firewall.1 = facts.firewall.clone();
                    self.servers.look(&facts.listeners);
                    self.note_findings(findings);
                    self.keep_attached(&facts);
                }
                Err(error) => self.unseen = Some(format!("the host cannot be looked at: {error}")),
            }
        }
        reasons.extend(self.unseen.clone());
        let blocking =
            |finding: &&Finding| finding.severity == Severity::Error && finding.scope == Scope::Host;
        reasons.extend(
            self.findings.iter().filter(blocking).map(|finding| format!("{}: {}", finding.what, finding.why)),
        );
    }

    fn note_findings(&mut self, findings: Vec<Finding>) {
        let known = std::mem::take(&mut self.findings);
        for finding in findings.iter().filter(|finding| !known.contains(finding)) {
            log_finding(finding);
        }
        for finding in known.iter().filter(|finding| !findings.contains(finding)) {
            tracing::info!(what = finding.what, "no longer so");
            self.self_test.next = Instant::now();
        }
        self.findings = findings;
    }

    /// Attaches again where the interface went away and came back.
    fn keep_attached(&mut self, facts: &Facts) {
        let pin_dir = &self.wanted.pin_dir;
        let Some(interface) = &facts.interface else { return };
        if is_attached(pin_dir, interface.index) {
            return;
        }
        self.attachment = None;
        self.self_test.last = None;
        self.self_test.next = Instant::now();
        let attached = self
            .steering
            .set_interface(interface.index)
            .and_then(|()| Attachment::new(self.programs, interface.index, pin_dir));
        match attached {
            Ok(attachment) => {
                tracing::warn!(interface = interface.name, "attached to the interface again");
                self.attachment = Some(attachment);
                self.unattached = None;
            }
            Err(error) => {
                if is_news(&mut self.unattached, error.to_string()) {
                    tracing::error!(interface = interface.name, %error, "cannot attach");
                }
            }
        }
    }

    fn look_at_clock(&self, reasons: &mut Vec<String>) {
        if self.steering.flags() & SETTING_CLOCK_KNOWN == 0 {
            reasons.push("the switch's clock is not known yet".to_owned());
        }
        // What was issued up to now may have been used by programs that were detached since.
        let open_us = self.steering.records_since_us().saturating_add(FRESHNESS_FUTURE.0);
        if clock::monotonic_us() <= open_us {
            reasons.push("the memory of used handoffs is younger than a second".to_owned());
        }
    }

    fn look_at_births(&mut self, reasons: &mut Vec<String>) {
        let Ok(counters) = self.programs.maps().counters() else { return };
        if self.births.closed(clock::monotonic_us(), Births::of(&counters)) {
            self.self_test.last = None; // before it opens again, it must pass
            reasons.push(
                "the kernel accepted handoffs that never became connections; something on the host drops them"
                    .to_owned(),
            );
        }
    }

    fn try_out(&mut self, reasons: &mut Vec<String>) {
        let health = self.status.snapshot().health;
        let healthy = health.iter().all(|vip| vip.healthy);
        let state = &mut self.self_test;
        let now = Instant::now();
        if healthy && !state.healthy && state.last != Some(Ok(())) {
            state.next = now;
            state.pause = SELF_TEST_PAUSE;
        }
        if state.last != Some(Ok(())) && now >= state.next {
            state.healthy = healthy;
            let vips: Vec<Vip> = health.iter().map(|vip| vip.vip).collect();
            let result = run_self_test(
                self.programs,
                self.steering,
                &self.wanted.interface,
                self.wanted.address,
                &vips,
            );
            match &result {
                Ok(()) => {
                    state.pause = SELF_TEST_PAUSE;
                    tracing::info!("the self-test passed");
                }
                Err(why) => {
                    if state.last.as_ref() != Some(&result) {
                        tracing::error!(why, "the self-test failed");
                    }
                    state.next = now + state.pause;
                    state.pause = (state.pause * 2).min(SELF_TEST_PAUSE_MAX);
                }
            }
            state.last = Some(result);
        }
        match &state.last {
            Some(Ok(())) => {}
            Some(Err(why)) => reasons.push(why.clone()),
            None => reasons.push("the self-test has not been made yet".to_owned()),
        }
    }

    fn judge(&mut self, readiness: Readiness) {
        let ready = readiness.ready();
        match self.steering.set_ready(ready) {
            Ok(()) => self.unsteered = None,
            Err(error) => {
                if is_news(&mut self.unsteered, error.to_string()) {
                    tracing::error!(%error, "readiness cannot be told to the programs");
                }
            }
        }
        let why = readiness.reasons.join("; ");
        let changed = self.status.set_readiness(readiness);
        match self.announcer.notice(Instant::now(), ready, changed) {
            Some(Notice::Ready) => tracing::info!("ready for handoffs"),
            Some(Notice::Starting) => tracing::info!(why, "not ready for handoffs yet"),
            Some(Notice::NotReady) => tracing::warn!(why, "not ready for handoffs"),
            None => {}
        }
    }
}

/// Says whether a text differs from the last one told, and remembers it.
fn is_news(told: &mut Option<String>, text: String) -> bool {
    told.replace(text) != *told
}

fn run_self_test(
    programs: &Programs,
    steering: &Steering<'_>,
    interface: &str,
    address: Ipv4Addr,
    vips: &[Vip],
) -> Result<(), String> {
    let netlink = crate::sys::netlink::Netlink::open().map_err(|error| error.to_string())?;
    let found = netlink.interface(interface).map_err(|error| error.to_string())?;
    let Some(found) = found else { return Err(format!("there is no interface `{interface}`")) };
    SelfTest { programs, steering, mac: found.mac, address }.run(vips).map_err(|error| error.to_string())
}

/// Logs a finding in one line.
pub fn log_finding(finding: &Finding) {
    let Finding { what, why, remedy, .. } = finding;
    match finding.severity {
        Severity::Error => tracing::error!(what, why, remedy, "found"),
        Severity::Warning => tracing::warn!(what, why, remedy, "found"),
    }
}

/// Undoes everything an agent did on this host. Nothing done is fine.
///
/// # Errors
/// An agent is running, or the kernel refuses.
pub fn detach(state_dir: &Path, pin_dir: &Path) -> Result<(), crate::DetachError> {
    let keeper = Keeper::open(state_dir, Vec::new())?;
    crate::bpf::detach(pin_dir)?;
    crate::selftest::clean_up().map_err(crate::DetachError::SelfTest)?;
    keeper.restore()?;
    Ok(())
}
