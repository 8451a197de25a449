//! Positions in the configuration, as newtypes: what rooms that do not know each other share.

/// Position of a VIP in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VipIndex(pub u16);

/// Position of a backend in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendIndex(pub u16);

/// Position of a pool in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolIndex(pub u16);

/// Position of a held request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HoldIndex(pub u16);

/// Position of a rule, in the order they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleIndex(pub u16);

/// Position of a service class in the configuration; 0 is that of rules which name none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassIndex(pub u8);

/// Position of an answer that rules give themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerIndex(pub u16);
