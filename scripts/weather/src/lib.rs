//! Bad weather for a link: frames are lost, delayed, doubled and put out of order, as a seed decides.
//!
//! [`Weather`] is one direction of a link as a machine without I/O: a frame and the time in, frames out when they
//! are due. It reads no clock and no randomness but its seed's. [`relay`] puts two of them between two interfaces of
//! Linux; [`port`] is its door to the kernel. Development and tests use this crate, production does not.

pub mod chance;
pub mod conditions;
pub mod counters;
pub mod fate;
pub mod filter;
pub mod port;
pub mod relay;
mod sys;
pub mod weather;

pub use chance::Chance;
pub use conditions::Conditions;
pub use counters::{Counters, DirectionReport, Report};
pub use filter::Filter;
pub use weather::{Bounds, Taken, Weather};
