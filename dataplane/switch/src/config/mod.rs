//! `switch.toml`: from text to what each room needs, checked.
//!
//! The file is read in two steps. Its raw form holds what is written; [`Config`] holds what the rooms take: ready
//! settings for the DPDK door, the core and control. Between them every value is checked, and everything that is wrong
//! is reported at once, each fault with its key, what was found and what is allowed. Nothing here touches the network or DPDK.

mod answers;
mod backends;
mod classes;
mod conditions;
mod error_pages;
mod faults;
mod fixed;
mod key_file;
mod names;
mod policies;
mod pools;
mod raw;
mod rules;
mod sections;
mod services;
#[cfg(test)]
mod tests;
mod vips;

use core::net::SocketAddr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baton_core::Settings;
use handoff_proto::KeyRing;
use handoff_proto::admin::CONFIGURATION_BYTES_MAX;
use thiserror::Error;

use crate::control::Catalog;
use crate::dpdk::DpdkSettings;

pub use faults::Fault;
use faults::Findings;
use fixed::Fixed;
pub(crate) use names::{listed, there_are};
pub(crate) use raw::{RawBackend, RawConfig, RawMember, RawRule, TextOr};
pub(crate) use services::member_name;

/// Longest configuration file, in bytes: what may be sent may stand in a file.
pub const FILE_BYTES_MAX: u64 = CONFIGURATION_BYTES_MAX as u64;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the DPDK door needs.
    pub dpdk: DpdkSettings,
    /// What each lcore's [`baton_core::Switch`] needs.
    pub core: Settings,
    /// Where control listens.
    pub control: ControlSettings,
    /// Where the keys are.
    pub key_file: PathBuf,
    /// VIPs, backends, pools, classes and rules.
    pub catalog: Arc<Catalog>,
    /// As it is written.
    pub(crate) raw: RawConfig,
    /// What works but is hardly meant.
    pub warnings: Vec<Fault>,
}

/// Where control listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSettings {
    /// For agents, on the management network.
    pub listen: SocketAddr,
    /// For scrapers of `/metrics`.
    pub metrics: SocketAddr,
    /// For `batonctl`.
    pub admin_socket: PathBuf,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {source}", file.display())]
    Read {
        /// The configuration file.
        file: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Longer than [`FILE_BYTES_MAX`].
    #[error("{}: longer than {FILE_BYTES_MAX} bytes: this is no configuration", file.display())]
    TooLong {
        /// The configuration file.
        file: PathBuf,
    },
    /// No TOML, an unknown key, or a value of another type.
    #[error("{}: {place}: {text}", file.display())]
    Form {
        /// The configuration file.
        file: PathBuf,
        /// Where: key and line, or the line as it stands.
        place: String,
        /// What was found and what is allowed.
        text: String,
    },
    /// Nothing is wrong, but some of it cannot change while the switch runs.
    #[error("{}", as_text(file, faults))]
    Fixed {
        /// The configuration file.
        file: PathBuf,
        /// All of that, in the order of the file's sections.
        faults: Vec<Fault>,
    },
    /// Values that are not allowed.
    #[error("{}", as_text(file, faults))]
    Faults {
        /// The configuration file.
        file: PathBuf,
        /// All of them, in the order of the file's sections.
        faults: Vec<Fault>,
    },
}

fn as_text(file: &Path, faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("{}: {fault}", file.display())).collect();
    lines.join("\n")
}

/// What a configuration refers to outside its text.
pub(crate) struct Sources<'a> {
    /// Reads the key file at this path.
    pub(crate) keys: &'a dyn Fn(&Path) -> Result<KeyRing, KeyFault>,
    /// Reads the body of an error page at this path.
    pub(crate) body: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

impl Sources<'_> {
    /// The files themselves.
    pub(crate) const FILES: Self = Self { keys: &key_file::read, body: &error_pages::read_body };
}

