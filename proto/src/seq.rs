//! TCP sequence numbers: arithmetic modulo 2^32 that cannot panic (RFC 9293, section 3.4).

use core::fmt;

/// A TCP sequence or acknowledgment number.
///
/// Ordering is the serial kind: [`Seq::before`] is only meaningful for numbers less than 2^31 apart, and there is
/// deliberately no `Ord`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// Returns the number `count` bytes further on.
    #[must_use]
    pub const fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// Returns the number `count` bytes back.
    #[must_use]
    pub const fn sub(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }

    /// Returns the distance from `earlier` to `self`, negative if `self` comes first.
    pub const fn distance_from(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// Says whether `self` comes strictly before `other`.
    pub const fn before(self, other: Self) -> bool {
        self.distance_from(other) < 0
    }

    /// Says whether `self` comes strictly after `other`.
    pub const fn after(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = Seq(u32::MAX);
        let first = last.add(1);
        assert_eq!(first, Seq(0));
        assert!(last.before(first));
        assert!(first.after(last));
        assert!(!first.before(first));
        assert_eq!(first.distance_from(last), 1);
        assert_eq!(last.distance_from(first), -1);
        assert_eq!(first.sub(1), last);
    }
}
