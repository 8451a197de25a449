//! Operators' connections, bounded in number, head, and patience.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, warn};

use crate::control::ACCEPT_PAUSE;

/// How many operators may be connected, those included that wait for events or capture; further ones wait to be taken.
pub const CONNECTION_COUNT_MAX: usize = 32;
/// How long a connection may take to send a request's head, from the end of the one before on, and how long to take any part of
/// an answer.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
/// Longest request head, in bytes; room for a question with many headers in its query.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// Answers operators until dropped.
pub(in crate::control) async fn serve(listener: UnixListener, api: Router) {
    let seats = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let api = api.clone();
                tokio::spawn(async move {
                    attend(stream, api).await;
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

async fn attend(stream: UnixStream, api: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(api));
    if let Err(error) = connection.await {
        debug!(%error, "an operator's connection ended");
    }
}

/// A stream that fails when the peer takes nothing for [`IDLE_MAX`].
struct Patient {
    stream: UnixStream,
    /// Runs while something waits to be taken.
    until: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Patient {
    fn new(stream: UnixStream) -> Self {
        Self { stream, until: Box::pin(sleep(IDLE_MAX)), is_waiting: false }
    }

    /// Passes on what the stream said of a write, but not for ever that it must wait.
    fn bound<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.is_waiting = false;
            return written;
        }
        if !self.is_waiting {
            self.until.as_mut().reset(Instant::now() + IDLE_MAX);
            self.is_waiting = true;
        }
        self.until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(written, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    /// Nothing here waits for it unless something is broken.
    const GIVE_UP: Duration = Duration::from_secs(1000);
    /// More than a socket's buffers take.
    const LONG: usize = 8 << 20;

    /// Attends to an operator who sends `said` and then does as `client`; returns what that says of it. The clock stands while
    /// anybody has something to do, and leaps to the next timer when nobody has.
    fn attended<T>(said: &str, client: impl AsyncFnOnce(UnixStream) -> T) -> T {
        let runtime =
            Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().expect("sockets");
            let api = Router::new().route("/long", get(|| async { vec![b'x'; LONG] }));
            let attending = tokio::spawn(attend(ours, api));
            theirs.write_all(said.as_bytes()).await.expect("there is room");
            let start = Instant::now();
            let outcome = client(theirs).await;
            timeout(GIVE_UP, attending).await.expect("it does not last for ever").expect("no panic");
            assert!(start.elapsed() >= IDLE_MAX, "hasty");
            outcome
        })
    }

    #[test]
    fn who_says_nothing_or_half_is_not_waited_for() {
        for said in ["", "GET /long HTTP/1.1\r\nhost:", "GET /long HTTP/1.1\r\nhost: x\r\n"] {
            let answer = attended(said, async |mut stream: UnixStream| {
                let mut answer = Vec::new();
                timeout(GIVE_UP, stream.read_to_end(&mut answer)).await.expect("closed").expect("an end");
                answer
            });
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{said:?}");
        }
    }

    #[test]
    fn who_does_not_read_is_not_waited_for() {
        let kept = attended("GET /long HTTP/1.1\r\nhost: x\r\n\r\n", async |stream: UnixStream| stream);
        drop(kept);
    }

    #[test]
    fn who_reads_slowly_gets_all_of_it() {
        let count = attended("GET /long HTTP/1.1\r\nhost: x\r\n\r\n", async |mut stream: UnixStream| {
            let (mut count, mut buffer) = (0, vec![0; 256 << 10]);
            loop {
                match timeout(GIVE_UP, stream.read(&mut buffer)).await.expect("closed").expect("an end") {
                    0 => return count,
                    some => count += some,
                }
                // Altogether much longer than its patience, each time shorter.
                sleep(IDLE_MAX / 10).await;
            }
        });
        assert!(count > LONG, "{count} bytes and a head");
    }
}
