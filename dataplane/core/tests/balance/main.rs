//! Policies in numbers: who gets how much, who moves when a member goes, and what no policy ever does.

mod any;
mod hashes;
mod loads;
mod locality;
mod policies;
mod pool;
mod tree;
mod turns;
