//! Looks whether servers that failed, or were never tried, answer.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Shared;
use super::forward::dial;

/// Probes as long as it is polled.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        sleep(shared.options.probe_interval).await;
        let doubtful = shared.servers.lock().doubtful();
        let mut probes = JoinSet::new();
        // As many as there are servers, which is bounded.
        for address in doubtful {
            let within = shared.options.dial_timeout;
            probes.spawn(async move { (dial(&address, within).await.map(drop), address) });
        }
        while let Some(probed) = probes.join_next().await {
            match probed {
                Ok((Ok(()), address)) => shared.servers.lock().answered(&address),
                Ok((Err(error), address)) => shared.servers.lock().failed(&address, error.to_string()),
                Err(error) => tracing::error!(%error, "a probe of a server ended"),
            }
        }
    }
}
