//! Connections the switch does not know, or no longer: what is asked at the backends, and what their answers change.

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the stories use the rest of it")]
mod common;

mod asking;
mod gone;
mod icmp;
mod learning;
mod mine;
mod round;
mod support;
mod unknown;
