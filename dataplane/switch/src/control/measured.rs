//! What an agent's reports say of a backend's load, as policies take it.

use baton_core::policy;
use handoff_proto::Micros;
use handoff_proto::control::Load;

/// A backend's load, and what the next report is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    load: policy::Load,
    /// What the newest report counted.
    counted: Load,
}

impl Measured {
    /// Takes a report that came `now`, after the one of `before`.
    pub(super) fn after(before: Option<&Self>, counted: &Load, now: Micros) -> Self {
        let bytes = |load: &Load| load.rx_bytes.saturating_add(load.tx_bytes);
        let bytes_per_s = before
            .map(|before| per_second(bytes(&before.counted), bytes(counted), before.load.reported, now));
        let load = policy::Load {
            reported: now,
            connections: u32::try_from(counted.established).unwrap_or(u32::MAX),
            cpu_permille: counted.cpu_busy_permille,
            bytes_per_s: bytes_per_s.unwrap_or_default(),
            ..policy::Load::default()
        };
        Self { load, counted: *counted }
    }

    /// Returns the load.
    pub(super) const fn load(&self) -> policy::Load {
        self.load
    }
}

/// Returns by how much a counter grew per second; 0 where it began anew, or where no time has passed.
fn per_second(before: u64, after: u64, since: Micros, now: Micros) -> u64 {
    let grown = u128::from(after.saturating_sub(before)) * 1_000_000;
    let rate = grown.checked_div(u128::from(now.since(since).0)).unwrap_or_default();
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rx_bytes: u64, tx_bytes: u64) -> Load {
        Load { established: 7, cpu_busy_permille: 250, rx_bytes, tx_bytes, ..Load::default() }
    }

    #[test]
    fn rates_are_what_counters_grew_by_between_two_reports() {
        let first = Measured::after(None, &counted(1_000_000, 5_000_000), Micros::from_millis(1_000));
        assert_eq!(
            (first.load().bytes_per_s, first.load().connections, first.load().cpu_permille),
            (0, 7, 250)
        );
        // 250 and 750 bytes in a tenth of a second.
        let second =
            Measured::after(Some(&first), &counted(1_000_250, 5_000_750), Micros::from_millis(1_100));
        assert_eq!((second.load().bytes_per_s, second.load().reported), (10_000, Micros::from_millis(1_100)));
        let restarted = Measured::after(Some(&second), &counted(5, 5), Micros::from_millis(1_200));
        assert_eq!(restarted.load().bytes_per_s, 0, "the host was started anew");
        let at_once = Measured::after(Some(&restarted), &counted(50, 50), Micros::from_millis(1_200));
        assert_eq!(at_once.load().bytes_per_s, 0, "no time has passed");
        let most = Measured::after(Some(&at_once), &counted(u64::MAX, u64::MAX), Micros(1_200_001));
        assert_eq!(most.load().bytes_per_s, u64::MAX, "what does not fit is as much as fits");
    }
}
