//! What runs on each lcore between the DPDK door and the core, and how the lcores are reached from outside.
//!
//! [`SwitchWorker`] is the body of the burst loop: one reading of the clock, one look at the mailbox, the frames, the timers.
//! A [`Mailbox`] per lcore is the only way in from control and from the other lcores; everything in it is bounded and nobody
//! waits on a lock. [`Observer`] reads what the lcores count.

mod asked;
mod capture;
mod clock;
mod mailbox;
mod observer;
mod worker;

pub use asked::{Asked, AskedContent};
pub use capture::{Captured, Filter, SNAP_BYTES, Tap};
pub use clock::Clock;
pub use mailbox::{
    Dispatched, LearnedSession, Letters, Mailbox, NEWS_COUNT_MAX, Question, SESSIONS_COUNT_MAX,
    STEERED_COUNT_MAX, TapChange,
};
pub use observer::{LcoreView, Observer};
pub use worker::SwitchWorker;
