//! Asking the switch.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handoff_proto::admin::{Request, Response};
use handoff_proto::codec::{CodecError, Decoder, encode};
use thiserror::Error;

/// How long the switch may take for each part of an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum AskFault {
    /// No socket.
    #[error(
        "there is no socket {}. Is baton-switch running on this host? If it has another admin_socket in switch.toml, \
         name that with --socket PATH",
        .0.display()
    )]
    NoSocket(PathBuf),
    /// Nobody listens.
    #[error(
        "nobody answers at {}: the switch that made this socket has ended. Start baton-switch; it replaces the socket",
        .0.display()
    )]
    NobodyThere(PathBuf),
    /// Not ours to ask.
    #[error(
        "no permission to use {}: ask as root, or as the user that runs baton-switch",
        .0.display()
    )]
    NotAllowed(PathBuf),
    /// It takes too long.
    #[error("the switch took more than {} s to answer; is it stopped or overloaded?", ANSWER_MAX.as_secs())]
    TooLate,
    /// It closed the connection.
    #[error("the switch closed the connection without an answer")]
    NoAnswer,
    /// Something else with the socket.
    #[error("{}: {error}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The answer cannot be read.
    #[error("{0}; are switch and batonctl of the same release?")]
    Codec(#[from] CodecError),
}

/// Asks the switch whose admin socket is `path`.
///
/// # Errors
/// See [`AskFault`].
pub(crate) fn ask(path: &Path, request: &Request) -> Result<Response, AskFault> {
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => AskFault::NoSocket(path.to_owned()),
        io::ErrorKind::ConnectionRefused => AskFault::NobodyThere(path.to_owned()),
        io::ErrorKind::PermissionDenied => AskFault::NotAllowed(path.to_owned()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AskFault::TooLate,
        _ => AskFault::System { path: path.to_owned(), error },
    };
    let mut stream = UnixStream::connect(path).map_err(fault)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(fault)?;
    stream.set_write_timeout(Some(ANSWER_MAX)).map_err(fault)?;
    stream.write_all(&encode(request)?).map_err(fault)?;
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = stream.read(&mut buffer).map_err(fault)?;
        if count == 0 {
            return Err(AskFault::NoAnswer);
        }
        decoder.feed(buffer.get(..count).unwrap_or_default());
        if let Some(response) = decoder.take()? {
            return Ok(response);
        }
    }
}
