//! How likely something is, and whether a drawn number means that it happens.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Draws are compared in this many steps: all of them are exact in an `f64`, so that parsing loses nothing.
const STEPS: u64 = 1 << 53;

/// A probability from never to always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chance {
    steps: u64,
}

/// Why a text is no chance.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChanceError {
    /// `0.01` might mean a hundredth or a ten-thousandth: the sign decides.
    #[error("a percentage is needed, with its sign: 1%")]
    NoPercentage,
    /// Below 0 %, above 100 %, or not a number.
    #[error("allowed are 0% to 100%")]
    OutOfRange,
}

impl Chance {
    /// It never happens.
    pub const NEVER: Self = Self { steps: 0 };
    /// It always happens.
    pub const ALWAYS: Self = Self { steps: STEPS };

    /// A chance of so many in a hundred.
    ///
    /// # Errors
    /// Outside 0 to 100, or not a number.
    pub fn percent(percent: f64) -> Result<Self, ChanceError> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(ChanceError::OutOfRange);
        }
        // Within 0 to STEPS, as just checked.
        Ok(Self { steps: (percent / 100.0 * STEPS as f64).round() as u64 })
    }

    /// Whether it happens for a number drawn evenly from all of `u64`.
    #[must_use]
    pub fn hits(self, draw: u64) -> bool {
        (draw >> 11) < self.steps
    }

    /// The chance as a share of 1.
    #[must_use]
    pub fn share(self) -> f64 {
        self.steps as f64 / STEPS as f64
    }
}

impl FromStr for Chance {
    type Err = ChanceError;

    fn from_str(text: &str) -> Result<Self, ChanceError> {
        let number = text.strip_suffix('%').ok_or(ChanceError::NoPercentage)?;
        Self::percent(number.trim_end().parse().map_err(|_| ChanceError::NoPercentage)?)
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Finer than anybody asks for, and without the last bits that a division leaves.
        write!(formatter, "{}%", (self.share() * 1e8).round() / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_percentages_and_nothing_else() {
        assert_eq!("0%".parse(), Ok(Chance::NEVER));
        assert_eq!("100%".parse(), Ok(Chance::ALWAYS));
        assert_eq!("50%".parse(), Ok(Chance { steps: STEPS / 2 }));
        assert_eq!("0.5 %".parse::<Chance>().map(|chance| chance.to_string()), Ok("0.5%".to_owned()));
        assert_eq!("1%".parse::<Chance>().map(|chance| chance.steps), Ok((STEPS + 50) / 100));
        for text in ["", "%", "1", "0.01", "one%", "1%%"] {
            assert_eq!(text.parse::<Chance>(), Err(ChanceError::NoPercentage), "{text:?}");
        }
        for text in ["-1%", "100.1%", "inf%", "NaN%"] {
            assert_eq!(text.parse::<Chance>(), Err(ChanceError::OutOfRange), "{text:?}");
        }
    }

    #[test]
    fn never_and_always_have_no_exception() {
        for draw in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(!Chance::NEVER.hits(draw));
            assert!(Chance::ALWAYS.hits(draw));
        }
    }

    #[test]
    fn a_half_ends_in_the_middle() {
        let half = Chance::percent(50.0).expect("within range");
        assert!(half.hits((1 << 63) - 1));
        assert!(!half.hits(1 << 63));
    }
}
