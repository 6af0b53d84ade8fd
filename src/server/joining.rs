//! Joins a running cluster, and tries again as long as it may go later.

use std::time::Duration;

use skiff_control_plane::join::{Join, JoinError, Joined, ServerUrl, fetch_bundle, join};
use skiff_control_plane::supervisor::MemberRequest;
use skiff_token::Token;

use super::config::Config;

/// Pauses between attempts: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Joins the cluster of a server.
///
/// # Errors
/// A sentence: it cannot be, as things are.
pub(super) async fn run(
    config: &Config,
    server: &ServerUrl,
    token: &Token,
    member: MemberRequest,
) -> Result<Joined, String> {
    tracing::info!(%server, "joining a cluster");
    let wanted = Join { server, token, settings: &config.settings, member };
    until_decided(async || join(&wanted).await).await
}

/// Fetches the files that servers share, for one that has lost its own.
///
/// # Errors
/// As [`run`].
pub(super) async fn restore(server: &ServerUrl, token: &Token, tls: &std::path::Path) -> Result<(), String> {
    tracing::warn!(%server, "the authorities are missing here and are fetched from another server");
    let bundle = until_decided(async || fetch_bundle(server, token).await).await?;
    bundle.write(tls).map(drop)
}

async fn until_decided<T>(attempt: impl AsyncFn() -> Result<T, JoinError>) -> Result<T, String> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(JoinError::Refused(problem)) => return Err(problem),
            Err(JoinError::Later(problem)) => {
                tracing::warn!(problem, retry_ms = pause.as_millis() as u64, "cannot join yet; trying again");
            }
        }
        // Some chance in it, so that many that join together spread.
        let spread = rand::random_range(0.75..1.25);
        tokio::time::sleep(pause.mul_f64(spread)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
