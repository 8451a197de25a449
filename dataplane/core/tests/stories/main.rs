//! Stories of clients, backends and strangers, told to the public `Switch` frame by frame.

#[path = "../common/mod.rs"]
mod common;

mod acknowledgments;
mod attacks;
mod choices;
mod dispatch;
mod forwarding;
mod frames;
mod handshake;
mod heads;
mod owed;
mod page_ends;
mod pages;
mod reach;
mod refusals;
mod renewal;
mod reuse;
mod streams;
