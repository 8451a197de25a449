//! The control plane: agents, operators, and what the lcores are told. All of it runs on one thread of its own.
//!
//! A [`Session`] is one agent's connection and the [`Roster`] all backends, both without I/O: bytes and time in, bytes and
//! changes out. Around them are sockets, bounded in number, size and time. Whatever changes a backend's standing is published
//! to every lcore at once, as an immutable snapshot.

mod admin;
mod agents;
mod answers;
mod capture;
mod catalog;
mod changes;
mod conflicts;
mod events;
mod hangups;
mod lifecycle;
mod listings;
mod measured;
mod member;
mod operate;
mod pcap;
mod reload;
mod roster;
mod route;
mod server;
mod session;
mod shared;
mod spells;
#[cfg(test)]
mod tests;
mod told;
mod troubles;

pub use admin::{AdminSocket, CONNECTION_COUNT_MAX, IDLE_MAX, SocketFault};
pub(crate) use agents::ACCEPT_PAUSE;
pub use agents::UNAUTHENTICATED_COUNT_MAX;
pub use catalog::{Catalog, NamedBackend, NamedClass, NamedPool, NamedVip, PLACES_MAX, Places, vips_of_rule};
pub use events::{Chronicle, EVENTS_KEPT_MAX};
pub use lifecycle::{Absence, Happening, SessionId, Standing};
pub use operate::{OperateFault, Operations};
pub use reload::{Addition, ConfigPart, Live, Order, OrderFault, Outcome, Running};
pub use roster::{Change, Hello, LEARNED_MAX, Learned, Refusal, ReportFault, Roster};
pub use server::{BindFault, Control, Listeners, bind};
pub use session::{End, OPENING_MAX, Session};
pub use shared::{ControlCounters, Identity, PortReading, ReadPort, Shared};
