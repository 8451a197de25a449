//! How much of something may be done in a second.

use handoff_proto::Micros;

/// An amount that is there anew every second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    per_second: u32,
    second: u64,
    spent: u32,
}

impl Allowance {
    /// Allows so much in each second.
    pub(super) const fn new(per_second: u32) -> Self {
        Self { per_second, second: 0, spent: 0 }
    }

    /// Takes `count` out, if there is anything left; says whether there was.
    pub(super) const fn take(&mut self, count: u32, now: Micros) -> bool {
        let second = now.as_secs();
        if self.second != second {
            *self = Self { second, spent: 0, ..*self };
        }
        let is_left = self.spent < self.per_second;
        if is_left {
            self.spent = self.spent.saturating_add(count);
        }
        is_left
    }
}
