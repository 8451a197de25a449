//! What the parts of the agent know of the backend, for the report to the switch.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use handoff_proto::Vip;
use handoff_proto::control::{REASON_BYTES_MAX, REASONS_MAX, VipHealth};

/// Whether the host takes handoffs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What keeps it from doing so, one sentence each; none means ready.
    pub reasons: Vec<String>,
}

impl Readiness {
    /// Says whether the host is fit to take handoffs.
    pub const fn ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Returns the reasons within the limits of a report.
    pub fn told(&self) -> Vec<String> {
        let short = |reason: &String| {
            let end =
                (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
            reason[..end.unwrap_or(0)].to_owned()
        };
        self.reasons.iter().take(REASONS_MAX).map(short).collect()
    }
}

/// How long after its start an agent may be unready as a matter of course: until it knows the time, has tried the host
/// out, and its memory of handoffs is old enough.
const START_MAX: Duration = Duration::from_secs(4);

/// How a state of readiness is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The host takes handoffs.
    Ready,
    /// It does not yet, and nobody need worry.
    Starting,
    /// It does not.
    NotReady,
}

/// Decides what of readiness is told, and how: each change once, and what lasts beyond the start once more.
#[derive(Clone, Copy, Debug)]
pub struct Announcer {
    /// Until when the agent starts; `None` once it was ready, or late.
    starting_until: Option<Instant>,
}

impl Announcer {
    /// Begins with the start of the agent.
    pub fn new(start: Instant) -> Self {
        Self { starting_until: Some(start + START_MAX) }
    }

    /// Returns how to tell readiness, if there is something to tell.
    pub fn notice(&mut self, now: Instant, ready: bool, changed: bool) -> Option<Notice> {
        let started = self.starting_until.take_if(|until| ready || now >= *until).is_some();
        match (ready, self.starting_until) {
            (true, _) => changed.then_some(Notice::Ready),
            (false, Some(_)) => changed.then_some(Notice::Starting),
            // What was told as a matter of course has lasted too long for one.
            (false, None) => (changed || started).then_some(Notice::NotReady),
        }
    }
}

/// Everything known at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Whether the host takes handoffs.
    pub readiness: Readiness,
    /// Whether the local servers are well.
    pub health: Vec<VipHealth>,
    /// Counts changes, so that a reader notices them.
    pub version: u64,
}

/// The place where the parts leave what they know. The lock is over all of it: the supervisor writes readiness, each probe the
/// health of its VIP, and a report has both as they were at one time.
pub struct Status(Mutex<Snapshot>);

impl Status {
    /// Begins with nothing ready and nothing healthy.
    pub fn new(vips: &[Vip]) -> Self {
        let unknown = |vip: &Vip| VipHealth { vip: *vip, healthy: false, why: Some("not probed yet".into()) };
        Self(Mutex::new(Snapshot {
            readiness: Readiness { reasons: vec!["the agent has just started".to_owned()] },
            health: vips.iter().map(unknown).collect(),
            version: 0,
        }))
    }

    /// Returns everything known.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Notes readiness; says whether that is a change.
    pub fn set_readiness(&self, readiness: Readiness) -> bool {
        let mut known = self.lock();
        if known.readiness == readiness {
            return false;
        }
        known.readiness = readiness;
        known.version += 1;
        true
    }

    /// Notes the health of one VIP; says whether it became well or unwell.
    pub fn set_health(&self, vip: Vip, why_not: Option<String>) -> bool {
        let mut known = self.lock();
        let Some(entry) = known.health.iter_mut().find(|entry| entry.vip == vip) else { return false };
        let changed = entry.healthy != why_not.is_none();
        entry.healthy = why_not.is_none();
        entry.why = why_not;
        known.version += u64::from(changed);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // Every statement that changes the snapshot leaves it whole: a panic of another holder does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_cut_to_what_a_report_may_hold() {
        let readiness = Readiness { reasons: vec!["ü".repeat(200); 40] };
        let told = readiness.told();
        assert_eq!(told.len(), REASONS_MAX);
        assert_eq!(told[0], "ü".repeat(REASON_BYTES_MAX / 2));
        assert!(!readiness.ready());
    }

    #[test]
    fn an_agent_that_starts_alarms_nobody_until_it_takes_too_long() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut announcer = Announcer::new(start);
        assert_eq!(announcer.notice(at(100), false, true), Some(Notice::Starting));
        assert_eq!(announcer.notice(at(200), false, false), None);
        assert_eq!(announcer.notice(at(300), true, true), Some(Notice::Ready));
        assert_eq!(announcer.notice(at(400), true, false), None);
        assert_eq!(
            announcer.notice(at(500), false, true),
            Some(Notice::NotReady),
            "that is no start any more"
        );

        let mut announcer = Announcer::new(start);
        assert_eq!(announcer.notice(at(100), false, true), Some(Notice::Starting));
        assert_eq!(announcer.notice(at(3_999), false, false), None);
        assert_eq!(
            announcer.notice(at(4_000), false, false),
            Some(Notice::NotReady),
            "the same, but it lasts"
        );
        assert_eq!(announcer.notice(at(5_000), false, false), None);
        assert_eq!(announcer.notice(at(5_100), false, true), Some(Notice::NotReady));
        assert_eq!(announcer.notice(at(6_000), true, true), Some(Notice::Ready));
    }

    #[test]
    fn only_changes_raise_the_version() {
        let vip = Vip { address: [10, 60, 0, 100].into(), port: 80 };
        let status = Status::new(&[vip]);
        assert!(status.set_health(vip, None));
        assert!(!status.set_health(vip, None));
        assert!(status.set_readiness(Readiness { reasons: vec![] }));
        assert!(!status.set_readiness(Readiness { reasons: vec![] }));
        assert_eq!(status.snapshot().version, 2);
        assert!(!status.set_health(Vip { port: 81, ..vip }, None));
    }
}
