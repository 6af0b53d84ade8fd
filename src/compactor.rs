//! `--auto-compaction-mode`: forgets history on its own, while this member
//! leads.
//!
//! Decisions are in [`Compactor`], which does no I/O; [`run`] feeds it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use skiff_store::pb::etcdserverpb::CompactionRequest;
use skiff_store::{ApiError, Error, Store, StoreExt};
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::AutoCompaction;
use crate::serve::Stop;

/// Interval of looking, where revisions are counted.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Longest time between two compactions, where time is counted.
const MAX_PERIOD: Duration = Duration::from_secs(60 * 60);
/// Samples of the revision in one period.
const SAMPLES: u32 = 10;

/// Decides what to compact, from the revisions it is shown.
struct Compactor {
    mode: AutoCompaction,
    /// Revisions seen, oldest first.
    seen: VecDeque<(Instant, i64)>,
    last: Option<(Instant, i64)>,
}

impl Compactor {
    fn new(mode: AutoCompaction) -> Compactor {
        Compactor { mode, seen: VecDeque::new(), last: None }
    }

    /// Time between two looks.
    fn interval(&self) -> Duration {
        match self.mode {
            AutoCompaction::Periodic(keep) => {
                (keep.min(MAX_PERIOD) / SAMPLES).max(Duration::from_millis(100))
            }
            _ => REVISION_INTERVAL,
        }
    }

    /// The revision to compact at now, if any.
    fn look(&mut self, now: Instant, revision: i64) -> Option<i64> {
        match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Revision(keep) => self.fresh(now, revision.saturating_sub(keep)),
            AutoCompaction::Periodic(keep) => {
                self.seen.push_back((now, revision));
                let mut old = None;
                while self.seen.front().is_some_and(|(at, _)| now.duration_since(*at) >= keep) {
                    old = self.seen.pop_front();
                }
                let (at, target) = old?;
                if self.last.is_some_and(|(last, _)| now.duration_since(last) < keep.min(MAX_PERIOD)) {
                    // Not due yet: it is still the newest that is old enough.
                    self.seen.push_front((at, target));
                    return None;
                }
                self.fresh(now, target)
            }
        }
    }

    fn fresh(&mut self, now: Instant, target: i64) -> Option<i64> {
        if target <= 0 || self.last.is_some_and(|(_, last)| target <= last) {
            return None;
        }
        self.last = Some((now, target));
        Some(target)
    }
}

/// Compacts on its own until the word to stop.
pub(crate) async fn run(store: Arc<dyn Store>, mode: AutoCompaction, mut stop: Stop) {
    if mode == AutoCompaction::Off {
        return;
    }
    let mut compactor = Compactor::new(mode);
    let mut ticks = tokio::time::interval(compactor.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.wait() => return,
            _ = ticks.tick() => {}
        }
        let status = store.status();
        let Some(revision) = compactor.look(Instant::now(), status.revision) else { continue };
        if status.leader != status.member_id {
            continue; // the leader does it for all
        }
        match store.compact(CompactionRequest { revision, physical: false }).await {
            Ok(_) => tracing::info!(revision, "compacted on its own"),
            Err(Error::Api(ApiError::Compacted)) => {}
            Err(error) => {
                tracing::warn!(%error, revision, "cannot compact on its own; the next interval tries again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn periodic_keeps_what_was_current_within_the_time() {
        let mut compactor = Compactor::new(AutoCompaction::Periodic(minutes(10)));
        assert_eq!(compactor.interval(), minutes(1));
        let start = Instant::now();
        let mut done = Vec::new();
        for minute in 0..=35u64 {
            // Revision 100 a minute.
            let revision = i64::try_from(minute * 100).unwrap() + 1;
            if let Some(target) = compactor.look(start + minutes(minute), revision) {
                done.push((minute, target));
            }
        }
        assert_eq!(done, [(10, 1), (20, 1001), (30, 2001)]);
    }

    #[test]
    fn long_retention_compacts_hourly() {
        let mut compactor = Compactor::new(AutoCompaction::Periodic(minutes(180)));
        let start = Instant::now();
        let mut done = Vec::new();
        for step in 0..=50u64 {
            let revision = i64::try_from(step).unwrap() + 1;
            if let Some(target) = compactor.look(start + minutes(6 * step), revision) {
                done.push((6 * step, target));
            }
        }
        assert_eq!(done, [(180, 1), (240, 11), (300, 21)]);
    }

    #[test]
    fn revision_mode_keeps_a_number_and_repeats_nothing() {
        let mut compactor = Compactor::new(AutoCompaction::Revision(1000));
        let now = Instant::now();
        assert_eq!(compactor.look(now, 900), None);
        assert_eq!(compactor.look(now, 1500), Some(500));
        assert_eq!(compactor.look(now, 1500), None);
        assert_eq!(compactor.look(now, 1501), Some(501));
    }
}
