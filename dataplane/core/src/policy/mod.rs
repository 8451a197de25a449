//! Dispatch: rules pick a pool by what the request says, the pool's policy picks a backend.
//!
//! The room takes a parsed request, never bytes, and what control says of the backends, never their addresses.

mod admission;
mod affinity;
mod answer;
pub mod balance;
mod class;
mod load;
mod pool;
pub mod rendezvous;
mod request;
pub mod rules;
mod sessions;

pub use admission::{Admission, FULL_PERMILLE};
pub use affinity::Affinity;
pub use answer::RuleAnswer;
pub use class::{CLASSES_MAX, Class, Overload};
pub use load::{FRESH, Load};
pub use pool::{Member, Pool};
pub use request::{Content, Field, Http, Request, Tls, cookies};
pub use rules::{
    Action, ClientNetworks, Conditions, CookieMatch, HeaderMatch, HostMatch, Methods, PathMatch,
    ProtocolMatch, QueryMatch, Rule, Rules, Service, ValueMatch, parameters,
};
pub use sessions::Sessions;

pub use crate::ids::{AnswerIndex, BackendIndex, ClassIndex, PoolIndex, RuleIndex, VipIndex};
