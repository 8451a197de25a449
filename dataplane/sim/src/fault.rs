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
    /// What it is called among the counts of a world, where it is counted if connections were open when it came.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AgentGone(_) => "agent_gone",
            Self::AgentBack(_) => "agent_back",
            Self::BackendCut(_) => "backend_cut",
            Self::BackendMended(_) => "backend_mended",
            Self::PowerLost(_) => "power_lost",
            Self::ListenerGone(_) => "listener_gone",
            Self::ListenerBack(_) => "listener_back",
            Self::QueueFull(_) => "queue_full",
            Self::QueueDrained(_) => "queue_drained",
            Self::SwitchKilled => "switch_killed",
            Self::SwitchStarted(_) => "switch_started",
            Self::SwitchStalled(_) => "switch_stalled",
            Self::RulesChanged(_) => "rules_changed",
            Self::KeyAdded => "key_added",
            Self::KeyPromoted => "key_promoted",
            Self::KeyRetired => "key_retired",
            Self::ControlDelayed(_) => "control_delayed",
            Self::ClockMisread(..) => "clock_misread",
        }
    }

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
