//! The BPF programs: their maps ([`abi`], [`Maps`]), loading them, attaching and pinning them.
//!
//! Everything is pinned, so that traffic goes on when the agent dies. A new agent takes pinned maps and links over: the
//! links are given the new programs atomically, the records of used generations stay.

pub mod abi;
mod attach;
mod maps;
mod sessions;
mod steering;

use std::path::{Path, PathBuf};

use libbpf_rs::{MapHandle, Object, ObjectBuilder, OpenObject, ProgramMut};
use thiserror::Error;

use self::abi::RECORDS_NOT_BEGUN;
use crate::sys::lock::Lock;
use crate::sys::mounts;

pub use attach::{Attachment, Direction, attach_unpinned, detach, is_attached, watch_sockets};
pub use maps::{Counters, Maps};
pub use sessions::{NamedSession, SessionRing};
pub use steering::Steering;

/// The compiled programs.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/handoff.bpf.o"));

/// Program for the ingress of the data interface.
pub const PROGRAM_INGRESS: &str = "baton_ingress";
/// Program for the egress of the data interface.
pub const PROGRAM_EGRESS: &str = "baton_egress";
/// Program for the ingress of the self-test's interface.
pub const PROGRAM_SELF_TEST: &str = "baton_self_test";
/// Program for the kernel's tracepoint of changes of TCP states.
pub const PROGRAM_SOCKETS: &str = "baton_sockets";

/// Why the BPF programs cannot be used. Messages say the whole cause: there is no further source.
#[derive(Debug, Error)]
pub enum BpfError {
    /// The kernel or libbpf refuses something.
    #[error("{action}: {error:#}")]
    Libbpf {
        /// What was tried.
        action: String,
        /// What libbpf said.
        error: libbpf_rs::Error,
    },
    /// A file operation on pins fails.
    #[error("{action}: {error}")]
    Io {
        /// What was tried.
        action: String,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// The programs lack a part this code expects.
    #[error("the BPF object has no {0}")]
    Missing(&'static str),
    /// Another agent, or `detach`, is at work there.
    #[error("{0}: another baton-agent pins there; stop it, or give each agent a pin_dir of its own")]
    Busy(PathBuf),
    /// The pin directory holds more than an agent's pins.
    #[error(
        "{0}: this is where a file system is mounted; name a directory of the agent's own below it, for detaching removes it"
    )]
    MountPoint(PathBuf),
    /// A pinned map is not of the form this code expects.
    #[error("the pinned BPF map `{0}` has another form; stop the agent and run `baton-agent detach`")]
    Form(&'static str),
}

impl BpfError {
    fn libbpf(action: impl Into<String>) -> impl FnOnce(libbpf_rs::Error) -> Self {
        let action = action.into();
        move |error| Self::Libbpf { action, error }
    }

    fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |error| Self::Io { action, error }
    }
}

/// The programs in the kernel, and their maps.
pub struct Programs {
    object: Object,
    maps: Maps,
    _lock: Option<Lock>,
}

impl Programs {
    /// Loads the programs with `records` entries of replay memory. With a pin directory, maps pinned there by an
    /// earlier agent are used again where they fit, and the others are pinned there. New records take no handoff before
    /// [`Steering::begin_records`].
    ///
    /// # Errors
    /// Another agent has `pin_dir`, the kernel refuses (privileges, version, no bpffs there), or the object is broken.
    pub fn load(records: u32, pin_dir: Option<&Path>) -> Result<Self, BpfError> {
        let mut open = ObjectBuilder::default()
            .name("baton")
            .and_then(|builder| builder.open_memory(OBJECT))
            .map_err(BpfError::libbpf("reading the BPF programs"))?;
        let mut reused = Vec::new();
        if let Some(dir) = pin_dir {
            std::fs::create_dir_all(dir).map_err(BpfError::io(format!("creating {}", dir.display())))?;
        }
        let lock = pin_dir.map(lock).transpose()?;
        set_up_maps(&mut open, records, pin_dir, &mut reused)?;
        let object = open.load().map_err(BpfError::libbpf("loading the BPF programs into the kernel"))?;
        let maps = Maps::of(&object)?;
        let kept = |name: &str| reused.iter().any(|kept| kept == name);
        let mut settings = maps.settings()?;
        // Until the new programs are attached, others may fill records of their own: a kill in between must not make
        // these look complete.
        if !["records", "settings", "window"].into_iter().all(kept) {
            settings.records_since_us = RECORDS_NOT_BEGUN;
        }
        settings.records_capacity = records;
        maps.set_settings(&settings)?;
        Ok(Self { object, maps, _lock: lock })
    }

    /// Returns the maps.
    pub const fn maps(&self) -> &Maps {
        &self.maps
    }

    /// Returns a program by name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn program(&self, name: &'static str) -> Result<ProgramMut<'_>, BpfError> {
        self.object.progs_mut().find(|program| program.name() == name).ok_or(BpfError::Missing(name))
    }
}

/// Sizes the maps and gives them their pins; a pinned map that no longer fits is unpinned, and a new one takes its
/// place.
fn set_up_maps(
    open: &mut OpenObject,
    records: u32,
    pin_dir: Option<&Path>,
    reused: &mut Vec<String>,
) -> Result<(), BpfError> {
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name == "records" {
            map.set_max_entries(records).map_err(BpfError::libbpf("sizing the map `records`"))?;
        }
        let Some(dir) = pin_dir else { continue };
        let path = dir.join(&name);
        if path.exists() {
            let pinned = MapHandle::from_pinned_path(&path)
                .map_err(BpfError::libbpf(format!("opening {}", path.display())))?;
            let fits = libbpf_rs::MapCore::map_type(&pinned) == map.map_type()
                && libbpf_rs::MapCore::key_size(&pinned) == map.key_size()
                && libbpf_rs::MapCore::value_size(&pinned) == map.value_size()
                && libbpf_rs::MapCore::max_entries(&pinned) == map.max_entries();
            if fits {
                reused.push(name.clone());
            } else {
                std::fs::remove_file(&path)
                    .map_err(BpfError::io(format!("removing {}, which no longer fits", path.display())))?;
            }
        }
        map.set_pin_path(&path).map_err(BpfError::libbpf(format!("pinning {}", path.display())))?;
    }
    Ok(())
}

/// Keeps other agents away from a pin directory: they would write each other's settings. What a file system is mounted
/// at is no such directory, by whatever name it goes.
fn lock(dir: &Path) -> Result<Lock, BpfError> {
    if mounts::is_mount_point(dir).map_err(BpfError::io(format!("looking at {}", dir.display())))? {
        return Err(BpfError::MountPoint(dir.to_owned()));
    }
    std::fs::File::open(dir).and_then(Lock::take).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => BpfError::Busy(dir.to_owned()),
        _ => BpfError::io(format!("locking {}", dir.display()))(error),
    })
}

/// Where the maps and links of an agent are pinned.
pub(crate) fn pins(dir: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    maps::NAMES.iter().chain(attach::LINK_NAMES.iter()).map(|name| dir.join(name))
}

/// Sends libbpf's own messages to the log.
pub fn log_to_tracing() {
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Debug, |level, text| {
        let text = text.trim_end();
        match level {
            libbpf_rs::PrintLevel::Debug => tracing::trace!(target: "libbpf", "{text}"),
            libbpf_rs::PrintLevel::Info => tracing::debug!(target: "libbpf", "{text}"),
            libbpf_rs::PrintLevel::Warn => tracing::warn!(target: "libbpf", "{text}"),
        }
    })));
}
