//! What operators may ask and order, as plain functions: the admin API only carries it.
//!
//! This is the one boundary between the HTTP of [`admin`](super::admin) and the rest of control. A function takes and returns the
//! types of [`handoff_proto::admin`] and says in [`OperateFault`] who was wrong.
//!
//! One mechanism stands behind every change: the raw form of the running configuration is changed, checked whole, and applied
//! at once, exactly like a reload from the file. A change that is refused changes nothing.

use std::sync::Arc;

use baton_core::policy::Member;
use handoff_proto::admin::{
    Backend, Changes, Class, Configuration, Counter, Flows, NewBackend, NewWeight, Pool, PoolMember, Route,
    RouteQuestion, Rule, Status,
};
use thiserror::Error;

use super::answers;
use super::catalog::NamedPool;
use super::shared::Shared;

/// The weight of a backend of which nobody says another.
pub(super) const WEIGHT_DEFAULT: u16 = 1;

/// Why something was not answered or not done. The text says what is wrong and what to do, in sentences.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OperateFault {
    /// The operator asked for something that makes no sense (status 400).
    #[error("{0}")]
    Invalid(String),
    /// No backend, pool or VIP has this name (404).
    #[error("{0}")]
    Unknown(String),
    /// It makes sense, and not now or not here: a name that is taken, the last backend of a pool (409).
    #[error("{0}")]
    Conflict(String),
    /// The configuration it would lead to is wrong; the one before goes on. Every fault, one line each (422).
    #[error("{0}")]
    Refused(String),
    /// The switch itself failed: a file that cannot be read, say (500).
    #[error("{0}")]
    Failed(String),
    /// This switch cannot do it (501).
    #[error("this switch cannot do that yet: {0}")]
    NotPossible(&'static str),
    /// An lcore does not answer, or too much else is asked at the moment; the same may succeed later (503).
    #[error("{0}")]
    Busy(String),
}

/// What operators may do.
///
/// All of it runs on the control thread, which agents' reports need too: nothing here may block it for long.
#[derive(Clone)]
pub struct Operations {
    shared: Arc<Shared>,
}

impl Operations {
    /// Operates this switch.
    pub const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Describes the switch as a whole.
    pub fn status(&self) -> Status {
        answers::status(&self.shared)
    }

    /// Describes every backend, in their configured order.
    pub async fn backends(&self) -> Vec<Backend> {
        answers::backends(&self.shared).await
    }

    /// Lists at most `limit` flows.
    ///
    /// # Errors
    /// An lcore does not answer.
    pub async fn flows(&self, limit: usize) -> Result<Flows, OperateFault> {
        let flows = answers::flows(&self.shared, limit).await;
        flows
            .ok_or_else(|| OperateFault::Busy("an lcore does not answer at the moment; try again".to_owned()))
    }

    /// Lists every counter.
    pub fn counters(&self) -> Vec<Counter> {
        answers::counters(&self.shared)
    }

    /// Describes every pool, in their configured order.
    ///
    /// # Errors
    /// None today.
    pub fn pools(&self) -> Result<Vec<Pool>, OperateFault> {
        let roster = self.shared.roster.lock();
        let catalog = &self.shared.catalog;
        let member = |member: &Member| {
            let backend = catalog.backend_name(member.backend)?.to_owned();
            Some(PoolMember { backend, weight: member.weight, usable: roster.is_usable(member.backend) })
        };
        let pool = |named: &NamedPool| Pool {
            name: named.name.clone(),
            policy: named.pool.policy.name().to_owned(),
            sticky: None,
            members: named.pool.members.iter().filter_map(member).collect(),
        };
        Ok(catalog.pools.iter().map(pool).collect())
    }

    /// Lists every rule, in the order in which they are tried.
    ///
    /// # Errors
    /// They are not kept in a form that can be told yet.
    pub fn rules(&self) -> Result<Vec<Rule>, OperateFault> {
        Err(OperateFault::NotPossible("its configuration file lists the rules"))
    }

    /// Lists every service class.
    ///
    /// # Errors
    /// There are none yet.
    pub fn classes(&self) -> Result<Vec<Class>, OperateFault> {
        Err(OperateFault::NotPossible("it knows no service classes"))
    }

    /// Returns the running configuration.
    ///
    /// # Errors
    /// It is not kept yet.
    pub fn configuration(&self) -> Result<Configuration, OperateFault> {
        Err(OperateFault::NotPossible("it does not keep its configuration's text"))
    }

    /// Checks a configuration and compares it with the running one; changes nothing.
    ///
    /// # Errors
    /// [`OperateFault::Refused`] with every fault in it.
    pub async fn check(&self, _toml: &str) -> Result<Changes, OperateFault> {
        Err(OperateFault::NotPossible("baton-switch --check --config FILE checks a file"))
    }

    /// Makes this the running configuration, until the switch ends or another one is applied. The file stays as it is.
    ///
    /// # Errors
    /// [`OperateFault::Refused`] with every fault in it, or [`OperateFault::Conflict`] for what cannot be changed while the
    /// switch runs.
    pub async fn apply(&self, _toml: &str) -> Result<Changes, OperateFault> {
        Err(OperateFault::NotPossible("restart it with the new configuration"))
    }

    /// Makes the configuration file's present content the running configuration.
    ///
    /// # Errors
    /// As [`Operations::apply`], or [`OperateFault::Failed`] where the file cannot be read.
    pub async fn reload(&self) -> Result<Changes, OperateFault> {
        Err(OperateFault::NotPossible("restart it to have it read its configuration again"))
    }

    /// Adds a backend.
    ///
    /// # Errors
    /// The name is taken, a pool is unknown, or the configuration it leads to is refused.
    pub async fn add_backend(&self, _new: &NewBackend) -> Result<Changes, OperateFault> {
        Err(OperateFault::NotPossible("add the backend to switch.toml and restart the switch"))
    }

    /// Removes a backend. Its connections go on as long as they would while it drains.
    ///
    /// # Errors
    /// It is unknown, or the configuration it leads to is refused.
    pub async fn remove_backend(&self, _name: &str) -> Result<Changes, OperateFault> {
        Err(OperateFault::NotPossible("remove the backend from switch.toml and restart the switch"))
    }

    /// Lets a backend have no new connections; those there go on.
    ///
    /// # Errors
    /// It is unknown.
    pub async fn drain_backend(&self, _name: &str) -> Result<Changes, OperateFault> {
        Err(OperateFault::NotPossible("stop the backend's agent: it then gets no new connections"))
    }

    /// Lets a backend that drains have new connections again.
    ///
    /// # Errors
    /// It is unknown.
    pub async fn enable_backend(&self, _name: &str) -> Result<Changes, OperateFault> {
        Err(OperateFault::NotPossible("start the backend's agent: it then gets new connections"))
    }

    /// Gives a backend another weight.
    ///
    /// # Errors
    /// Backend or pool are unknown, the backend is not in that pool, or the weight is out of range.
    pub async fn weigh_backend(&self, _name: &str, _weight: &NewWeight) -> Result<Changes, OperateFault> {
        Err(OperateFault::NotPossible("every backend of a pool counts alike"))
    }

    /// Says what would become of a request; nothing does.
    ///
    /// # Errors
    /// The VIP is unknown, or an lcore does not answer.
    pub async fn route(&self, _question: &RouteQuestion) -> Result<Route, OperateFault> {
        Err(OperateFault::NotPossible(
            "the rules of switch.toml are tried in their order, and the first that matches wins",
        ))
    }
}
