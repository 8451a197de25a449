//! What bindgen made of the installed DPDK headers: types and functions under their own names.
//!
//! Every function here is `unsafe`; its contract is the one DPDK's documentation gives.

#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(dead_code, unreachable_pub, unnecessary_transmutes)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#![allow(unsafe_op_in_unsafe_fn)]

include!(concat!(env!("OUT_DIR"), "/sys.rs"));
