//! The control plane: agents, operators, and what the lcores are told.

mod catalog;

pub use catalog::{Catalog, NamedBackend, NamedPool, NamedVip};
