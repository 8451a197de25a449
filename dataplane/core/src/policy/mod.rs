//! Dispatch: rules pick a pool by what the request says, the pool's policy picks a backend.
//!
//! The room takes a parsed request, never bytes, and what control says of the backends, never their addresses.

mod path;
mod pool;
mod rules;

pub use path::PathMatch;
pub use pool::{Cursor, Pool};
pub use rules::{HostMatch, Rule, Rules};

pub use crate::ids::{BackendIndex, PoolIndex, VipIndex};

/// What rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Which VIP the client connected to.
    pub vip: VipIndex,
    /// The host asked for, without port, as the client wrote it.
    pub host: Option<&'a str>,
    /// The path of the target, without the query.
    pub path: &'a str,
}
