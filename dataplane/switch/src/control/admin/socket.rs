//! The socket file of the admin API.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;
use tokio::net::UnixListener;
use tracing::warn;

/// How many may wait to be taken.
const BACKLOG: i32 = 16;

/// Why there is no admin socket.
#[derive(Debug, Error)]
pub enum SocketFault {
    /// The operating system refused.
    #[error("control.admin_socket = {path:?}: {what}")]
    System {
        /// The socket's path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
    /// Something that is no socket has this path.
    #[error(
        "control.admin_socket = {0:?}: something that is no socket is there; move it away or choose another path"
    )]
    Occupied(PathBuf),
    /// Somebody answers there.
    #[error("control.admin_socket = {0:?}: another switch answers there; stop it or choose another path")]
    InUse(PathBuf),
}

/// The socket file; removed when dropped, if it is still ours.
#[derive(Debug)]
pub struct AdminSocket {
    listener: StdUnixListener,
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl AdminSocket {
    /// Makes the socket, mode 0600, and the directory it is in, if there is none. A socket left over by a process that died
    /// is replaced.
    ///
    /// # Errors
    /// See [`SocketFault`].
    pub fn bind(path: &Path) -> Result<Self, SocketFault> {
        let fault = |what| move |source| SocketFault::System { path: path.to_owned(), what, source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(fault("cannot make its directory"))?;
        }
        remove_stale(path)?;
        let listener = private_listener(path).map_err(|error| fault("cannot make it")(error.into()))?;
        let metadata = fs::symlink_metadata(path).map_err(fault("cannot look at it"))?;
        Ok(Self { listener, path: path.to_owned(), file: (metadata.dev(), metadata.ino()) })
    }

    /// Returns a listener for the control thread.
    pub(in crate::control) fn listener(&self) -> io::Result<UnixListener> {
        UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "cannot remove the admin socket");
        }
    }
}

/// Binds a socket that has mode 0600 from its first moment on: Linux gives the file the mode of the unbound socket.
fn private_listener(path: &Path) -> Result<StdUnixListener, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn remove_stale(path: &Path) -> Result<(), SocketFault> {
    let fault = |what| move |source| SocketFault::System { path: path.to_owned(), what, source };
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(fault("cannot look at it"))?,
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketFault::Occupied(path.to_owned()));
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(SocketFault::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(fault("cannot remove the one left over"))
        }
        Err(error) => Err(fault("cannot tell whether another switch uses it")(error)),
    }
}
