//! Time, behind a seam.
//!
//! Sleeping always goes through tokio, whose time a test or a simulator can
//! pause; reading the time goes through [`Clock`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Reads the time.
pub trait Clock: Send + Sync + 'static {
    /// A time that never goes back.
    fn now(&self) -> Instant;
    /// Time since 1970, as the machine believes. Names things; orders nothing.
    fn since_epoch(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn since_epoch(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
