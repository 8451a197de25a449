//! The life of a flow, as far as a one-way switch sees it: the client's side only.

/// Where a flow stands. `docs/ARCHITECTURE.md` draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It is not known who has it; the backends are asked.
    Asking,
    /// All were asked in vain. What its client sends next decides: it may be the lost beginning of a new connection.
    Unclaimed,
    /// The request head is unfinished; no backend is chosen.
    Holding,
    /// Handed off; every packet carries the handoff header, so that a lost or reordered handoff needs nothing else.
    Unconfirmed,
    /// The client acknowledged bytes of the backend: the socket exists.
    Established,
    /// As unconfirmed, and the client has sent FIN or RST.
    ClosingUnconfirmed,
    /// As established, and the client has sent FIN or RST.
    Closing,
    /// The switch itself answers the request, with an error, and closes the connection.
    Answered,
}

/// What a packet says about the life of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The request head is complete and a backend chosen.
    Dispatch,
    /// The client acknowledges bytes of the backend.
    Confirm,
    /// The client has nothing more to send.
    Finish,
    /// The client resets the connection.
    Reset,
    /// A backend says that it has the connection.
    Claim,
    /// Every backend that could have it says that it does not.
    Deny,
    /// The request cannot be served: the switch answers it.
    Refuse,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 7] =
        [Self::Dispatch, Self::Confirm, Self::Finish, Self::Reset, Self::Claim, Self::Deny, Self::Refuse];
}

impl State {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Asking,
        Self::Unclaimed,
        Self::Holding,
        Self::Unconfirmed,
        Self::Established,
        Self::ClosingUnconfirmed,
        Self::Closing,
        Self::Answered,
    ];

    /// Returns the state after `event`; `None` when the flow is over.
    #[must_use]
    pub const fn after(self, event: Event) -> Option<Self> {
        Some(match (self, event) {
            // No backend has anything of it that we know of: with its client, it is over.
            (Self::Asking | Self::Unclaimed | Self::Holding | Self::Answered, Event::Reset) => return None,
            // An error page goes to clients that only the switch has spoken to.
            (Self::Asking | Self::Holding | Self::Unconfirmed | Self::ClosingUnconfirmed, Event::Refuse) => {
                Self::Answered
            }
            (Self::Asking | Self::Unclaimed, Event::Claim) => Self::Established,
            (Self::Asking, Event::Deny) => Self::Unclaimed,
            (Self::Asking | Self::Holding, Event::Dispatch) => Self::Unconfirmed,

            (Self::Unconfirmed, Event::Confirm) => Self::Established,
            (Self::ClosingUnconfirmed, Event::Confirm) => Self::Closing,
            // A RST, too, leaves the flow for a while: what is still on its way behind it must find the backend.
            (Self::Unconfirmed, Event::Finish | Event::Reset) => Self::ClosingUnconfirmed,
            (Self::Established, Event::Finish | Event::Reset) => Self::Closing,

            // Everything else changes nothing.
            (Self::Asking, Event::Confirm | Event::Finish) => Self::Asking,
            (
                Self::Unclaimed,
                Event::Dispatch | Event::Confirm | Event::Finish | Event::Deny | Event::Refuse,
            ) => Self::Unclaimed,
            (Self::Holding, Event::Confirm | Event::Finish | Event::Claim | Event::Deny) => Self::Holding,
            (Self::Unconfirmed, Event::Dispatch | Event::Claim | Event::Deny) => Self::Unconfirmed,
            (
                Self::Established,
                Event::Dispatch | Event::Confirm | Event::Claim | Event::Deny | Event::Refuse,
            ) => Self::Established,
            (
                Self::ClosingUnconfirmed,
                Event::Dispatch | Event::Finish | Event::Reset | Event::Claim | Event::Deny,
            ) => Self::ClosingUnconfirmed,
            (Self::Closing, _) => Self::Closing,
            (
                Self::Answered,
                Event::Dispatch | Event::Confirm | Event::Finish | Event::Claim | Event::Deny | Event::Refuse,
            ) => Self::Answered,
        })
    }

    /// Says whether it was handed off to a backend, or found at one.
    pub const fn has_backend(self) -> bool {
        match self {
            Self::Asking | Self::Unclaimed | Self::Holding | Self::Answered => false,
            Self::Unconfirmed | Self::Established | Self::ClosingUnconfirmed | Self::Closing => true,
        }
    }

    /// Says whether it is one of the connections its backend has to do with.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Unconfirmed | Self::Established)
    }

    /// Says whether the backend's socket is known to exist, so that packets need no handoff header.
    pub const fn is_confirmed(self) -> bool {
        matches!(self, Self::Established | Self::Closing)
    }
}