impl Config {
    /// Reads and checks a configuration file and the key file it names.
    ///
    /// # Errors
    /// Everything that is wrong with either.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::checked(parse(&read(file)?, file)?, file, &Sources::FILES, None)
    }

    /// Checks the text of a configuration. `file` is named in errors; `read_keys` is given the path of the key file,
    /// `read_body` those of the bodies of error pages.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn from_text(
        text: &str,
        file: &Path,
        read_keys: impl Fn(&Path) -> Result<KeyRing, KeyFault>,
        read_body: impl Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        let sources = Sources { keys: &read_keys, body: &read_body };
        Self::checked(parse(text, file)?, file, &sources, None)
    }

    /// Checks a configuration that is read already, to run in place of `before`, if anything runs: what cannot change while
    /// the switch runs must be as there, and what has a place there keeps it.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn checked(
        raw: RawConfig,
        file: &Path,
        sources: &Sources<'_>,
        before: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let mut findings = Findings::default();
        let checked = check(raw, &mut findings, sources, before);
        match checked {
            Some(config) if findings.faults.is_empty() => Ok(Self { warnings: findings.warnings, ..config }),
            _ => {
                let (file, is_fixed) = (file.to_owned(), findings.fixed == findings.faults.len());
                let faults = findings.into_faults();
                Err(if is_fixed {
                    ConfigError::Fixed { file, faults }
                } else {
                    ConfigError::Faults { file, faults }
                })
            }
        }
    }
}

/// Reads the text of a configuration file.
pub(crate) fn read(file: &Path) -> Result<String, ConfigError> {
    let fault = |source| ConfigError::Read { file: file.to_owned(), source };
    if fs::metadata(file).map_err(fault)?.len() > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong { file: file.to_owned() });
    }
    fs::read_to_string(file).map_err(fault)
}

pub use key_file::KeyFault;

/// Reads the form of the file; what its values may be is not looked at here.
pub(crate) fn parse(text: &str, file: &Path) -> Result<RawConfig, ConfigError> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong { file: file.to_owned() });
    }
    let line_of = |error: &toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        text.get(..start).map_or(1, |before| before.matches('\n').count() + 1)
    };
    let form = |place: String, error: &toml::de::Error| {
        let text = error.message().replace("expected i64", "expected a whole number");
        let text =
            text.replace("expected a sequence", "expected a list").replace("a boolean", "true or false");
        ConfigError::Form { file: file.to_owned(), place, text }
    };
    let document = toml::Deserializer::parse(text).map_err(|error| {
        let line = line_of(&error);
        let words = text.lines().nth(line - 1).unwrap_or_default().trim();
        form(format!("line {line}: `{words}`"), &error)
    })?;
    serde_path_to_error::deserialize(document)
        .map_err(|error| form(format!("{} (line {})", error.path(), line_of(error.inner())), error.inner()))
}

/// Checks all sections before giving up, so that all faults are found.
fn check(
    raw: RawConfig,
    findings: &mut Findings,
    sources: &Sources<'_>,
    before: Option<&Config>,
) -> Option<Config> {
    let network = sections::network(&raw.switch, findings);
    let key_file = sections::key_file(&raw.switch);
    let keys = sections::keys(&key_file, findings, sources.keys);
    let dpdk = sections::dpdk(&raw.dpdk, findings);
    let control = sections::control(&raw.control, findings);
    let core = sections::core(&raw, network, dpdk.mtu, findings);
    let error_pages = Arc::new(error_pages::error_pages(&raw.error_page, findings, sources.body));
    if let (Some(before), Some(core), Some(control)) = (before, &core, &control) {
        let after = Fixed { dpdk: &dpdk, core, control, key_file: &key_file };
        fixed::compare(&before.into(), &after, findings);
    }
    let before = before.map(|before| before.catalog.as_ref());
    let catalog = services::catalog(&raw, network, keys, error_pages, before, findings);
    let (core, control, catalog) = (core?, control?, Arc::new(catalog?));
    Some(Config { dpdk, core, control, key_file, catalog, raw, warnings: Vec::new() })
}
