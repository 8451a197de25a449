//! What becomes of a frame.

use crate::metrics::DropReason;

/// What the front does with the frame it gave in. Whatever the verdict, it is already counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it: it was edited in place and goes on to a backend.
    Forward,
    /// Send it: it was turned into an answer to its sender.
    Reply,
    /// Free it: all it said has been taken in.
    Absorb,
    /// Free it: it is good for nothing, for the reason given.
    Drop(DropReason),
    /// Give it, as it is now, to the `Switch` of this lcore: it answers something that one asked, or may speak of its flow.
    Steer(u8),
}
