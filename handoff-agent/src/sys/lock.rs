//! Keeping other processes away from a directory of the agent's.

use std::fs::File;
use std::io;

use rustix::fs::{FlockOperation, flock};

/// An exclusive lock on an open file or directory, released when dropped or when the process ends.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock, without waiting for it.
    ///
    /// # Errors
    /// `WouldBlock` if somebody else has it.
    pub fn take(file: File) -> io::Result<Self> {
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was just forked has the descriptor until it executes its program.
        if let Err(error) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(%error, "a lock stays until the agent ends");
        }
    }
}
