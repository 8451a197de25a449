//! Attaching the programs to interfaces, and finding what an earlier agent attached.

use std::path::Path;

use libbpf_rs::Link;
use libbpf_rs::query::LinkTypeInfo;

use super::{BpfError, PROGRAM_EGRESS, PROGRAM_INGRESS, PROGRAM_SOCKETS, Programs, lock, pins};
use crate::sys::tcx;

pub use crate::sys::tcx::Direction;

/// The links, by the names they are pinned under.
pub(super) const LINK_NAMES: [&str; 2] = ["link_ingress", "link_egress"];

/// The programs at the data interface. Dropping it leaves pinned links in place.
pub struct Attachment {
    _links: Vec<Link>,
    /// Whether links of an earlier agent were taken over: traffic was never without a program.
    pub taken_over: bool,
}

impl Attachment {
    /// Attaches the programs to the interface and pins the links in `pin_dir`, or gives the links pinned there the new
    /// programs, if they are at this interface.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(programs: &Programs, interface: u32, pin_dir: &Path) -> Result<Self, BpfError> {
        let mut taken_over = true;
        let mut links = Vec::new();
        // Egress first: no birth is missed of what ingress assigns.
        for (name, program, direction) in [
            (LINK_NAMES[1], PROGRAM_EGRESS, Direction::Egress),
            (LINK_NAMES[0], PROGRAM_INGRESS, Direction::Ingress),
        ] {
            let path = pin_dir.join(name);
            let mut program = programs.program(program)?;
            if let Some(mut link) = pinned_at(&path, interface)? {
                link.update_prog(&program)
                    .map_err(BpfError::libbpf(format!("exchanging the program of {}", path.display())))?;
                links.push(link);
                continue;
            }
            taken_over = false;
            let mut link = tcx::attach(&mut program, interface, direction)
                .map_err(BpfError::libbpf(format!("attaching to {direction} of interface {interface}")))?;
            link.pin(&path).map_err(BpfError::libbpf(format!("pinning {}", path.display())))?;
            links.push(link);
        }
        Ok(Self { _links: links, taken_over })
    }
}

/// Opens the link pinned at `path` if it is at the interface; removes the pin of any other, which detaches it.
fn pinned_at(path: &Path, interface: u32) -> Result<Option<Link>, BpfError> {
    if !path.exists() {
        return Ok(None);
    }
    let link = Link::open(path).map_err(BpfError::libbpf(format!("opening {}", path.display())))?;
    if link_interface(&link) == Some(interface) {
        return Ok(Some(link));
    }
    std::fs::remove_file(path).map_err(BpfError::io(format!("removing {}", path.display())))?;
    Ok(None)
}

fn link_interface(link: &Link) -> Option<u32> {
    match link.info().ok()?.info {
        LinkTypeInfo::Tcx(tcx) => Some(tcx.ifindex),
        _ => None,
    }
}

/// Says whether both pinned links are at the interface; they are not if it went away and came back.
pub fn is_attached(pin_dir: &Path, interface: u32) -> bool {
    LINK_NAMES.iter().all(|name| {
        let path = pin_dir.join(name);
        path.exists() && Link::open(path).is_ok_and(|link| link_interface(&link) == Some(interface))
    })
}

/// Attaches a program for as long as the returned link lives.
///
/// # Errors
/// The kernel refuses.
pub fn attach_unpinned(
    programs: &Programs,
    program: &'static str,
    interface: u32,
    direction: Direction,
) -> Result<Link, BpfError> {
    tcx::attach(&mut programs.program(program)?, interface, direction)
        .map_err(BpfError::libbpf(format!("attaching to {direction} of interface {interface}")))
}

/// Counts connections as they open and close, in `Maps::sockets`, for as long as the returned link lives.
///
/// # Errors
/// The kernel refuses.
pub fn watch_sockets(programs: &Programs) -> Result<Link, BpfError> {
    programs
        .program(PROGRAM_SOCKETS)?
        .attach_trace()
        .map_err(BpfError::libbpf("attaching to the tracepoint inet_sock_set_state"))
}

/// Removes what an agent pinned in `pin_dir`, links first, and the directory. Nothing pinned is fine.
///
/// # Errors
/// Another agent has the directory, or the kernel refuses.
pub fn detach(pin_dir: &Path) -> Result<(), BpfError> {
    let _lock = pin_dir.exists().then(|| lock(pin_dir)).transpose()?;
    for path in pins(pin_dir).collect::<Vec<_>>().into_iter().rev() {
        if path.exists() {
            std::fs::remove_file(&path).map_err(BpfError::io(format!("removing {}", path.display())))?;
        }
    }
    match std::fs::remove_dir(pin_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BpfError::io(format!("removing {}", pin_dir.display()))(error))
        }
        _ => Ok(()),
    }
}
