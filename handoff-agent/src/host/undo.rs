//! Remembering what was changed on the host, so that it can be changed back by another process.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys::lock::Lock;

const CHANGES: &str = "changes.json";
/// What was being written when the process ended in the middle of it.
const CHANGES_NEW: &str = "changes.new";
const LOCK: &str = "lock";

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SysctlChange {
    /// Its path below `/proc/sys`.
    pub name: String,
    /// What it was.
    pub was: i64,
    /// What it was set to.
    pub set: i64,
}

/// Everything changed on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changes {
    /// Settings.
    pub sysctls: Vec<SysctlChange>,
    /// VIPs added to lo.
    pub vips: Vec<Ipv4Addr>,
    /// Whether our own nftables table was made.
    pub notrack: bool,
    /// Whether the BPF file system was mounted.
    pub bpffs: bool,
}

/// The changes on disk. Whoever has the log has the host to itself: a lock keeps other agents and `detach` away.
pub struct UndoLog {
    dir: PathBuf,
    changes: Changes,
    _lock: Lock,
}

impl UndoLog {
    /// Opens the log in a directory, which is made if need be.
    ///
    /// # Errors
    /// `WouldBlock` if another process has it; `InvalidData` if it cannot be understood: then nothing is changed,
    /// for what was before would be forgotten.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = Lock::take(File::create(dir.join(LOCK))?)?;
        let changes = match fs::read(dir.join(CHANGES)) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Changes::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { dir: dir.to_owned(), changes, _lock: lock })
    }

    /// Returns what was changed.
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Notes a change, on disk before this returns. Call it before the change is made.
    ///
    /// # Errors
    /// It cannot be written; then the change must not be made.
    pub fn note(&mut self, note: impl FnOnce(&mut Changes)) -> io::Result<()> {
        let mut changes = self.changes.clone();
        note(&mut changes);
        if changes == self.changes {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&changes).map_err(io::Error::other)?;
        let (temporary, path) = (self.dir.join(CHANGES_NEW), self.dir.join(CHANGES));
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.dir)?.sync_all()?;
        self.changes = changes;
        Ok(())
    }

    /// Notes a setting that is about to be changed; what it was at the first change is what counts.
    ///
    /// # Errors
    /// As [`UndoLog::note`].
    pub fn note_sysctl(&mut self, name: &str, was: i64, set: i64) -> io::Result<()> {
        self.note(|changes| match changes.sysctls.iter_mut().find(|change| change.name == name) {
            Some(change) => change.set = set,
            None => changes.sysctls.push(SysctlChange { name: name.to_owned(), was, set }),
        })
    }

    /// Removes the log and its directory, if nothing else is in it.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(self) -> io::Result<()> {
        for name in [CHANGES, CHANGES_NEW, LOCK] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_dir(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("baton-undo-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir); // of a run that was killed
        dir
    }

    #[test]
    fn changes_outlive_the_process_and_the_first_value_counts() {
        let dir = scratch("outlive");
        let mut log = UndoLog::open(&dir).expect("a directory of our own");
        log.note_sysctl("net/ipv4/tcp_ecn", 0, 2).expect("writable");
        log.note_sysctl("net/ipv4/tcp_ecn", 2, 1).expect("writable");
        log.note(|changes| changes.vips.push(Ipv4Addr::new(10, 60, 0, 100))).expect("writable");
        drop(log);
        fs::write(dir.join(CHANGES_NEW), "{\"sysc").expect("writable"); // as a kill in the middle of a note leaves it
        let log = UndoLog::open(&dir).expect("unlocked");
        let ecn = SysctlChange { name: "net/ipv4/tcp_ecn".into(), was: 0, set: 1 };
        assert_eq!(log.changes().sysctls, [ecn]);
        assert_eq!(log.changes().vips, [Ipv4Addr::new(10, 60, 0, 100)]);
        log.remove().expect("removable");
        assert!(!dir.exists());
    }

    #[test]
    fn one_process_has_it_at_a_time() {
        let dir = scratch("lock");
        let log = UndoLog::open(&dir).expect("a directory of our own");
        let refused = UndoLog::open(&dir).err().expect("locked");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        log.remove().expect("removable");
    }

    #[test]
    fn a_log_that_makes_no_sense_is_not_overwritten() {
        let dir = scratch("garbled");
        fs::create_dir_all(&dir).expect("temporary directory");
        fs::write(dir.join(CHANGES), "{\"colour\": 1}").expect("writable");
        let refused = UndoLog::open(&dir).err().expect("garbled");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(dir.join(CHANGES)).expect("there"), "{\"colour\": 1}");
        fs::remove_dir_all(&dir).expect("removable");
    }
}
