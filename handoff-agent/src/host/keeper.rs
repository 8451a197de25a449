//! Changing the host, and changing it back.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::check::Mend;
use super::firewall::{Endpoint, TABLE};
use super::undo::UndoLog;
use crate::sys::netlink::Netlink;
use crate::sys::{command, mounts};

/// How long a change of firewall rules may take.
const NFT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the host cannot be changed. Messages say the whole cause: there is no further source.
#[derive(Debug, Error)]
pub enum HostError {
    /// Another agent, or `detach`, is at work.
    #[error("{}: another baton-agent is running with this state_dir; stop it first", .0.display())]
    Busy(PathBuf),
    /// The state directory cannot be made, read or written.
    #[error(
        "{}: the agent notes here what it changes on this host, and cannot ({error}); run it as root, or set state_dir to a \
         directory that it can write", dir.display()
    )]
    Place {
        /// The state directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What was noted before makes no sense.
    #[error(
        "{}: what was changed on this host was noted, but the note is garbled ({error}); change it back by hand and remove \
         the directory", dir.display()
    )]
    Log {
        /// The state directory.
        dir: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// The kernel or a tool refuses.
    #[error("{action}: {error}")]
    Refused {
        /// What was tried.
        action: String,
        /// What it said.
        error: io::Error,
    },
}

fn refused(action: impl Into<String>) -> impl FnOnce(io::Error) -> HostError {
    let action = action.into();
    move |error| HostError::Refused { action, error }
}

/// Keeps the host as handoffs need it, and remembers how it was.
pub struct Keeper {
    log: UndoLog,
    vips: Vec<Endpoint>,
}

impl Keeper {
    /// Takes the host over.
    ///
    /// # Errors
    /// Another agent has it, its memory is garbled, or it cannot have one.
    pub fn open(state_dir: &Path, vips: Vec<Endpoint>) -> Result<Self, HostError> {
        let log = UndoLog::open(state_dir).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => HostError::Busy(state_dir.to_owned()),
            io::ErrorKind::InvalidData => HostError::Log { dir: state_dir.to_owned(), error },
            _ => HostError::Place { dir: state_dir.to_owned(), error },
        })?;
        Ok(Self { log, vips })
    }

    /// Does what a finding needs.
    ///
    /// # Errors
    /// It is refused. What was noted stays noted: changing back what was not changed does no harm.
    pub fn mend(&mut self, mend: &Mend) -> Result<(), HostError> {
        match mend {
            Mend::Sysctl { name, value } => self.set_sysctl(name, *value),
            Mend::AddVip(address) => self.add_vip(*address),
            Mend::Notrack => self.notrack(),
            Mend::MountBpffs => self.mount_bpffs(),
        }
    }

    fn set_sysctl(&mut self, name: &str, value: i64) -> Result<(), HostError> {
        let was = read_sysctl(name).map_err(refused(format!("reading {name}")))?;
        self.log.note_sysctl(name, was, value).map_err(refused("noting a change"))?;
        write_sysctl(name, value).map_err(refused(format!("setting {name} to {value}")))
    }

    fn add_vip(&mut self, address: Ipv4Addr) -> Result<(), HostError> {
        let noted = self.log.note(|changes| {
            if !changes.vips.contains(&address) {
                changes.vips.push(address);
            }
        });
        noted.map_err(refused("noting a change"))?;
        with_loopback(|netlink, lo| netlink.add_address(lo, address))
            .map_err(refused(format!("adding {address} to lo")))
    }

    fn mount_bpffs(&mut self) -> Result<(), HostError> {
        let action = format!("mounting {}", mounts::BPFFS);
        // A second one on top would hide what others pinned; and theirs is not ours to take away.
        if mounts::on_bpffs(Path::new(mounts::BPFFS)) {
            return Err(refused(action)(io::ErrorKind::AlreadyExists.into()));
        }
        self.log.note(|changes| changes.bpffs = true).map_err(refused("noting a change"))?;
        mounts::mount_bpffs().map_err(refused(action))
    }

    fn notrack(&mut self) -> Result<(), HostError> {
        self.log.note(|changes| changes.notrack = true).map_err(refused("noting a change"))?;
        command::output("nft", &["-f", "-"], &notrack_table(&self.vips), NFT_TIMEOUT)
            .map(drop)
            .map_err(refused(format!("making the nftables table {TABLE}")))
    }

    /// Takes VIPs and rules away that an earlier configuration needed and this one does not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn drop_outdated(&mut self) -> Result<(), HostError> {
        let wanted = |address: &Ipv4Addr| self.vips.iter().any(|vip| vip.address == *address);
        let outdated: Vec<Ipv4Addr> =
            self.log.changes().vips.iter().copied().filter(|address| !wanted(address)).collect();
        for address in outdated {
            remove_vip(address)?;
            self.log
                .note(|changes| changes.vips.retain(|kept| *kept != address))
                .map_err(refused("noting a change"))?;
        }
        if self.log.changes().notrack {
            self.notrack()?; // made anew for the VIPs of now
        }
        Ok(())
    }

    /// Changes everything back, as far as nobody else changed it since, and forgets it. Goes on after a failure; the
    /// first one is returned, and then nothing is forgotten.
    ///
    /// # Errors
    /// The kernel or a tool refuses.
    pub fn restore(self) -> Result<(), HostError> {
        let changes = self.log.changes();
        let mut results = Vec::new();
        if changes.notrack {
            // Adding first makes deleting succeed where it is already gone.
            let text = format!("add table ip {TABLE}\ndelete table ip {TABLE}\n");
            results.push(
                command::output("nft", &["-f", "-"], &text, NFT_TIMEOUT)
                    .map(drop)
                    .map_err(refused(format!("deleting the nftables table {TABLE}"))),
            );
        }
        results.extend(changes.vips.iter().copied().map(remove_vip));
        results.extend(changes.sysctls.iter().map(|change| {
            let now = read_sysctl(&change.name);
            match now {
                // The interface went away, and its settings with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Ok(now) if now == change.was => Ok(()),
                Ok(now) if now != change.set => {
                    tracing::warn!(name = change.name, now, "somebody else changed this setting; it stays");
                    Ok(())
                }
                _ => write_sysctl(&change.name, change.was)
                    .map_err(refused(format!("setting {} back to {}", change.name, change.was))),
            }
        }));
        if changes.bpffs && !mounts::bpffs_in_use() {
            results.push(mounts::unmount_bpffs().map_err(refused(format!("unmounting {}", mounts::BPFFS))));
        }
        results.into_iter().collect::<Result<(), _>>()?;
        self.log.remove().map_err(refused("removing the state directory"))
    }
}

