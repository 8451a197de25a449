//! The life of a flow, as far as a one-way switch sees it: the client's side only.

/// Where a flow stands. `docs/ARCHITECTURE.md` draws it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
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
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Holding, Self::Unconfirmed, Self::Established, Self::ClosingUnconfirmed, Self::Closing];

    /// Returns the state after `event`; `None` when the flow is over.
    #[must_use]
    pub const fn after(self, event: Event) -> Option<Self> {
        Some(match (self, event) {
            // Nothing was promised to anybody yet: a head that can no longer be finished is forgotten.
            (Self::Holding, Event::Finish | Event::Reset) => return None,
            (Self::Holding, Event::Dispatch) => Self::Unconfirmed,
            (Self::Holding, Event::Confirm) => Self::Holding,

            (Self::Unconfirmed, Event::Confirm) => Self::Established,
            // A RST, too, leaves the flow for a while: what is still on its way behind it must find the backend.
            (Self::Unconfirmed, Event::Finish | Event::Reset) => Self::ClosingUnconfirmed,
            (Self::Established, Event::Finish | Event::Reset) => Self::Closing,
            (Self::ClosingUnconfirmed, Event::Confirm) => Self::Closing,

            (Self::Unconfirmed, Event::Dispatch) => Self::Unconfirmed,
            (Self::Established, Event::Dispatch | Event::Confirm) => Self::Established,
            (Self::ClosingUnconfirmed, Event::Dispatch | Event::Finish | Event::Reset) => {
                Self::ClosingUnconfirmed
            }
            (Self::Closing, _) => Self::Closing,
        })
    }

    /// Says whether the backend's socket is known to exist, so that packets need no handoff header.
    pub const fn is_confirmed(self) -> bool {
        matches!(self, Self::Established | Self::Closing)
    }
}
