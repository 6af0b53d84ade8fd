//! `--compact-interval`: forgets history on its own, for clients that do not.

use std::sync::Arc;
use std::time::Duration;

use skiff_store::pb::etcdserverpb::CompactionRequest;
use skiff_store::{ApiError, Error, Store, StoreExt};

use crate::cli::Settings;
use crate::serve::Stop;

/// When to compact, and what to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    interval: Duration,
    /// Percent by which the interval varies.
    jitter: u32,
    /// Revisions to keep.
    retain: i64,
}

impl Plan {
    /// Reads the flags; `None` where compactions are left to the clients.
    ///
    /// # Errors
    /// A sentence, naming the flag.
    pub(super) fn from_settings(settings: &Settings) -> Result<Option<Plan>, String> {
        let jitter = u32::try_from(settings.int("compact-interval-jitter"))
            .ok()
            .filter(|percent| *percent < 100)
            .ok_or("--compact-interval-jitter must be 0 to 99")?;
        let retain = settings.int("compact-min-retain");
        if retain < 0 {
            return Err("--compact-min-retain must not be below zero".to_owned());
        }
        let interval = settings.duration("compact-interval");
        Ok((!interval.is_zero()).then_some(Plan { interval, jitter, retain }))
    }

    /// The time to the next compaction; `chance` is 0 to 1.
    fn pause(self, chance: f64) -> Duration {
        let percent = 100.0 + f64::from(self.jitter) * (2.0 * chance - 1.0);
        self.interval.mul_f64(percent / 100.0)
    }
}

/// Compacts by the plan until the word to stop.
pub(super) async fn run(store: Arc<dyn Store>, plan: Plan, mut stop: Stop) {
    loop {
        tokio::select! {
            () = stop.wait() => return,
            () = tokio::time::sleep(plan.pause(rand::random())) => {}
        }
        let status = store.status();
        let target = status.revision.saturating_sub(plan.retain);
        if target <= status.compact_revision {
            continue;
        }
        match store.compact(CompactionRequest { revision: target, physical: false }).await {
            Ok(_) => tracing::info!(revision = target, "compacted"),
            // Somebody else did it.
            Err(Error::Api(ApiError::Compacted)) => {}
            Err(error) => tracing::warn!(revision = target, %error, "cannot compact; it is tried again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_varies_by_its_percentage() {
        let plan = Plan { interval: Duration::from_secs(100), jitter: 10, retain: 0 };
        assert_eq!(plan.pause(0.0), Duration::from_secs(90));
        assert_eq!(plan.pause(0.5), Duration::from_secs(100));
        assert_eq!(plan.pause(1.0), Duration::from_secs(110));
    }
}
