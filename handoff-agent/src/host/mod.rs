//! The host: what a handoff needs of it ([`check()`]), how it is ([`Facts`], [`gather`]), and what the agent changes
//! about it and changes back ([`Keeper`]).

mod check;
mod facts;
mod firewall;
mod keeper;
mod undo;

pub use check::{Finding, Mend, Outlook, Scope, Severity, check};
pub use facts::{Facts, FirewallFacts, Wanted, gather, gather_firewall};
pub use firewall::{Endpoint, Rule, RuleKind, TABLE, iptables_rules, nft_rules};
pub use keeper::{HostError, Keeper};
pub use undo::{Changes, UndoLog};
