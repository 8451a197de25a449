//! Flows: which backend has which connection, and for how long the switch remembers.
//!
//! [`State`] is the lifecycle, all its transitions in one place. [`FlowTable`] is one lcore's table: fixed capacity, allocated
//! at start, one timer per flow. The room knows 4-tuples, not packets.

mod index;
mod queue;
mod state;
mod table;

pub use state::{Event, State};
pub use table::{FlowId, FlowTable, Full};

use handoff_proto::{FourTuple, Generation, Micros, Negotiated, Seq};

use smoltcp::wire::EthernetAddress;

use crate::ids::{BackendIndex, ClassIndex, HoldIndex, PoolIndex};

/// How many backends a handoff is offered to before its client is told that none takes it.
pub const ATTEMPTS_MAX: usize = 4;

/// How many flows a table holds and how long it remembers them after their last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSettings {
    /// Entries allocated at start.
    pub count_max: usize,
    /// For flows whose owner is being looked for: how long to wait for an answer.
    pub asking: Micros,
    /// For flows whose request head is unfinished.
    pub holding: Micros,
    /// For flows whose client has not acknowledged a byte of the backend.
    pub unconfirmed: Micros,
    /// For established flows.
    pub established: Micros,
    /// For flows whose client sent FIN or RST.
    pub closing: Micros,
    /// For flows whose request the switch answered itself, from then on.
    pub answered: Micros,
    /// For flows that no backend has, from the end of the search on.
    pub unclaimed: Micros,
}

/// What makes a socket of the base segment: the fields of the handoff header that stay the same for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What the SYN carried.
    pub negotiated: Negotiated,
    /// Sequence number of the first byte behind the client's SYN.
    pub seq: Seq,
    /// Its acknowledgment number: the switch's ISN + 1.
    pub ack: Seq,
    /// TSval of the base segment.
    pub tsval: u32,
    /// TSecr of the base segment.
    pub tsecr: u32,
}

/// Backends that refused a handoff, at most [`ATTEMPTS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedBy {
    backends: [BackendIndex; ATTEMPTS_MAX],
    count: u8,
}

impl RefusedBy {
    /// Notes a refusal. Says whether another backend may be tried.
    pub fn note(&mut self, backend: BackendIndex) -> bool {
        if let Some(place) = self.backends.get_mut(usize::from(self.count)) {
            *place = backend;
            self.count += 1;
        }
        usize::from(self.count) < ATTEMPTS_MAX
    }

    /// Says whether this backend refused.
    pub fn contains(&self, backend: BackendIndex) -> bool {
        self.backends.iter().take(usize::from(self.count)).any(|refused| *refused == backend)
    }
}

/// What is known of a request head that came in one segment, so that it cannot change on its way to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadMark {
    /// Its length in bytes.
    pub bytes: u16,
    /// Whether its method is HEAD.
    pub asks_for_head: bool,
    /// A keyed hash of it.
    pub digest: u64,
}

/// What was found out about a request when it was read, so that a backend can be chosen for it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The pool a backend is chosen from.
    pub pool: PoolIndex,
    /// Its service class.
    pub class: ClassIndex,
    /// How much a session of that class counts.
    pub session_weight: u16,
    /// What binds it to a backend.
    pub bond: Bond,
    /// A hash of what the choice goes by.
    pub key: u64,
}

impl Wanted {
    /// What stands where nothing is known yet.
    pub const NOTHING: Self =
        Self { pool: PoolIndex(0), class: ClassIndex(0), session_weight: 1, bond: Bond::Free, key: 0 };
}

/// What binds a connection to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// Nothing: the pool's policy decides.
    Free,
    /// Its key belongs to one.
    Hash,
    /// This backend, while it is usable; then whom its key belongs to.
    Owner(BackendIndex),
}

/// How far the search for a flow's owner is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// How often the backends were asked.
    pub count: u8,
    /// Which of the first 64 backends said that they do not have it.
    pub denied: u64,
    /// Whether its client has reset it: then it is not answered.
    pub is_reset: bool,
    /// Whether its client's reset is due in a moment.
    pub is_reprieved: bool,
}

/// One client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Whose it is.
    pub tuple: FourTuple,
    /// Which backend has it; meaningless unless [`State::has_backend`].
    pub backend: BackendIndex,
    /// What was found out about its request, for the next choice if the backend refuses.
    pub wanted: Wanted,
    /// The backend among whose connections it is counted.
    pub counted: Option<BackendIndex>,
    /// Orders its handoffs.
    pub generation: Generation,
    /// What makes its socket.
    pub base: Base,
    /// Where bytes of it are kept: of its request head until the backend has them, or of the error page.
    pub hold: Option<HoldIndex>,
    /// The highest sequence number its client has sent up to; says whether a FIN or RST is to be believed.
    pub sent_until: Seq,
    /// Hardware address its packets come from, for what the switch itself has to say to the client.
    pub client_mac: EthernetAddress,
    /// Client ISN of a SYN seen since, which may open a new connection with the same 4-tuple.
    pub reopened: Option<Seq>,
    /// What its request head was, if that came in one segment and the flow is not confirmed.
    pub head: Option<HeadMark>,
    /// Whether its backend said that it has no socket for it any more.
    pub is_gone: bool,
    /// Backends that refused it.
    pub refused_by: RefusedBy,
    /// The search for its owner, if there was one.
    pub search: Search,
    /// When its first byte came.
    pub created: Micros,
    /// When its client's last packet came. Stands still while [`State::Holding`] and
    /// [`State::Answered`]: a head that grows buys no time. While [`State::Asking`] and [`State::Unclaimed`], when the backends were
    /// last asked.
    pub last_seen: Micros,
}

impl Flow {
    /// Begins a flow with what its first segment said, before anything was decided about it. `sent_until` is the sequence number
    /// behind that segment.
    pub fn new(
        tuple: FourTuple,
        base: Base,
        sent_until: Seq,
        client_mac: EthernetAddress,
        generation: Generation,
        now: Micros,
    ) -> Self {
        Self {
            tuple,
            backend: BackendIndex::default(),
            wanted: Wanted::NOTHING,
            counted: None,
            generation,
            base,
            hold: None,
            sent_until,
            client_mac,
            reopened: None,
            head: None,
            is_gone: false,
            refused_by: RefusedBy::default(),
            search: Search::default(),
            created: now,
            last_seen: now,
        }
    }
}

#[cfg(test)]
mod tests;
