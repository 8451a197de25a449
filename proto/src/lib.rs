//! What Baton's switch and agents say to each other.
//!
//! Owns the wire formats: the handoff [`header`] and its keyed [`tag`], the [`control`] messages
//! between agent and switch and the [`channel`] they travel in, and the bodies of the [`admin`] API
//! between operators and switch. It also owns the newtypes everything else speaks in: [`FourTuple`],
//! [`Vip`], [`Seq`], [`Negotiated`], [`Micros`], [`Generation`].
//!
//! It never does I/O, never reads a clock and holds no state. `docs/PROTOCOL.md` draws the bits.

#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod addr;
pub mod admin;
pub mod channel;
pub mod control;
pub mod header;
pub mod keys;
pub mod seq;
pub mod tag;
pub mod tcp;
pub mod time;
pub mod tls;

pub use addr::{FourTuple, Vip};
pub use header::{Generation, Header, HeaderError, MessageType};
pub use keys::{KeyId, KeyRing};
pub use seq::Seq;
pub use tag::{Tag, TagKey};
pub use tcp::Negotiated;
pub use time::Micros;
pub use tls::{SessionIdFault, TlsSessionId};

/// UDP destination port of handoff messages on the data network.
pub const HANDOFF_PORT: u16 = 7171;

/// TCP port on which the switch waits for agents on the management network, unless configured otherwise.
pub const CONTROL_PORT: u16 = 7170;

/// HTTP port of `/metrics`, unless configured otherwise.
pub const METRICS_PORT: u16 = 9170;

/// Handoffs whose issue time lies further in the past than this are refused as stale: two seconds.
///
/// Every client packet is stamped anew when the switch wraps it, so only a delayed or replayed copy grows old.
pub const FRESHNESS_PAST: Micros = Micros::from_millis(2_000);

/// Handoffs whose issue time lies further in the future than this are refused: one second.
///
/// It covers the error of the agent's estimate of the switch's clock.
pub const FRESHNESS_FUTURE: Micros = Micros::from_millis(1_000);