/// The ICMP errors that quote the packet they speak of, in nft's words.
const ICMP_ERRORS: &str = "{ destination-unreachable, time-exceeded, parameter-problem }";

fn notrack_table(vips: &[Endpoint]) -> String {
    use std::fmt::Write as _;
    let mut text = format!("add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n");
    // Clients on this host, the health probe among them, send to the VIP by way of `output`: tracked in one direction
    // only, they would look as if they had begun without SYN, and the rule in question would drop their RSTs.
    for (chain, sides) in
        [("prerouting", &[("daddr", "dport")][..]), ("output", &[("saddr", "sport"), ("daddr", "dport")])]
    {
        let _ = writeln!(text, "chain {chain} {{\ntype filter hook {chain} priority raw; policy accept;");
        for Endpoint { address, port } in vips {
            for (address_field, port_field) in sides {
                let _ = writeln!(text, "ip {address_field} {address} tcp {port_field} {port} notrack");
            }
            // An error about a packet that is not tracked looks invalid, and many a firewall drops what does.
            if chain == "prerouting" {
                let _ = writeln!(text, "ip daddr {address} icmp type {ICMP_ERRORS} notrack");
            }
        }
        text.push_str("}\n");
    }
    text.push_str("}\n");
    text
}

fn remove_vip(address: Ipv4Addr) -> Result<(), HostError> {
    match with_loopback(|netlink, lo| netlink.delete_address(lo, address)) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(()),
        result => result.map_err(refused(format!("removing {address} from lo"))),
    }
}

fn with_loopback(change: impl FnOnce(&Netlink, u32) -> io::Result<()>) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let lo = netlink.interface("lo")?.ok_or(io::ErrorKind::NotFound)?;
    change(&netlink, lo.index)
}

fn sysctl_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

fn read_sysctl(name: &str) -> io::Result<i64> {
    fs::read_to_string(sysctl_path(name))?.trim().parse().map_err(io::Error::other)
}

fn write_sysctl(name: &str, value: i64) -> io::Result<()> {
    fs::write(sysctl_path(name), value.to_string())
}
