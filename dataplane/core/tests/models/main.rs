//! The core's rooms against models of them: the plainest thing that does as the documents say, slow as it may be.

mod cookies;
mod flows;
mod neighbors;
mod pools;
mod rules;
