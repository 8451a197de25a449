//! Points in time and spans, in microseconds.

use serde::{Deserialize, Serialize};

/// Microseconds: a span, or a point in time since the Unix epoch by the clock of the switch.
///
/// The switch reads the wall clock once at start and adds monotonic progress, so that points never run backwards
/// within one process and are ordered across restarts as well as the wall clock is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// Makes a span from milliseconds; saturates at the end of the range.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Makes a span from seconds; saturates at the end of the range.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Adds a span; saturates at the end of the range.
    #[must_use]
    pub const fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Returns how long ago `earlier` was, zero if it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// Returns whole seconds.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }
}
