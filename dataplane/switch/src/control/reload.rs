//! The running configuration, and how it changes while the switch runs.
//!
//! There is one way for all of it. The running configuration is kept as it is written; an order changes that, or puts
//! another in its place; the result is checked whole, exactly as at start; and only if nothing is wrong with it does it
//! become the running one, at once. An order that is refused changes nothing.

use core::fmt;
use core::net::Ipv4Addr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baton_core::http::Refusal;
use handoff_proto::{KeyRing, Micros};
use parking_lot::Mutex;
use thiserror::Error;

use super::catalog::Catalog;
use super::changes;
use crate::config::{
    self, Config, ConfigError, Fault, KeyFault, RawBackend, RawConfig, RawMember, Sources, TextOr, there_are,
};

/// How a configuration that did not come from the file is called in errors.
const NO_FILE: &str = "the configuration";

/// What an operator wants of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The file, as it stands now, with the files it names.
    Reload,
    /// This text, with the files it names.
    Apply(String),
    /// This text in the place of one part; all else stays as it runs.
    Replace(ConfigPart, String),
    /// One backend more.
    Add(Addition),
    /// A backend less: its connections go on.
    Remove(String),
    /// A backend gets no new connections.
    Drain(String),
    /// A backend that drains gets new connections again.
    Enable(String),
    /// A backend gets another weight.
    Weigh {
        /// Its name.
        backend: String,
        /// Where; `None` for every pool that says no other.
        pool: Option<String>,
        /// How much.
        weight: u16,
    },
}

/// A part of the configuration that may be replaced on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigPart {
    /// All `[[rule]]`.
    Rules,
    /// All `[[pool]]`.
    Pools,
}

impl ConfigPart {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Rules, Self::Pools];

    /// Returns how operators call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Pools => "pools",
        }
    }

    /// Returns the key its sections have in the file.
    const fn key(self) -> &'static str {
        match self {
            Self::Rules => "rule",
            Self::Pools => "pool",
        }
    }

    /// Takes this part of one configuration over into another.
    fn take_over(self, from: RawConfig, to: &mut RawConfig) {
        match self {
            Self::Rules => to.rule = from.rule,
            Self::Pools => to.pool = from.pool,
        }
    }

    /// Reads the text of this part: its sections, at least one, and nothing else.
    fn read(self, text: &str) -> Result<RawConfig, ConfigError> {
        let (name, key) = (self.name(), self.key());
        let raw = config::parse(text, Path::new(name))?;
        let form = |place: &str, text: String| {
            Err(ConfigError::Form { file: name.into(), place: place.to_owned(), text })
        };
        // Another section that is there and empty would not be seen in the raw form.
        let written: toml::Table = toml::from_str(text).unwrap_or_default();
        if let Some(other) = written.keys().find(|written| *written != key) {
            let why =
                format!("only [[{key}]] belongs here; a whole configuration is for `batonctl config apply`");
            return form(other, why);
        }
        if raw == RawConfig::default() {
            let why = format!(
                "there is no [[{key}]], and all {name} would be taken out; if that is meant, apply a whole \
                 configuration without them"
            );
            return form(key, why);
        }
        Ok(raw)
    }
}

/// A backend to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// Its name.
    pub name: String,
    /// Its address on the data network.
    pub address: Ipv4Addr,
    /// Its weight; `None` for the usual one.
    pub weight: Option<u16>,
    /// The pools it is put into, behind their other backends.
    pub pools: Vec<String>,
    /// Whether it gets no new connections for now.
    pub drain: bool,
    /// With more connections it counts as full.
    pub connections_max: Option<u32>,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload => f.write_str("reload of the file"),
            Self::Apply(_) => f.write_str("another configuration"),
            Self::Replace(part, _) => write!(f, "other {}", part.name()),
            Self::Add(addition) => write!(f, "add backend {:?}", addition.name),
            Self::Remove(name) => write!(f, "remove backend {name:?}"),
            Self::Drain(name) => write!(f, "drain backend {name:?}"),
            Self::Enable(name) => write!(f, "enable backend {name:?}"),
            Self::Weigh { backend, pool: None, weight } => {
                write!(f, "weight of backend {backend:?}: {weight}")
            }
            Self::Weigh { backend, pool: Some(pool), weight } => {
                write!(f, "weight of backend {backend:?} in pool {pool:?}: {weight}")
            }
        }
    }
}

/// Why an order is not carried out. The running configuration goes on.
#[derive(Debug, Error)]
pub enum OrderFault {
    /// No backend or pool has this name.
    #[error("{0}")]
    Unknown(String),
    /// It makes sense, but not now, or not while the switch runs.
    #[error("{0}")]
    Conflict(String),
    /// What it leads to is wrong.
    #[error(transparent)]
    Refused(ConfigError),
    /// The file cannot be read.
    #[error(transparent)]
    Unread(ConfigError),
}

