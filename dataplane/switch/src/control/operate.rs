//! What operators may ask and order, as plain functions: the admin API only carries it.
//!
//! This is the one boundary between the HTTP of [`admin`](super::admin) and the rest of control. A function takes and returns the
//! types of [`handoff_proto::admin`] and says in [`OperateFault`] who was wrong.
//!
//! One mechanism stands behind every change: the raw form of the running configuration is changed, checked whole, and applied
//! at once, exactly like a reload from the file. A change that is refused changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use baton_core::policy::BackendIndex;
use handoff_proto::admin::{
    Backend, Changes, Class, Configuration, Counter, Flows, NewBackend, NewWeight, Pool, Route,
    RouteQuestion, Rule, Status,
};
use thiserror::Error;
use tokio::task;

use super::reload::{Addition, ConfigPart, Order, OrderFault, Outcome};
use super::shared::Shared;
use super::{answers, listings, route};

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
    /// An lcore does not answer, or too much else is asked at the moment; the same may succeed later (503).
    #[error("{0}")]
    Busy(String),
}

/// What operators may do.
///
/// All of it is called on the control thread, which agents' reports need too: nothing here may block it for long.
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
    /// [`OperateFault::Failed`], for a fault of ours.
    pub async fn pools(&self) -> Result<Vec<Pool>, OperateFault> {
        self.aside(|shared| {
            let running = shared.live.running();
            let usable: HashSet<BackendIndex> = {
                let roster = shared.roster.lock();
                let places = running.config.catalog.configured_backends().map(|(index, _)| index);
                places.filter(|index| roster.is_usable(*index)).collect()
            };
            listings::pools(&running, |index| usable.contains(&index))
        })
        .await
    }

    /// Lists every rule, in the order in which they are tried.
    ///
    /// # Errors
    /// [`OperateFault::Failed`], for a fault of ours.
    pub async fn rules(&self) -> Result<Vec<Rule>, OperateFault> {
        let running = self.shared.live.running();
        let counted = answers::dispatched(&self.shared).await;
        // What was counted for other rules says nothing of these.
        let is_theirs = self.shared.live.running().generation == running.generation;
        let hits = counted.filter(|_| is_theirs).map(|counted| counted.rule_hits).unwrap_or_default();
        self.aside(move |_| {
            let mut rules = listings::rules(&running);
            rules.iter_mut().zip(hits).for_each(|(rule, requests)| rule.requests = Some(requests));
            rules
        })
        .await
    }

    /// Lists every service class.
    pub fn classes(&self) -> Vec<Class> {
        let counted = |class| answers::class_counts(&self.shared, class);
        listings::classes(&self.shared.live.running().config.catalog, counted)
    }

    /// Returns the running configuration.
    ///
    /// # Errors
    /// It cannot be written as TOML, which is a fault of ours.
    pub async fn configuration(&self) -> Result<Configuration, OperateFault> {
        let running = self.shared.live.running();
        let (generation, applied) = (running.generation, running.since);
        let toml = self.aside(move |_| running.to_toml()).await?;
        let toml = toml.map_err(|error| OperateFault::Failed(error.to_string()))?;
        Ok(Configuration { generation, applied, toml })
    }

    /// Returns one part of the running configuration.
    ///
    /// # Errors
    /// As [`Operations::configuration`].
    pub async fn part(&self, part: ConfigPart) -> Result<Configuration, OperateFault> {
        let running = self.shared.live.running();
        let (generation, applied) = (running.generation, running.since);
        let toml = self.aside(move |_| running.part_to_toml(part)).await?;
        let toml = toml.map_err(|error| OperateFault::Failed(error.to_string()))?;
        Ok(Configuration { generation, applied, toml })
    }

    /// Checks what the running configuration would be with this in the place of one part; changes nothing.
    ///
    /// # Errors
    /// [`OperateFault::Refused`] with every fault in it.
    pub async fn check_part(&self, part: ConfigPart, toml: &str) -> Result<Changes, OperateFault> {
        let order = Order::Replace(part, toml.to_owned());
        changes(self.aside(move |shared| shared.live.consider(&order)).await?)
    }

    /// Puts this in the place of one part of the running configuration.
    ///
    /// # Errors
    /// As [`Operations::check_part`].
    pub async fn apply_part(&self, part: ConfigPart, toml: &str) -> Result<Changes, OperateFault> {
        self.carry_out(Order::Replace(part, toml.to_owned())).await
    }

    /// Checks a configuration and compares it with the running one; changes nothing.
    ///
    /// # Errors
    /// [`OperateFault::Refused`] with every fault in it.
    pub async fn check(&self, toml: &str) -> Result<Changes, OperateFault> {
        let order = Order::Apply(toml.to_owned());
        changes(self.aside(move |shared| shared.live.consider(&order)).await?)
    }

    /// Makes this the running configuration, until the switch ends or another one is applied. The file stays as it is.
    ///
    /// # Errors
    /// [`OperateFault::Refused`] with every fault in it, or [`OperateFault::Conflict`] where nothing is wrong but something cannot
    /// be changed while the switch runs.
    pub async fn apply(&self, toml: &str) -> Result<Changes, OperateFault> {
        self.carry_out(Order::Apply(toml.to_owned())).await
    }

    /// Makes the configuration file's present content the running configuration.
    ///
    /// # Errors
    /// As [`Operations::apply`], or [`OperateFault::Failed`] where the file cannot be read.
    pub async fn reload(&self) -> Result<Changes, OperateFault> {
        self.carry_out(Order::Reload).await
    }

    /// Adds a backend.
    ///
    /// # Errors
    /// The name is taken, a pool is unknown, or the configuration it leads to is refused.
    pub async fn add_backend(&self, new: &NewBackend) -> Result<Changes, OperateFault> {
        let NewBackend { name, address, weight, pools, drain, connections_max } = new.clone();
        self.carry_out(Order::Add(Addition { name, address, weight, pools, drain, connections_max })).await
    }

    /// Removes a backend. Its connections go on as long as they would while it drains.
    ///
    /// # Errors
    /// It is unknown, or the configuration it leads to is refused.
    pub async fn remove_backend(&self, name: &str) -> Result<Changes, OperateFault> {
        self.carry_out(Order::Remove(name.to_owned())).await
    }

    /// Lets a backend have no new connections; those there go on.
    ///
    /// # Errors
    /// It is unknown.
    pub async fn drain_backend(&self, name: &str) -> Result<Changes, OperateFault> {
        self.carry_out(Order::Drain(name.to_owned())).await
    }

    /// Lets a backend that drains have new connections again.
    ///
    /// # Errors
    /// It is unknown.
    pub async fn enable_backend(&self, name: &str) -> Result<Changes, OperateFault> {
        self.carry_out(Order::Enable(name.to_owned())).await
    }

    /// Gives a backend another weight.
    ///
    /// # Errors
    /// Backend or pool are unknown, the backend is not in that pool, or the weight is out of range.
    pub async fn weigh_backend(&self, name: &str, weight: &NewWeight) -> Result<Changes, OperateFault> {
        let NewWeight { weight, pool } = weight.clone();
        self.carry_out(Order::Weigh { backend: name.to_owned(), pool, weight }).await
    }

    async fn carry_out(&self, order: Order) -> Result<Changes, OperateFault> {
        changes(self.aside(move |shared| shared.carry_out(&order)).await?)
    }

    /// Does beside the control thread what grows with the configuration, and may take seconds.
    async fn aside<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, OperateFault> {
        let shared = Arc::clone(&self.shared);
        let acted = task::spawn_blocking(move || act(&shared)).await;
        acted.map_err(|error| OperateFault::Failed(error.to_string()))
    }

    /// Says what would become of a request; nothing does.
    ///
    /// # Errors
    /// The VIP is unknown or reads something else, or an lcore does not answer.
    pub async fn route(&self, question: &RouteQuestion) -> Result<Route, OperateFault> {
        route::route(&self.shared, question).await
    }
}

fn changes(carried_out: Result<Outcome, OrderFault>) -> Result<Changes, OperateFault> {
    let Outcome { generation, changes, warnings } = carried_out?;
    Ok(Changes { generation, changes, warnings: warnings.iter().map(ToString::to_string).collect() })
}

impl From<OrderFault> for OperateFault {
    fn from(fault: OrderFault) -> Self {
        match fault {
            OrderFault::Unknown(why) => Self::Unknown(why),
            OrderFault::Conflict(why) => Self::Conflict(why),
            OrderFault::Refused(error) => Self::Refused(error.to_string()),
            OrderFault::Unread(error) => Self::Failed(error.to_string()),
        }
    }
}
