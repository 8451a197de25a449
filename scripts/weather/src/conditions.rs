//! What the weather of one direction is like.

use std::time::Duration;

use thiserror::Error;

use crate::Chance;

/// Longest delay, jitter and wait: a frame that comes later than TCP's longest patience tests nothing.
pub const DELAY_MAX: Duration = Duration::from_secs(60);
/// Bytes at a frame's beginning that are never corrupted: an Ethernet header, which the frame's own checksum guards.
pub const SPARED_BYTES: usize = 14;
/// Most frames that may overtake one that is held back.
pub const REORDER_GAP_MAX: u32 = 1000;

/// The weather of one direction. The default is a clear sky: every frame goes on at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// How many frames vanish.
    pub loss: Chance,
    /// How many frames arrive twice, the copy right behind.
    pub duplicate: Chance,
    /// How many frames are held back until later ones have overtaken them.
    pub reorder: Chance,
    /// A frame held back goes on when this many later frames went on...
    pub reorder_gap: u32,
    /// ... or when this much time passed since it would have gone on, whichever comes first.
    pub reorder_wait: Duration,
    /// How many frames arrive with one bit changed, behind their first [`SPARED_BYTES`]. For worlds that are simulated only: in
    /// the kernel's, a frame may not have its checksum yet, and would get one that fits the change.
    pub corrupt: Chance,
    /// How long every frame takes.
    pub delay: Duration,
    /// How much longer, at most: each frame draws its own share of it, all shares alike.
    pub jitter: Duration,
    /// Whether a frame may overtake an earlier one because it drew less jitter. If not, it waits for the earlier one:
    /// jitter then changes gaps between frames, never their order.
    pub jitter_reorders: bool,
}

/// Conditions that make no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConditionsError {
    /// A delay, jitter or wait above [`DELAY_MAX`].
    #[error("{what} of {given:?}: at most {DELAY_MAX:?}")]
    TooLong {
        /// Which of them.
        what: &'static str,
        /// How long it was to be.
        given: Duration,
    },
    /// A gap of 0 is no reordering; above [`REORDER_GAP_MAX`] it is a delay.
    #[error("reorder gap of {0} frames: allowed are 1 to {REORDER_GAP_MAX}")]
    Gap(u32),
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            loss: Chance::NEVER,
            duplicate: Chance::NEVER,
            reorder: Chance::NEVER,
            reorder_gap: 3,
            reorder_wait: Duration::from_millis(10),
            corrupt: Chance::NEVER,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            jitter_reorders: false,
        }
    }
}

impl Conditions {
    /// Checks that every value is within its bound.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn checked(self) -> Result<Self, ConditionsError> {
        let times = [("delay", self.delay), ("jitter", self.jitter), ("reorder wait", self.reorder_wait)];
        if let Some((what, given)) = times.into_iter().find(|(_, time)| *time > DELAY_MAX) {
            return Err(ConditionsError::TooLong { what, given });
        }
        if !(1..=REORDER_GAP_MAX).contains(&self.reorder_gap) {
            return Err(ConditionsError::Gap(self.reorder_gap));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept() {
        assert_eq!(Conditions::default().checked(), Ok(Conditions::default()));
        let long = DELAY_MAX + Duration::from_nanos(1);
        for conditions in [
            Conditions { delay: long, ..Conditions::default() },
            Conditions { jitter: long, ..Conditions::default() },
            Conditions { reorder_wait: long, ..Conditions::default() },
        ] {
            assert!(
                matches!(conditions.checked(), Err(ConditionsError::TooLong { given, .. }) if given == long)
            );
        }
        for gap in [0, REORDER_GAP_MAX + 1] {
            let conditions = Conditions { reorder_gap: gap, ..Conditions::default() };
            assert_eq!(conditions.checked(), Err(ConditionsError::Gap(gap)));
        }
    }
}
