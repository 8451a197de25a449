//! What the parts of the agent know of the backend, for the report to the switch.

use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// The place where the parts leave what they know.
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
        // What is stored is whole after every statement: a panic elsewhere does not spoil it.
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
