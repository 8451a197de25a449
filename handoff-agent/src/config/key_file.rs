//! Reading the key file: who may read it is part of its being right. Of its content nothing is told but what is wrong.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use handoff_proto::KeyRing;
use handoff_proto::keys::KeyFileError;
use thiserror::Error;

/// Permission bits a key file may have; of these it needs the first.
const MODE_READ: u32 = 0o400;
const MODE_ALLOWED: u32 = 0o600;
/// Longest key file, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a key file is not used.
#[derive(Debug, Error)]
pub enum KeyFault {
    /// It is not there, or not for us.
    #[error(
        "cannot be read: {0}; copy the switch's key file here (`batonctl keygen FILE` makes the first one)"
    )]
    Read(#[from] io::Error),
    /// A directory, a device or the like.
    #[error("not a regular file")]
    NotAFile,
    /// Others could have read it, or it is not for reading.
    #[error("mode {0:04o}; 0600 or 0400 is needed: chmod 600 and, if others may have read it, new keys")]
    Mode(u32),
    /// It belongs to somebody else.
    #[error("it belongs to user {owner}; root or user {own}, who runs this, must own it")]
    Owner {
        /// User id of its owner.
        owner: u32,
        /// User id this process runs under.
        own: u32,
    },
    /// Too long.
    #[error("longer than {FILE_BYTES_MAX} bytes: this is no key file")]
    TooLong,
    /// What is in it is wrong.
    #[error(transparent)]
    Content(#[from] KeyFileError),
}

/// Reads the keys in `path`, if nobody else could have.
///
/// # Errors
/// See [`KeyFault`].
pub(super) fn read(path: &Path) -> Result<KeyRing, KeyFault> {
    let file = File::open(path)?;
    let metadata = file.metadata()?; // of the very file that is read
    if !metadata.is_file() {
        return Err(KeyFault::NotAFile);
    }
    judge_access(metadata.mode() & 0o7777, metadata.uid(), rustix::process::geteuid().as_raw())?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(KeyFault::TooLong);
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(KeyRing::from_toml(&text)?)
}

/// Says whether a file of that mode and owner is for its owner alone, and the owner one to be trusted.
fn judge_access(mode: u32, owner: u32, own: u32) -> Result<(), KeyFault> {
    if mode & !MODE_ALLOWED != 0 || mode & MODE_READ == 0 {
        return Err(KeyFault::Mode(mode));
    }
    if owner != 0 && owner != own {
        return Err(KeyFault::Owner { owner, own });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_belongs_to_root_or_to_who_reads_it_and_to_nobody_else() {
        for (mode, owner, own) in [(0o600, 0, 0), (0o400, 7, 7), (0o400, 0, 7)] {
            assert!(judge_access(mode, owner, own).is_ok(), "{mode:o} {owner} {own}");
        }
        for (owner, own) in [(7, 0), (7, 8)] {
            let refused = judge_access(0o600, owner, own);
            assert!(matches!(refused, Err(KeyFault::Owner { .. })), "{owner} {own}: {refused:?}");
        }
        for mode in [0o644, 0o640, 0o604, 0o700, 0o4600, 0o200, 0] {
            assert!(
                matches!(judge_access(mode, 0, 0), Err(KeyFault::Mode(told)) if told == mode),
                "{mode:o}"
            );
        }
    }
}
