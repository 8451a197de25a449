//! What may go wrong in a world, as data.

use handoff_proto::Micros;

/// One thing that goes wrong, or is put right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The agent of a backend dies; its programs stay at work.
    AgentGone(usize),
    /// It is started again.
    AgentBack(usize),
    /// The cable of a backend is cut.
    BackendCut(usize),
    /// It is mended.
    BackendMended(usize),
    /// A backend loses power: its sockets and records are gone. It starts again at once; its agent has to follow.
    PowerLost(usize),
    /// The server of a backend stops listening; its connections go on.
    ListenerGone(usize),
    /// It listens again.
    ListenerBack(usize),
    /// The accept queue of a backend is full.
    QueueFull(usize),
    /// It has room again.
    QueueDrained(usize),
    /// The switch's program is killed.
    SwitchKilled,
    /// It is started again, with a clock that has jumped ahead by so much meanwhile.
    SwitchStarted(Micros),
    /// The switch does nothing for so long; what comes waits in its NIC.
    SwitchStalled(Micros),
    /// Other rules come into force: those with this number.
    RulesChanged(usize),
    /// A new key joins the ring, behind the present one, everywhere.
    KeyAdded,
    /// The new key becomes the one that tags and mints cookies, first on the switch, then on the backends.
    KeyPromoted,
    /// The old key leaves the ring.
    KeyRetired,
    /// What agents and switch say to each other takes so long from now on.
    ControlDelayed(Micros),
    /// What the agent of a backend takes for the switch's clock is wrong by so much, until it hears of it again.
    ClockMisread(usize, i64),
}

impl Fault {
    /// The backend that has the fault.
    #[must_use]
    pub const fn backend(self) -> Option<usize> {
        match self {
            Self::AgentGone(backend)
            | Self::AgentBack(backend)
            | Self::BackendCut(backend)
            | Self::BackendMended(backend)
            | Self::PowerLost(backend)
            | Self::ListenerGone(backend)
            | Self::ListenerBack(backend)
            | Self::QueueFull(backend)
            | Self::QueueDrained(backend)
            | Self::ClockMisread(backend, _) => Some(backend),
            _ => None,
        }
    }

    /// Says whether it puts right what the other made wrong.
    #[must_use]
    pub fn ends(self, other: Self) -> bool {
        match (other, self) {
            (Self::AgentGone(one), Self::AgentBack(two))
            | (Self::BackendCut(one), Self::BackendMended(two))
            | (Self::ListenerGone(one), Self::ListenerBack(two))
            | (Self::QueueFull(one), Self::QueueDrained(two)) => one == two,
            (Self::SwitchKilled, Self::SwitchStarted(_)) => true,
            _ => false,
        }
    }

    /// Says whether something else puts right what it makes wrong. The others are over at once.
    #[must_use]
    pub const fn is_to_be_ended(self) -> bool {
        matches!(
            self,
            Self::AgentGone(_)
                | Self::BackendCut(_)
                | Self::ListenerGone(_)
                | Self::QueueFull(_)
                | Self::SwitchKilled
        )
    }

    /// Says whether connections on the backend may not outlive it.
    #[must_use]
    pub const fn may_end_connections(self) -> bool {
        matches!(self, Self::BackendCut(_) | Self::PowerLost(_))
    }
}

/// A fault and its time, counted from the world's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// When.
    pub at: Micros,
    /// What.
    pub fault: Fault,
}
