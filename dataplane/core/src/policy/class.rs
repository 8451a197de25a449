//! Service classes: which requests matter more when there are too many, and how much work one of them is.

/// How many classes there may be, the one of rules that name none included.
pub const CLASSES_MAX: usize = 64;

/// A service class; its position is a [`crate::ids::ClassIndex`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// At overload the class with the lowest is refused first.
    pub priority: u8,
    /// How much one session of it counts where sessions are weighed (RFC 2391, section 5.4), 1 to 1,000.
    pub weight: u16,
    /// So many requests per second are not refused for overload; `None` guarantees nothing.
    pub rate_per_s: Option<u32>,
}

impl Default for Class {
    /// The class of rules that name none.
    fn default() -> Self {
        Self { priority: 0, weight: 1, rate_per_s: None }
    }
}

/// When requests are refused since there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// How full the backends of a pool are, in thousandths, when requests of the lowest class are refused. The highest class is
    /// refused at 1,000 only, those between at even distances.
    pub begin_permille: u16,
}

impl Default for Overload {
    fn default() -> Self {
        Self { begin_permille: 800 }
    }
}
