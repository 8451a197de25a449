//! A world around the real switch core, on a virtual clock: a seed and a commit reproduce every frame of it.
//!
//! [`world`] holds it together: [`machine`] is the switch with the real core on each lcore, [`backend`] the other end of
//! a handoff, [`client`] who asks, [`link`] and [`router`] what is between them. [`scenario`] says how a seed becomes a plan
//! and what goes wrong ([`fault`]), [`oracle`] what is wrong with what came of it, [`run`] does all of it for a seed, and [`tally`]
//! judges many seeds together.
//!
//! Clients and servers speak smoltcp's TCP ([`stack`]). What it lacks — blocks of selective acknowledgments, ECN, path MTU
//! discovery — the lab tests with kernels.

#![forbid(unsafe_code)]

pub mod addresses;
pub mod backend;
pub mod body;
pub mod capture;
pub mod chances;
pub mod client;
pub mod control;
pub mod fault;
pub mod link;
pub mod machine;
pub mod oracle;
pub mod packet;
pub mod router;
pub mod run;
pub mod scenario;
pub mod stack;
pub mod tally;
pub mod world;
