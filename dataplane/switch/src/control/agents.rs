//! Agents' connections: the sockets around [`Session`].

use core::net::SocketAddr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use handoff_proto::control::SILENCE_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::lifecycle::SessionId;
use super::session::{End, Session};
use super::shared::Shared;

/// How many connections may be open that have not authenticated and said hello. Further ones are closed at once.
pub const UNAUTHENTICATED_COUNT_MAX: usize = 64;
/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;
/// How long to wait after the system could not give a connection, whoever's it is (too many open files, say).
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a peer may take to read an answer.
const WRITE_MAX: Duration = Duration::from_micros(SILENCE_MAX.0);

/// Takes agents' connections until dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let newcomers = Arc::new(Semaphore::new(UNAUTHENTICATED_COUNT_MAX));
    let ids = AtomicU64::new(0);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot take agents' connections");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&newcomers).try_acquire_owned() else {
            shared.counters.crowded.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let id = SessionId(ids.fetch_add(1, Ordering::Relaxed));
        tokio::spawn(attend(stream, peer, id, permit, Arc::clone(&shared)));
    }
}

/// Carries bytes between one agent and its session until either ends.
async fn attend(
    mut stream: TcpStream,
    peer: SocketAddr,
    id: SessionId,
    permit: OwnedSemaphorePermit,
    shared: Arc<Shared>,
) {
    let mut permit = Some(permit);
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let clock = *shared.clock();
    let mut session =
        Session::accept(id, shared.catalog().keys.clone(), shared.identity.address, clock.now());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let deadline = Instant::from_std(clock.instant_of(session.deadline()));
        // What has arrived is read even where the deadline has passed: a busy host is no silent one.
        let outcome = match timeout_at(deadline, stream.read(&mut buffer)).await {
            Err(_) => {
                let end = shared.with_roster(|roster| session.overdue(clock.now(), roster));
                return tell(&shared, peer, &end);
            }
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(outcome) => outcome,
        };
        let count = match outcome {
            Ok(count) => count,
            Err(error) => {
                shared.with_roster(|roster| session.closed(clock.now(), roster));
                return debug!(%peer, %error, "an agent's connection ended");
            }
        };
        let mut out = Vec::new();
        let bytes = buffer.get(..count).unwrap_or_default();
        let step = shared.with_roster(|roster| session.receive(bytes, clock.now(), roster, &mut out));
        let written = timeout(WRITE_MAX, stream.write_all(&out)).await;
        if let Err(end) = step {
            return tell(&shared, peer, &end);
        }
        if !matches!(written, Ok(Ok(()))) {
            shared.with_roster(|roster| session.closed(clock.now(), roster));
            return debug!(%peer, "an agent does not read what it is told");
        }
        if session.is_member() && permit.take().is_some() {
            shared.counters.welcomed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Tells of a connection's end: a fault of the agent's, or what the roster has told already.
fn tell(shared: &Shared, peer: SocketAddr, end: &End) {
    match end {
        End::Superseded | End::Silent | End::Left => debug!(%peer, "an agent's connection ended: {end}"),
        End::Channel(_) | End::Turned(_) | End::Slow | End::OutOfTurn(_) => shared.refused(peer.ip(), end),
    }
}
