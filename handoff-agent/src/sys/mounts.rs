//! The BPF file system, on which pins live.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// `BPF_FS_MAGIC`
const BPF_FS: u64 = 0xcafe_4a11;

/// Where the BPF file system belongs.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Says whether a path is, or would be, on a BPF file system.
pub fn on_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .and_then(|existing| statfs(existing).ok())
        .is_some_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| kind & 0xffff_ffff == BPF_FS))
}

/// Says whether a file system is mounted at a directory, or a link leads to such a one.
///
/// # Errors
/// It cannot be looked at.
pub fn is_mount_point(dir: &Path) -> io::Result<bool> {
    let (own, above) = (fs::metadata(dir)?, fs::metadata(dir.join(".."))?);
    // Of a root, the directory above is itself.
    Ok(own.dev() != above.dev() || own.ino() == above.ino())
}

/// Says whether this process sees other mounts than the first process: `ip netns exec` makes it so. Who may not know of the
/// first process is not told so.
pub fn private() -> bool {
    let mounts = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    matches!((mounts("self"), mounts("1")), (Ok(own), Ok(first)) if own != first)
}

/// Mounts the BPF file system at [`BPFFS`].
///
/// # Errors
/// The kernel refuses.
pub fn mount_bpffs() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    mount("bpf", BPFFS, "bpf", flags, c"mode=0700").map_err(Into::into)
}

/// Says whether somebody has pinned something at the top of [`BPFFS`]; the kernel's own files do not count.
pub fn bpffs_in_use() -> bool {
    let of_the_kernel = ["maps.debug", "progs.debug"];
    fs::read_dir(BPFFS).is_ok_and(|entries| {
        entries.flatten().any(|entry| !of_the_kernel.iter().any(|name| entry.file_name() == *name))
    })
}

/// Takes the BPF file system at [`BPFFS`] away again.
///
/// # Errors
/// The kernel refuses, for instance because it is in use.
pub fn unmount_bpffs() -> io::Result<()> {
    unmount(BPFFS, UnmountFlags::empty()).map_err(Into::into)
}
