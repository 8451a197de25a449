//! Control groups: where a process has its own, and what that used and waited for. Both versions are met: a unified hierarchy
//! (`cpu.stat`, `memory.pressure`), and one hierarchy for each controller (`cpuacct.usage`), alone or beside an empty unified
//! one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::pressure;
use super::servers::Tree;

/// How many directories of the unified hierarchy are looked at for one of a given id.
const DIRECTORIES_MAX: usize = 10_000;

/// What tells how much processor time a group used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Usage {
    /// `cpu.stat` of the unified hierarchy, in microseconds.
    Stat(PathBuf),
    /// `cpuacct.usage` of the hierarchy of that controller, in nanoseconds.
    Accounting(PathBuf),
}

/// A control group that accounts processor time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cgroup {
    dir: PathBuf,
    usage: Usage,
    /// Directories that may limit it: itself and those above, in every hierarchy.
    limits: Vec<PathBuf>,
    pressure: PathBuf,
}

impl Cgroup {
    /// The group of a directory, if it is one that accounts processor time.
    pub(super) fn at(dir: &Path) -> Option<Self> {
        let usage = [Usage::Stat(dir.join("cpu.stat")), Usage::Accounting(dir.join("cpuacct.usage"))]
            .into_iter()
            .find(|usage| usage.read_us().is_some())?;
        // A group's directory has a list of its processes.
        let limits = dir.ancestors().take_while(|dir| dir.join("cgroup.procs").exists());
        Some(Self {
            dir: dir.to_owned(),
            usage,
            limits: limits.map(Path::to_owned).collect(),
            pressure: dir.join("memory.pressure"),
        })
    }

    /// Its directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns how much processor time it used since it was made, in microseconds.
    pub(super) fn used_us(&self) -> Option<u64> {
        self.usage.read_us()
    }

    /// Returns how many thousandths of a processor it may use, on a host of so many.
    pub(super) fn milli_cpus(&self, processors: u64) -> u64 {
        let limits = self.limits.iter().filter_map(|dir| limit_of(dir));
        limits.min().unwrap_or(u64::MAX).min(processors.saturating_mul(1_000)).max(1)
    }

    /// Returns the share of the last ten seconds in which some task of it waited for memory, in thousandths.
    pub(super) fn memory_pressure(&self) -> Option<u16> {
        fs::read_to_string(&self.pressure).ok().as_deref().and_then(pressure::some_avg10_permille)
    }
}

impl Usage {
    fn read_us(&self) -> Option<u64> {
        match self {
            Self::Stat(file) => {
                let text = fs::read_to_string(file).ok()?;
                text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()
            }
            Self::Accounting(file) => {
                let nanoseconds: u64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
                Some(nanoseconds / 1_000)
            }
        }
    }
}

/// Returns how many thousandths of a processor one directory lets its processes use.
fn limit_of(dir: &Path) -> Option<u64> {
    let text = |file: &str| fs::read_to_string(dir.join(file)).ok();
    let unified = || {
        let text = text("cpu.max")?;
        let mut fields = text.split_whitespace();
        quota(fields.next()?, fields.next()?)
    };
    let own = || quota(text("cpu.cfs_quota_us")?.trim(), text("cpu.cfs_period_us")?.trim());
    let pinned = ["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"]
        .into_iter()
        .find_map(|file| processors_in(text(file)?.trim()));
    [unified(), own(), pinned.map(|count| count.saturating_mul(1_000))].into_iter().flatten().min()
}

/// Reads a quota of time in each period: `max` or -1 is none.
fn quota(quota: &str, period: &str) -> Option<u64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_mul(1_000)?.checked_div(period)
}

/// Counts the processors of a list as `0-3,8`; an empty one says nothing.
fn processors_in(list: &str) -> Option<u64> {
    let mut count = 0u64;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

/// Where hierarchies of control groups are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    unified: Option<Mount>,
    accounting: Option<Mount>,
    /// Those whose directories may limit processor time.
    limiting: Vec<(String, Mount)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// The directory of the hierarchy that is mounted.
    root: String,
    at: PathBuf,
}

