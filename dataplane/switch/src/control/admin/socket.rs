//! The admin socket: one request, one answer, any number of times.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use handoff_proto::admin::{Request, Response};
use handoff_proto::codec::{CodecError, Decoder, encode};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::agents::ACCEPT_PAUSE;
use super::answers;
use super::shared::Shared;

/// How many operators may be connected; further ones wait.
const CONNECTION_COUNT_MAX: usize = 8;
/// How many may wait to be taken.
const BACKLOG: i32 = 16;
/// How long a connection may be idle or take to read an answer.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Bytes read at a time.
const READ_BYTES: usize = 4 << 10;
/// Requests are small; more than this without a complete one is none.
const REQUEST_BYTES_MAX: usize = 4 << 10;

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
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
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

/// Answers operators until dropped.
pub(super) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let seats = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(fault) = attend(stream, &shared).await {
                        debug!("an operator's connection ended: {fault}");
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                warn!(%error, "cannot take operators' connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Why an operator's connection ended.
#[derive(Debug, Error)]
enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("idle for {} s", IDLE_MAX.as_secs())]
    Idle(#[from] tokio::time::error::Elapsed),
    #[error("a request longer than {REQUEST_BYTES_MAX} bytes")]
    TooLong,
}

async fn attend(mut stream: UnixStream, shared: &Shared) -> Result<(), Fault> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut unfinished_bytes = 0;
    loop {
        let count = timeout(IDLE_MAX, stream.read(&mut buffer)).await??;
        if count == 0 {
            return Ok(());
        }
        decoder.feed(buffer.get(..count).unwrap_or_default());
        unfinished_bytes += count;
        loop {
            let response = match decoder.take::<Request>() {
                Ok(None) => break,
                Ok(Some(request)) => answers::answer(shared, request).await,
                Err(fault) => {
                    let told =
                        Response::Error(format!("the switch does not understand this request: {fault}"));
                    timeout(IDLE_MAX, stream.write_all(&encode(&told)?)).await??;
                    return Err(fault.into());
                }
            };
            unfinished_bytes = 0;
            timeout(IDLE_MAX, stream.write_all(&framed(&response)?)).await??;
        }
        if unfinished_bytes > REQUEST_BYTES_MAX {
            return Err(Fault::TooLong);
        }
    }
}

/// Frames an answer; where it is too long for a frame, the operator hears that instead of nothing.
fn framed(response: &Response) -> Result<Vec<u8>, CodecError> {
    match encode(response) {
        Err(fault @ CodecError::TooLong(_)) => {
            encode(&Response::Error(format!("the answer does not fit a message: {fault}")))
        }
        framed => framed,
    }
}

#[cfg(test)]
mod tests {
    use handoff_proto::codec::MESSAGE_BYTES_MAX;

    use super::*;

    #[test]
    fn an_answer_too_long_for_a_frame_becomes_one_that_says_so() {
        let long = Response::Error("x".repeat(MESSAGE_BYTES_MAX));
        let mut decoder = Decoder::default();
        decoder.feed(&framed(&long).expect("a short answer"));
        let told = decoder.take::<Response>().expect("a frame").expect("whole");
        let Response::Error(why) = told else { panic!("{told:?}") };
        assert!(why.starts_with("the answer does not fit a message: "), "{why}");
    }
}
