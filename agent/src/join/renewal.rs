//! Renews certificates long before their end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::{Identity, Kind};
use crate::backoff::Backoff;

/// The clock may be set meanwhile: it is looked at this often at least.
const LOOK_AT_LEAST: Duration = Duration::from_secs(60 * 60);
/// Pauses after failures. A third of a certificate's life is left for them.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(15 * 60));

impl Identity {
    /// Renews certificates, and follows a change of authorities, as long as it is polled.
    pub async fn keep_renewed(self: Arc<Self>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let now = SystemTime::now();
            let due: Vec<Kind> = self.renewals().filter(|(_, at)| *at <= now).map(|(kind, _)| kind).collect();
            let mut failed = false;
            if let Err(error) = self.refresh_authorities().await {
                failed = !due.is_empty();
                tracing::warn!(%error, "cannot ask for the cluster's authorities");
            }
            for kind in due {
                match self.renew(kind).await {
                    Ok(()) => tracing::info!(certificate = kind.name(), "renewed a certificate"),
                    Err(error) => {
                        failed = true;
                        tracing::warn!(certificate = kind.name(), %error, "cannot renew a certificate; trying again");
                    }
                }
            }
            if failed {
                sleep(backoff.pause()).await;
                continue;
            }
            backoff.reset();
            let next = self.renewals().map(|(_, at)| at).min().unwrap_or(now + LOOK_AT_LEAST);
            let wait = next.duration_since(SystemTime::now()).unwrap_or_default();
            sleep(wait.min(LOOK_AT_LEAST)).await;
        }
    }
}
