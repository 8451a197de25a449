//! Timers: one queue per kind of timeout, in the order in which flows are looked at next.
//!
//! A packet only stamps its flow. Each flow is looked at every quarter of its timeout and then either expires or goes to the
//! back, so it lives between one and one and a quarter timeouts after its last packet, and a packet costs the timer nothing.

use handoff_proto::Micros;

use crate::flow::State;

/// Marks the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// Which timeout counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Asking,
    Holding,
    Unconfirmed,
    Established,
    Closing,
    Answered,
    Unclaimed,
}

impl Class {
    /// Every class, in the order in which flows are listed and looked at: those that matter least come last.
    pub(super) const ALL: [Self; 7] = [
        Self::Asking,
        Self::Holding,
        Self::Unconfirmed,
        Self::Established,
        Self::Closing,
        Self::Answered,
        Self::Unclaimed,
    ];

    pub(super) const fn of(state: State) -> Self {
        match state {
            State::Asking => Self::Asking,
            State::Holding => Self::Holding,
            State::Unconfirmed => Self::Unconfirmed,
            State::Established => Self::Established,
            State::ClosingUnconfirmed | State::Closing => Self::Closing,
            State::Answered => Self::Answered,
            State::Unclaimed => Self::Unclaimed,
        }
    }
}

/// A slot's place in its queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) previous: u32,
    pub(super) next: u32,
    pub(super) look_at: Micros,
}

impl Link {
    pub(super) const LOOSE: Self = Self { previous: NIL, next: NIL, look_at: Micros(0) };
}

/// Both ends of a queue and the timeout of what stands in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) timeout: Micros,
}

impl Queue {
    pub(super) const fn new(timeout: Micros) -> Self {
        Self { first: NIL, last: NIL, timeout }
    }

    /// When a flow queued at `now` is looked at.
    pub(super) const fn next_look(&self, now: Micros) -> Micros {
        now.plus(Micros(self.timeout.0.div_ceil(4)))
    }
}
