//! The agent's configuration file: TOML in, checked values out. `docs/OPERATING.md` explains every key.

mod checked;
mod raw;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use checked::{Config, HealthProbe, ServedVip};

/// Why a configuration cannot be used. Messages name the file, the key, what was found and what is allowed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not TOML, a key that does not exist, or a value of another type.
    #[error("{file}: {key}: {message}")]
    Form {
        /// The file.
        file: PathBuf,
        /// The key, or `.` for the file as a whole.
        key: String,
        /// What was found and what is allowed.
        message: String,
    },
    /// A value that is not allowed.
    #[error("{file}: {key}: found {found}, allowed is {allowed}")]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// Others than the owner may read the key file.
    #[error(
        "{file}: permissions {mode:04o}, allowed is 0600 or 0400: everybody who can read it can take connections"
    )]
    KeyPermissions {
        /// The key file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file is not one.
    #[error("{file}: {source}")]
    Keys {
        /// The key file.
        file: PathBuf,
        /// What is wrong with it.
        source: handoff_proto::keys::KeyFileError,
    },
}

impl Config {
    /// Reads the configuration and the key file it names.
    ///
    /// # Errors
    /// Says what is wrong, in which file and at which key.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        checked::check(file, parse(file, &text)?)
    }
}

fn parse(file: &Path, text: &str) -> Result<raw::File, ConfigError> {
    let form = |key: String, message: &str| ConfigError::Form {
        file: file.to_owned(),
        key,
        message: message.to_owned(),
    };
    let document =
        toml::Deserializer::parse(text).map_err(|error| form(place(text, &error), error.message()))?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let key = format!("{} ({})", error.path(), place(text, error.inner()));
        form(key, error.inner().message())
    })
}

/// Says where in the text an error is.
fn place(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.get(..start).map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}")
}
