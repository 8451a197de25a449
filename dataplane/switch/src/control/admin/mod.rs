//! The admin API: HTTP/1.1 and JSON over a Unix socket. docs/ADMIN.md describes every path.
//!
//! It carries and bounds; what is asked and ordered is done by [`Operations`](super::operate::Operations).

mod api;
mod refused;
mod request;
mod serve;
mod socket;

pub(super) use api::api;
pub(super) use serve::serve;
pub use serve::{CONNECTION_COUNT_MAX, IDLE_MAX};
pub use socket::{AdminSocket, SocketFault};