impl From<ConfigError> for OrderFault {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Read { .. } => Self::Unread(error),
            ConfigError::Fixed { .. } => Self::Conflict(error.to_string()),
            ConfigError::TooLong { .. } | ConfigError::Form { .. } | ConfigError::Faults { .. } => {
                Self::Refused(error)
            }
        }
    }
}

/// What an order changed, or would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The configuration that runs now: the one the switch started with is the first.
    pub generation: u64,
    /// What differs from the one before, a sentence each.
    pub changes: Vec<String>,
    /// What works but is hardly meant.
    pub warnings: Vec<Fault>,
}

/// A configuration that runs, or did.
#[derive(Clone, Debug)]
pub struct Running {
    /// The configuration.
    pub config: Config,
    /// Counts them from 1.
    pub generation: u64,
    /// Since when.
    pub since: Micros,
}

impl Running {
    /// Writes it as TOML. Comments of the file are not in it.
    ///
    /// # Errors
    /// None that is known: what was read can be written.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&self.config.raw)
    }

    /// Writes one part of it as TOML.
    ///
    /// # Errors
    /// As [`Running::to_toml`].
    pub fn part_to_toml(&self, part: ConfigPart) -> Result<String, toml::ser::Error> {
        let mut raw = RawConfig::default();
        part.take_over(self.config.raw.clone(), &mut raw);
        toml::to_string(&raw)
    }
}

/// The running configuration.
#[derive(Debug)]
pub struct Live {
    file: PathBuf,
    /// Guards the making of the next configuration from the one that runs, one order at a time: checking may take seconds, and
    /// nobody who only looks should wait for it.
    changing: Mutex<()>,
    /// Guards which configuration runs. Held while roster and lcores are told of another one; the roster's lock is taken within
    /// it, never the other way round.
    running: Mutex<Arc<Running>>,
}

impl Live {
    /// Starts with what the file said.
    pub fn new(file: &Path, config: Config, now: Micros) -> Self {
        let running = Arc::new(Running { config, generation: 1, since: now });
        Self { file: file.to_owned(), changing: Mutex::new(()), running: Mutex::new(running) }
    }

    /// Returns what runs.
    pub fn running(&self) -> Arc<Running> {
        Arc::clone(&self.running.lock())
    }

    /// Says what an order would change; changes nothing. May take seconds: not for the control thread.
    ///
    /// # Errors
    /// As [`Live::carry_out`].
    pub fn consider(&self, order: &Order) -> Result<Outcome, OrderFault> {
        let running = self.running();
        let config = self.result_of(order, &running)?;
        Ok(outcome(&running.config, config, running.generation).0)
    }

    /// Carries out an order. `prepare` is given what will be in force, and makes of it what takes time; what it returns then puts it
    /// in force, and says what became of that. May take seconds: not for the control thread.
    ///
    /// # Errors
    /// Everything that is wrong with what it would lead to; nothing has changed then.
    pub fn carry_out<T, Adopt: FnOnce() -> T>(
        &self,
        order: &Order,
        now: Micros,
        prepare: impl FnOnce(&Arc<Catalog>) -> Adopt,
    ) -> Result<(Outcome, T), OrderFault> {
        let _changing = self.changing.lock();
        let running = self.running();
        let config = self.result_of(order, &running)?;
        let generation = running.generation + 1;
        let (outcome, config) = outcome(&running.config, config, generation);
        let adopt = prepare(&config.catalog);
        // Together, so that nobody takes the one before for what runs while the lcores already go by this one.
        let mut running = self.running.lock();
        let adopted = adopt();
        *running = Arc::new(Running { config, generation, since: now });
        Ok((outcome, adopted))
    }

    /// Makes and checks the configuration an order leads to.
    fn result_of(&self, order: &Order, running: &Running) -> Result<Config, OrderFault> {
        let before = Some(&running.config);
        match order {
            Order::Reload => {
                let raw = config::parse(&config::read(&self.file)?, &self.file)?;
                Ok(Config::checked(raw, &self.file, &Sources::FILES, before)?)
            }
            Order::Apply(text) => {
                let raw = config::parse(text, Path::new(NO_FILE))?;
                Ok(Config::checked(raw, Path::new(NO_FILE), &Sources::FILES, before)?)
            }
            order => {
                let raw = changed(&running.config.raw, order)?;
                let keys = |_: &Path| Ok::<KeyRing, KeyFault>(running.config.catalog.keys.clone());
                let body = |path: &Path| kept_body(&running.config, path);
                // The files were not changed by this, and one that is missing for a moment must not hinder it.
                Ok(Config::checked(raw, Path::new(NO_FILE), &Sources { keys: &keys, body: &body }, before)?)
            }
        }
    }
}

