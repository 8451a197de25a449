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

use super::super::agents::ACCEPT_PAUSE;

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
