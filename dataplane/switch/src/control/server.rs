//! The control thread.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::error;

use super::admin::{self, AdminSocket};
use super::agents;
use super::conflicts;
use super::hangups;
use super::shared::Shared;
use super::troubles;
use crate::metrics::{self, Scrape};

/// The sockets control listens on, bound but not served yet: agents and scrapers that come early wait.
#[derive(Debug)]
pub struct Listeners {
    /// For agents.
    pub agents: StdTcpListener,
    /// For scrapers of `/metrics`.
    pub metrics: StdTcpListener,
    /// For operators.
    pub admin: AdminSocket,
}

/// An address control should listen on cannot be used.
#[derive(Debug, Error)]
#[error("control.{key} = \"{address}\": cannot listen there")]
pub struct BindFault {
    key: &'static str,
    address: core::net::SocketAddr,
    source: io::Error,
}

/// Binds the address of `control.<key>`.
///
/// # Errors
/// The address is in use or not this host's.
pub fn bind(key: &'static str, address: core::net::SocketAddr) -> Result<StdTcpListener, BindFault> {
    let bound = StdTcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| BindFault { key, address, source })
}

/// The running control thread.
#[derive(Debug)]
pub struct Control {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    /// Starts serving.
    ///
    /// # Errors
    /// The system gives no thread, or no readiness queue.
    pub fn start(listeners: Listeners, shared: Arc<Shared>, scrape: Scrape) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let Listeners { agents, metrics, admin } = listeners;
        let context = runtime.enter();
        let (agents, metrics) = (TcpListener::from_std(agents)?, TcpListener::from_std(metrics)?);
        let operators = admin.listener()?;
        drop(context);
        let (stop, stopped) = oneshot::channel::<()>();
        let watched = Arc::clone(&shared);
        let api = admin::api(&shared);
        shared.started();
        let serving = async move {
            tokio::select! {
                () = agents::serve(agents, shared) => {}
                () = admin::serve(operators, api) => {}
                () = metrics::serve(metrics, scrape) => {}
                () = conflicts::watch(&watched) => {}
                () = troubles::watch(&watched) => {}
                () = hangups::follow(Arc::clone(&watched)) => {}
                // Dropping the sender is the order to stop.
                _ = stopped => {}
            }
        };
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(serving);
            // Gone before the socket file is.
            drop(runtime);
            drop(admin);
        })?;
        Ok(Self { stop, thread })
    }

    /// Stops serving, closes every connection and removes the admin socket.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            error!("the control thread panicked");
        }
    }
}
