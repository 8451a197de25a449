//! Whose load it is: the control group of the processes that listen at the VIPs.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use handoff_proto::Vip;

use super::cgroup::{Cgroup, Hierarchies};
use crate::sys::diag::TcpSocket;

/// A tree of files: the host's, or a test's.
#[derive(Clone, Debug)]
pub struct Tree(PathBuf);

impl Tree {
    /// The host's.
    pub fn host() -> Self {
        Self(PathBuf::from("/"))
    }

    /// One below a directory.
    pub fn below(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Where a path of the host is in this tree.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Reads a file.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }
}

/// The listeners that take connections to one of the VIPs.
pub(super) fn at_vips<'a>(
    listeners: &'a [TcpSocket],
    vips: &'a [Vip],
) -> impl Iterator<Item = &'a TcpSocket> + 'a {
    listeners.iter().filter(move |listener| {
        vips.iter().any(|vip| match vip.address {
            IpAddr::V4(address) => listener.serves(address, vip.port),
            IpAddr::V6(_) => false,
        })
    })
}

/// Why nothing is known of a control group of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing listens at a VIP.
    NoListener,
    /// The servers are in the group every process begins in.
    NoGroup,
    /// The directory of the configuration is not there, or none of a control group.
    NotThere,
}

impl Unknown {
    /// Says it, and what to do.
    pub const fn why(self) -> &'static str {
        match self {
            Self::NoListener => "nothing listens at a VIP",
            Self::NoGroup => {
                "the servers have no control group of their own, or this process may not see whose the listener is; \
                 [load] cgroup in agent.toml can name one"
            }
            Self::NotThere => "[load] cgroup is no directory of a control group that accounts processor time",
        }
    }
}

#[derive(Debug)]
struct Found {
    /// Inode numbers of the listeners it was looked for by.
    listeners: Vec<u32>,
    group: Result<Arc<Cgroup>, Unknown>,
}

/// Finds the control group of the servers, and finds it again when other processes listen.
#[derive(Debug)]
pub struct Servers {
    tree: Tree,
    configured: Option<PathBuf>,
    vips: Vec<Vip>,
    /// What was found last: replaced by who looks at the host, read for every report.
    found: Mutex<Found>,
}

impl Servers {
    /// Begins knowing nothing. With a directory from the configuration, that one counts.
    pub const fn new(tree: Tree, configured: Option<PathBuf>, vips: Vec<Vip>) -> Self {
        let found = Mutex::new(Found { listeners: Vec::new(), group: Err(Unknown::NoListener) });
        Self { tree, configured, vips, found }
    }

    /// Looks for the group where the listeners have changed; it may look at every process.
    pub fn look(&self, listeners: &[TcpSocket]) {
        let mut serving: Vec<&TcpSocket> = at_vips(listeners, &self.vips).collect();
        serving.sort_unstable_by_key(|listener| listener.inode);
        let inodes: Vec<u32> = serving.iter().map(|listener| listener.inode).collect();
        let gone = |group: &Result<Arc<Cgroup>, Unknown>| {
            group.as_ref().map_or(self.configured.is_some(), |group| !group.dir().is_dir())
        };
        {
            let known = self.lock();
            if known.listeners == inodes && !gone(&known.group) {
                return;
            }
        }
        let group = self.find(&serving).map(Arc::new);
        let mut known = self.lock();
        match (&known.group, &group) {
            (before, Ok(group)) if before.as_ref().ok().map(|before| before.dir()) != Some(group.dir()) => {
                tracing::info!(cgroup = %group.dir().display(), "the servers' control group is measured");
            }
            (Ok(_), Err(unknown)) => {
                tracing::info!(why = unknown.why(), "no control group is measured any more");
            }
            (Err(before), Err(unknown)) if before != unknown && *unknown == Unknown::NotThere => {
                tracing::warn!(why = unknown.why(), "no control group is measured");
            }
            _ => {}
        }
        *known = Found { listeners: inodes, group };
    }

    fn find(&self, serving: &[&TcpSocket]) -> Result<Cgroup, Unknown> {
        if let Some(dir) = &self.configured {
            return Cgroup::at(dir).ok_or(Unknown::NotThere);
        }
        if serving.is_empty() {
            return Err(Unknown::NoListener);
        }
        let mounted = self.tree.text("proc/self/mountinfo").unwrap_or_default();
        let hierarchies = Hierarchies::of_mountinfo(&mounted, &self.tree);
        // Who made a socket is mostly who listens at it, and asked of the socket itself it needs no look at processes.
        let by_id = || serving.iter().find_map(|listener| hierarchies.group_of_id(listener.cgroup?));
        let by_owner = || {
            let owner = self.owner(serving)?;
            hierarchies.group_of_process(&self.tree.text(&format!("proc/{owner}/cgroup"))?)
        };
        by_id().or_else(by_owner).ok_or(Unknown::NoGroup)
    }

    /// Finds a process that has one of the listeners open.
    fn owner(&self, serving: &[&TcpSocket]) -> Option<u32> {
        let wanted: Vec<PathBuf> =
            serving.iter().map(|listener| format!("socket:[{}]", listener.inode).into()).collect();
        let processes = fs::read_dir(self.tree.path("proc")).ok()?.flatten();
        processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|process: &u32| {
            let Ok(open) = fs::read_dir(self.tree.path(&format!("proc/{process}/fd"))) else { return false };
            open.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| wanted.contains(&link)))
        })
    }

    /// Returns the group, if there is one.
    pub(super) fn cgroup(&self) -> Option<Arc<Cgroup>> {
        self.lock().group.as_ref().ok().map(Arc::clone)
    }

    /// Returns where the group is.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn place(&self) -> Result<PathBuf, Unknown> {
        self.lock().group.as_ref().map(|group| group.dir().to_owned()).map_err(|unknown| *unknown)
    }

    /// Returns the tree of files.
    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        // `Found` is replaced as a whole: a panic of another holder does not spoil it.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
