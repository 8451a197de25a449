//! Attaching to tcx hooks: libbpf has it, libbpf-rs 0.27 does not.

use std::fmt;
use std::ptr::NonNull;

use libbpf_rs::{AsRawLibbpf, Link, ProgramAttachType, ProgramMut};

/// A tcx hook of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What arrives.
    Ingress,
    /// What leaves.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// Attaches a program to an interface, behind whatever is there, for as long as the link lives or is pinned.
///
/// # Errors
/// The kernel refuses, for instance because the interface does not exist.
pub fn attach(
    program: &mut ProgramMut<'_>,
    interface: u32,
    direction: Direction,
) -> Result<Link, libbpf_rs::Error> {
    let interface =
        i32::try_from(interface).map_err(|_| libbpf_rs::Error::from_raw_os_error(libc::ENODEV))?;
    let fits = match program.attach_type() {
        ProgramAttachType::TcxIngress => direction == Direction::Ingress,
        ProgramAttachType::TcxEgress => direction == Direction::Egress,
        _ => false,
    };
    if !fits {
        return Err(libbpf_rs::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the program is loaded and alive; without options libbpf takes the attach type the program was loaded
    // with, which was just checked.
    let link = unsafe {
        libbpf_sys::bpf_program__attach_tcx(program.as_libbpf_object().as_ptr(), interface, std::ptr::null())
    };
    let Some(link) = NonNull::new(link) else {
        return Err(libbpf_rs::Error::from(std::io::Error::last_os_error()));
    };
    // SAFETY: libbpf just made the link, it is not null and nothing else owns it.
    Ok(unsafe { Link::from_ptr(link) })
}
