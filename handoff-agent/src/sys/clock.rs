//! The two clocks of the kernel, in microseconds.

use rustix::time::{ClockId, clock_gettime};

/// Returns `CLOCK_MONOTONIC`: what `bpf_ktime_get_ns` counts.
pub fn monotonic_us() -> u64 {
    micros(ClockId::Monotonic)
}

/// Returns the wall clock, since the Unix epoch.
pub fn wall_us() -> u64 {
    micros(ClockId::Realtime)
}

fn micros(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let part = |value: i64| u64::try_from(value).unwrap_or(0); // neither clock is ever negative
    part(now.tv_sec) * 1_000_000 + part(now.tv_nsec) / 1_000
}
