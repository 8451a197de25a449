//! Making a key file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use handoff_proto::KeyId;
use handoff_proto::keys::{SECRET_BYTES, key_file_text};
use serde::Serialize;
use thiserror::Error;

/// For its owner alone.
const MODE: u32 = 0o600;

/// Why no key file was made.
#[derive(Debug, Error)]
pub(crate) enum KeygenFault {
    /// Something is there.
    #[error(
        "{} exists already and is left as it is: a key in use must not be lost. Choose another name",
        .0.display()
    )]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// What was made.
#[derive(Debug, Serialize)]
pub(crate) struct Made {
    /// The file.
    pub(crate) file: PathBuf,
    /// The id of the key in it.
    pub(crate) id: u8,
}

/// Writes a new file with one random key.
///
/// # Errors
/// See [`KeygenFault`]; then no file is left behind.
pub(crate) fn make(path: &Path, id: KeyId) -> Result<Made, KeygenFault> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    let text = key_file_text(id, &secret);
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeygenFault::Exists(path.to_owned()),
        _ => KeygenFault::Write { path: path.to_owned(), error },
    };
    // `create_new` follows no link and opens nothing that exists; the mode holds from the first moment on.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path).map_err(fault)?;
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        return match fs::remove_file(path) {
            Ok(()) => Err(fault(error)),
            Err(second) => {
                Err(fault(io::Error::new(second.kind(), format!("{error}; and removing it: {second}"))))
            }
        };
    }
    Ok(Made { file: path.to_owned(), id: id.0 })
}