impl Mount {
    /// Where a group of this hierarchy is; `None` for its root, in which every process begins, and for what is not mounted.
    fn dir_of(&self, group: &str) -> Option<PathBuf> {
        let below = if self.root == "/" { group } else { group.strip_prefix(&self.root)? };
        let below = below.strip_prefix('/')?;
        // A way up leads out of the control groups this process may know of.
        let is_own = !below.is_empty() && below.split('/').all(|name| name != "..");
        is_own.then(|| self.at.join(below))
    }
}

impl Hierarchies {
    /// Reads `/proc/self/mountinfo` (proc(5)): mounts of kind `cgroup2`, and of kind `cgroup` by their controllers.
    pub(super) fn of_mountinfo(text: &str, tree: &Tree) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let place: Vec<&str> = place.split(' ').collect();
            let kind: Vec<&str> = kind.split(' ').collect();
            let (Some(root), Some(at), Some(options)) = (place.get(3), place.get(4), kind.get(2)) else {
                continue;
            };
            let mount = Mount { root: (*root).to_owned(), at: tree.path(at) };
            let controls = |controller: &str| options.split(',').any(|option| option == controller);
            match kind.first() {
                Some(&"cgroup2") => found.unified = found.unified.or(Some(mount)),
                Some(&"cgroup") => {
                    if controls("cpuacct") && found.accounting.is_none() {
                        found.accounting = Some(mount.clone());
                    }
                    for controller in ["cpu", "cpuset"].into_iter().filter(|controller| controls(controller))
                    {
                        found.limiting.push((controller.to_owned(), mount.clone()));
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// Finds the group of a process by the text of its `/proc/PID/cgroup` (cgroups(7)).
    pub(super) fn group_of_process(&self, text: &str) -> Option<Cgroup> {
        let path_of = |wanted: &str| {
            text.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':');
                let (controllers, path) = (fields.nth(1)?, fields.next()?);
                controllers.split(',').any(|controller| controller == wanted).then_some(path)
            })
        };
        let unified = self.unified.as_ref().and_then(|mount| mount.dir_of(path_of("")?));
        let own = |mount: &Option<Mount>| mount.as_ref().and_then(|mount| mount.dir_of(path_of("cpuacct")?));
        let mut group =
            unified.as_deref().and_then(Cgroup::at).or_else(|| Cgroup::at(&own(&self.accounting)?))?;
        for (controller, mount) in &self.limiting {
            if let Some(dir) = path_of(controller).and_then(|path| mount.dir_of(path)) {
                group.limits.extend(mount.above(&dir));
            }
        }
        if let Some(unified) = unified {
            group.pressure = unified.join("memory.pressure");
        }
        Some(group)
    }

    /// Finds the group of an id, which is the inode number of its directory in the unified hierarchy. In other hierarchies it
    /// goes by the same name, as systemd has it.
    pub(super) fn group_of_id(&self, id: u64) -> Option<Cgroup> {
        let unified = self.unified.as_ref()?;
        let dir = unified.dir_of_id(id)?;
        let mut group = Cgroup::at(&dir)?;
        let name = dir.strip_prefix(&unified.at).ok()?;
        for (_, mount) in &self.limiting {
            group.limits.extend(mount.above(&mount.at.join(name)));
        }
        Some(group)
    }
}

impl Mount {
    /// A directory and those above it, the root of the hierarchy left out.
    fn above<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        dir.ancestors().take_while(|dir| **dir != self.at).map(Path::to_owned)
    }

    /// Looks for a directory below the root of the hierarchy by its inode number.
    fn dir_of_id(&self, id: u64) -> Option<PathBuf> {
        if fs::metadata(&self.at).ok()?.ino() == id {
            return None; // what is everybody's
        }
        let mut unseen = vec![self.at.clone()];
        for _ in 0..DIRECTORIES_MAX {
            let dir = unseen.pop()?;
            for entry in fs::read_dir(&dir).ok().into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if entry.metadata().is_ok_and(|found| found.ino() == id) {
                    return Some(entry.path());
                }
                unseen.push(entry.path());
            }
        }
        None
    }
}
