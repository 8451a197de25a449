//! The wire formats against models of them: wide integers for sequence numbers, and for the handoff header a second codec
//! made from the tables of `docs/PROTOCOL.md`, bit by bit.

mod header;
mod plain;
mod seq;
