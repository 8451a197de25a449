//! Reading the key file: who may read it is part of its being right.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use handoff_proto::KeyRing;
use handoff_proto::keys::KeyFileError;
use thiserror::Error;

/// Permission bits that must not be set: all of group and others.
const FORBIDDEN_MODE: u32 = 0o077;
/// Longest key file, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a key file is not used.
#[derive(Debug, Error)]
pub enum KeyFault {
    /// It cannot be read.
    #[error("cannot be read: {0}; `batonctl keygen FILE` makes one")]
    Read(#[from] io::Error),
    /// A directory, a device or the like.
    #[error("not a regular file")]
    NotAFile,
    /// Others may read or write it.
    #[error(
        "mode {mode:04o} lets others in; 0600 or 0400 is needed: chmod 600 and, if others may have read it, new keys"
    )]
    Mode {
        /// Its permission bits.
        mode: u32,
    },
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
    // Of the open file, so that what is checked is what is read.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(KeyFault::NotAFile);
    }
    let mode = metadata.mode() & 0o7777;
    if mode & FORBIDDEN_MODE != 0 {
        return Err(KeyFault::Mode { mode });
    }
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != own {
        return Err(KeyFault::Owner { owner, own });
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(KeyFault::TooLong);
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(KeyRing::from_toml(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use handoff_proto::KeyId;
    use handoff_proto::keys::key_file_text;

    #[test]
    fn a_key_file_others_could_read_or_write_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys.toml");
        fs::write(&path, key_file_text(KeyId(3), &[7; 32])).expect("written");
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
            assert_eq!(read(&path).expect("private").current().id(), KeyId(3), "{mode:o}");
        }
        for bit in [0o001, 0o002, 0o004, 0o010, 0o020, 0o040] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600 | bit)).expect("own file");
            assert!(matches!(read(&path), Err(KeyFault::Mode { mode }) if mode == 0o600 | bit), "{bit:o}");
        }
    }

    #[test]
    fn what_is_no_key_file_is_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(matches!(read(directory.path()), Err(KeyFault::NotAFile)));
        assert!(matches!(read(&directory.path().join("absent")), Err(KeyFault::Read(_))));
        let path = directory.path().join("keys.toml");
        let put = |text: &[u8]| {
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
        };
        put(b"");
        assert!(matches!(read(&path), Err(KeyFault::Content(KeyFileError::Empty))));
        put(&[b'#'; (64 << 10) + 1]);
        assert!(matches!(read(&path), Err(KeyFault::TooLong)));
    }
}
