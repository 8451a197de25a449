//! The agent's end of the control connection: [`Session`] knows the protocol and does no I/O, [`Dialer`] keeps a
//! connection to the switch as long as the agent runs.

mod clock;
mod dial;
mod session;

pub use clock::ClockEstimate;
pub use dial::{Dialer, Identity};
pub use session::{Event, Session, SessionError};
