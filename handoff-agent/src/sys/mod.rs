//! What the agent asks of the kernel. All `unsafe` of the agent is in here.

pub mod clock;
pub mod command;
pub mod diag;
pub mod lock;
pub mod mounts;
pub mod netlink;
pub mod packet;
pub mod tcx;
