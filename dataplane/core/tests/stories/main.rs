//! Stories of clients, backends and strangers, told to the public `Switch` frame by frame.

#[path = "../common/mod.rs"]
mod common;

mod dispatch;
mod forwarding;
mod frames;
mod handshake;
mod heads;
mod reach;
mod refusals;
mod reuse;
