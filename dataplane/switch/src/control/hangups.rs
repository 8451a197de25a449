//! SIGHUP: the configuration file is read again, as daemons do.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task;
use tracing::warn;

use super::reload::Order;
use super::shared::Shared;

/// Reloads whenever the signal comes, until dropped. What comes of it is in the log.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            warn!(%error, "SIGHUP will not reload the configuration");
            return std::future::pending().await;
        }
    };
    while hangups.recv().await.is_some() {
        let shared = Arc::clone(&shared);
        // Agents must be heard meanwhile.
        if let Err(error) = task::spawn_blocking(move || drop(shared.carry_out(&Order::Reload))).await {
            warn!(%error, "the reload ended early");
        }
    }
    std::future::pending().await
}
