//! The agent's configuration file: TOML in, checked values out. `docs/OPERATING.md` explains every key.

mod checked;
mod faults;
mod key_file;
mod raw;

use std::io;
use std::path::{Path, PathBuf};

use handoff_proto::KeyRing;
use thiserror::Error;

pub use checked::{Config, HealthProbe, Places, ServedVip};
pub use faults::{Fault, Instead};
pub use key_file::KeyFault;

/// Why a configuration cannot be used. Messages name the file, the key, what was found and what is allowed.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Not TOML, a key that does not exist, or a value of another type.
    #[error("{}: {key}: {message}", file.display())]
    Form {
        /// The file.
        file: PathBuf,
        /// The key, or `.` for the file as a whole, and its line.
        key: String,
        /// What was found and what is allowed.
        message: String,
    },
    /// Values that are not allowed, or missing.
    #[error("{}", listed(file, faults))]
    Faults {
        /// The file.
        file: PathBuf,
        /// All of them, in the order of the example file.
        faults: Vec<Fault>,
    },
}

/// One line for each fault, each with the file.
fn listed(file: &Path, faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("{}: {fault}", file.display())).collect();
    lines.join("\n")
}

impl Config {
    /// Reads the configuration and the key file it names.
    ///
    /// # Errors
    /// Says everything that is wrong, in which file and at which key.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        Self::from_text(&text_of(file)?, file, key_file::read)
    }

    /// Checks the text of a configuration. `file` is named in errors; `read_keys` is given the path of the key file.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn from_text(
        text: &str,
        file: &Path,
        read_keys: impl FnOnce(&Path) -> Result<KeyRing, KeyFault>,
    ) -> Result<Self, ConfigError> {
        checked::check(parse(file, text)?, read_keys)
            .map_err(|faults| ConfigError::Faults { file: file.to_owned(), faults })
    }
}

impl Places {
    /// Reads from the configuration where the agent left what it did, and nothing else: neither the key file nor other
    /// values need be good.
    ///
    /// # Errors
    /// As [`Config::read`], for these values.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        checked::check_places(parse(file, &text_of(file)?)?)
            .map_err(|faults| ConfigError::Faults { file: file.to_owned(), faults })
    }
}

fn text_of(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|error| ConfigError::Read { file: file.to_owned(), error })
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
