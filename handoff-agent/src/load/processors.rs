//! Shares of processor time.

use std::time::Duration;

/// Busy and total time of the processors, in ticks since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuTime {
    busy: u64,
    total: u64,
    /// How many processors are there.
    pub(super) processors: u64,
}

impl CpuTime {
    /// Reads `/proc/stat`: in its first line user nice system idle iowait irq softirq steal, then a line for each processor.
    pub(super) fn of_stat(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> =
            fields.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        let total = ticks.iter().fold(0u64, |sum, ticks| sum.saturating_add(*ticks));
        let idle = ticks.get(3)?.saturating_add(*ticks.get(4)?);
        let is_processor = |line: &&str| {
            line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let processors = u64::try_from(stat.lines().filter(is_processor).count()).ok()?.max(1);
        Some(Self { busy: total.saturating_sub(idle), total, processors })
    }

    /// Returns the share of the time since another reading that was busy, in thousandths; `None` if no tick passed.
    pub(super) fn busy_permille_since(self, before: Self) -> Option<u16> {
        let total = self.total.checked_sub(before.total)?;
        let busy = self.busy.saturating_sub(before.busy).min(total);
        u16::try_from((u128::from(busy) * 1_000).checked_div(u128::from(total))?).ok()
    }
}

/// Returns the share of what `milli_cpus` thousandths of a processor could do in a time that was used, in thousandths.
pub(super) fn used_permille(used_us: u64, time: Duration, milli_cpus: u64) -> Option<u16> {
    let could_us = time.as_micros() * u128::from(milli_cpus) / 1_000;
    let share = (u128::from(used_us) * 1_000).checked_div(could_us)?;
    u16::try_from(share.min(1_000)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_iowait_are_not_busy() {
        let before =
            CpuTime::of_stat("cpu  10 0 10 60 20 0 0 0 5 0\ncpu0 1 2 3\ncpu1 1\nintr 5\n").expect("a stat");
        assert_eq!(before, CpuTime { busy: 20, total: 100, processors: 2 });
        let now = CpuTime::of_stat("cpu  30 0 30 100 20 5 5 10 5 0\n").expect("a stat");
        assert_eq!(now.busy_permille_since(before), Some(600));
        assert_eq!(now.busy_permille_since(now), None, "no time went by");
        assert_eq!(before.busy_permille_since(now), None, "a counter that ran backwards");
    }

    #[test]
    fn other_texts_are_no_stat() {
        for text in ["", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu  1 2 3 x 5"] {
            assert_eq!(CpuTime::of_stat(text), None, "{text}");
        }
    }

    #[test]
    fn a_group_is_measured_by_what_it_may_use() {
        let time = Duration::from_millis(100);
        // 50 ms of time used in 100 ms: half of one processor, a quarter of two, all of half a one.
        assert_eq!(used_permille(50_000, time, 1_000), Some(500));
        assert_eq!(used_permille(50_000, time, 2_000), Some(250));
        assert_eq!(used_permille(50_000, time, 500), Some(1_000));
        assert_eq!(used_permille(90_000, time, 500), Some(1_000), "a burst beyond its quota");
        assert_eq!(used_permille(1, Duration::ZERO, 1_000), None);
        assert_eq!(used_permille(u64::MAX, Duration::from_micros(1), 1_000), Some(1_000));
    }
}