/// Finds the body of an error page among those that are in force.
fn kept_body(config: &Config, path: &Path) -> io::Result<Vec<u8>> {
    let page = config.raw.error_page.iter().find(|page| page.file.as_deref().map(Path::new) == Some(path));
    let status = page.and_then(|page| page.status);
    let place = Refusal::STATUSES.iter().position(|known| Some(i64::from(*known)) == status);
    let body = place.and_then(|place| config.catalog.error_pages.bodies.get(place)?.as_ref());
    body.map(|body| body.bytes.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn outcome(before: &Config, mut after: Config, generation: u64) -> (Outcome, Config) {
    let mut changes = changes::between(&before.raw, &after.raw);
    // The secrets themselves are not at hand, but what is derived from them is.
    let keys = |config: &Config| -> Vec<_> {
        config.catalog.keys.iter().map(|key| (key.id(), key.cookie_key())).collect()
    };
    if keys(before) != keys(&after) {
        changes.push("other keys".to_owned());
    }
    let warnings = core::mem::take(&mut after.warnings);
    (Outcome { generation, changes, warnings }, after)
}

/// Makes the raw form of what an order about a part or a backend leads to.
fn changed(raw: &RawConfig, order: &Order) -> Result<RawConfig, OrderFault> {
    let mut raw = raw.clone();
    match order {
        Order::Reload | Order::Apply(_) => {}
        Order::Replace(part, text) => part.take_over(part.read(text)?, &mut raw),
        Order::Add(addition) => add(&mut raw, addition)?,
        Order::Remove(name) => remove(&mut raw, name)?,
        Order::Drain(name) => named(&mut raw, name)?.drain = Some(true),
        Order::Enable(name) => named(&mut raw, name)?.drain = None,
        Order::Weigh { backend, pool: None, weight } => {
            named(&mut raw, backend)?.weight = Some((*weight).into())
        }
        Order::Weigh { backend, pool: Some(pool), weight } => weigh(&mut raw, backend, pool, *weight)?,
    }
    Ok(raw)
}

fn named<'a>(raw: &'a mut RawConfig, name: &str) -> Result<&'a mut RawBackend, OrderFault> {
    let known = there_are(raw.backend.iter().filter_map(|backend| backend.name.as_deref()));
    let found = raw.backend.iter_mut().find(|backend| backend.name.as_deref() == Some(name));
    found.ok_or_else(|| OrderFault::Unknown(format!("no backend is called {name:?}; {known}")))
}

fn add(raw: &mut RawConfig, addition: &Addition) -> Result<(), OrderFault> {
    let Addition { name, address, weight, pools, drain, connections_max } = addition;
    if raw.backend.iter().any(|backend| backend.name.as_ref() == Some(name)) {
        return Err(OrderFault::Conflict(format!(
            "there is a backend called {name:?} already; names must differ"
        )));
    }
    for pool in pools {
        members(raw, pool)?.push(TextOr::Text(name.clone()));
    }
    raw.backend.push(RawBackend {
        name: Some(name.clone()),
        address: Some(address.to_string()),
        weight: weight.map(i64::from),
        drain: drain.then_some(true),
        connections_max: connections_max.map(i64::from),
    });
    Ok(())
}

fn remove(raw: &mut RawConfig, name: &str) -> Result<(), OrderFault> {
    named(raw, name)?;
    raw.backend.retain(|backend| backend.name.as_deref() != Some(name));
    for pool in &mut raw.pool {
        let Some(members) =
            pool.backends.as_mut().filter(|members| members.iter().any(|one| is_called(one, name)))
        else {
            continue;
        };
        members.retain(|one| !is_called(one, name));
        if members.is_empty() {
            let pool = pool.name.as_deref().unwrap_or_default();
            return Err(OrderFault::Conflict(format!(
                "backend {name:?} is the last of pool {pool:?}: add another one to it first, or apply a configuration without that pool"
            )));
        }
    }
    Ok(())
}

fn weigh(raw: &mut RawConfig, backend: &str, pool: &str, weight: u16) -> Result<(), OrderFault> {
    named(raw, backend)?;
    let members = members(raw, pool)?;
    let Some(member) = members.iter_mut().find(|member| is_called(member, backend)) else {
        let known = there_are(members.iter().filter_map(config::member_name));
        return Err(OrderFault::Unknown(format!("backend {backend:?} is not in pool {pool:?}; {known}")));
    };
    *member = TextOr::Table(RawMember { name: Some(backend.to_owned()), weight: Some(weight.into()) });
    Ok(())
}

fn members<'a>(raw: &'a mut RawConfig, name: &str) -> Result<&'a mut Vec<TextOr<RawMember>>, OrderFault> {
    let known = there_are(raw.pool.iter().filter_map(|pool| pool.name.as_deref()));
    let found = raw.pool.iter_mut().find(|pool| pool.name.as_deref() == Some(name));
    let members = found.map(|pool| pool.backends.get_or_insert_default());
    members.ok_or_else(|| OrderFault::Unknown(format!("no pool is called {name:?}; {known}")))
}

fn is_called(member: &TextOr<RawMember>, name: &str) -> bool {
    config::member_name(member) == Some(name)
}

#[cfg(test)]
mod tests;
