//! The switch's clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use handoff_proto::Micros;

/// Wall time at start plus monotonic progress since: never runs backwards, whatever happens to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall_at_start: Micros,
    start: Instant,
}

/// The wall clock stands before the Unix epoch.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system clock stands before 1970; set it first")]
pub struct ClockUnset;

impl Clock {
    /// Reads both clocks.
    ///
    /// # Errors
    /// The wall clock stands before 1970.
    pub fn start() -> Result<Self, ClockUnset> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| ClockUnset)?;
        Ok(Self { wall_at_start: Micros(micros(wall)), start: Instant::now() })
    }

    /// Returns the time.
    pub fn now(&self) -> Micros {
        self.wall_at_start.plus(self.elapsed())
    }

    /// Returns the time since start.
    pub fn elapsed(&self) -> Micros {
        Micros(micros(self.start.elapsed()))
    }

    /// Returns when the clock was started.
    pub const fn started(&self) -> Micros {
        self.wall_at_start
    }

    /// Returns the point of the operating system's monotonic clock at which this clock shows, or showed, `time`.
    pub fn instant_of(&self, time: Micros) -> Instant {
        self.start + std::time::Duration::from_micros(time.since(self.wall_at_start).0)
    }
}

fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_the_wall_clock_and_converts_back() {
        let clock = Clock::start().expect("a set clock");
        let (first, second) = (clock.now(), clock.now());
        assert!(clock.started() <= first && first <= second);
        assert!(clock.started() > Micros::from_secs(1_700_000_000), "{:?}", clock.started());
        let later = clock.started().plus(Micros::from_millis(5));
        assert_eq!(
            clock.instant_of(later) - clock.instant_of(clock.started()),
            std::time::Duration::from_millis(5)
        );
    }
}
