//! What a server does by itself while it runs: certificates are renewed, the
//! servers' secrets followed, ended tokens deleted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skiff_control_plane::supervisor::{Supervisor, write_files};
use skiff_control_plane::token::bootstrap;

use crate::serve::Stop;

/// Pause between two looks at the secrets, which another server may replace.
const SECRETS_PAUSE: Duration = Duration::from_secs(5);
/// Pause between two looks at the certificates and the tokens.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Follows the servers' secrets.
pub(super) async fn secrets(supervisor: Arc<Supervisor>, mut stop: Stop) {
    loop {
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(SECRETS_PAUSE) => {}
        }
        match supervisor.secrets.refresh().await {
            Ok(true) => {
                tracing::info!("the servers' token was replaced by another server; server/token is renewed");
                let current = supervisor.secrets.current();
                if let Err(problem) = write_files(&supervisor.layout, &supervisor.pki, &current) {
                    tracing::warn!(problem, "cannot write the new token down");
                }
            }
            Ok(false) => {}
            Err(problem) => tracing::debug!(problem, "cannot look at the servers' secrets"),
        }
    }
}

/// Renews certificates well before they end, and deletes ended tokens.
pub(super) async fn renewal(supervisor: Arc<Supervisor>, mut stop: Stop) {
    loop {
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(RENEWAL_PAUSE) => {}
        }
        let now = SystemTime::now();
        let pki = supervisor.pki.clone();
        match tokio::task::spawn_blocking(move || pki.ensure_leaves(now)).await {
            Ok(Ok(renewed)) if renewed.is_empty() => {}
            Ok(Ok(renewed)) => tracing::info!(renewed = renewed.join(","), "certificates were renewed"),
            Ok(Err(problem)) => {
                tracing::warn!(problem, "cannot renew certificates; it is tried again in an hour")
            }
            Err(error) => tracing::warn!(%error, "cannot renew certificates"),
        }
        match bootstrap::sweep(&supervisor.records, now).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "tokens have ended and were deleted"),
            Err(problem) => tracing::debug!(problem, "cannot delete ended tokens"),
        }
    }
}
