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

    /// The revision to compact at now, if any: again and again until it is
    /// [`Compactor::done`].
    fn look(&mut self, now: Instant, revision: i64) -> Option<i64> {
        match self.mode {
            AutoCompaction::Off => None,
            AutoCompaction::Revision(keep) => self.fresh(revision.saturating_sub(keep)),
            AutoCompaction::Periodic(keep) => {
                self.seen.push_back((now, revision));
                let mut old = None;
                while self.seen.front().is_some_and(|(at, _)| now.duration_since(*at) >= keep) {
                    old = self.seen.pop_front();
                }
                let (at, target) = old?;
                // It stays the newest that is old enough, until another one is.
                self.seen.push_front((at, target));
                if self.last.is_some_and(|(last, _)| now.duration_since(last) < keep.min(MAX_PERIOD)) {
                    return None;
                }
                self.fresh(target)
            }
        }
    }

    fn fresh(&self, target: i64) -> Option<i64> {
        (target > 0 && self.last.is_none_or(|(_, last)| target > last)).then_some(target)
    }

    /// Notes that it was compacted at a revision, by whoever led.
    fn done(&mut self, now: Instant, target: i64) {
        self.last = Some((now, target));
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
        step(&mut compactor, store.as_ref(), Instant::now()).await;
    }
}

/// One look, and what comes of it.
async fn step(compactor: &mut Compactor, store: &dyn Store, now: Instant) {
    let status = store.status();
    let Some(revision) = compactor.look(now, status.revision) else { return };
    if status.compact_revision >= revision {
        return compactor.done(now, revision);
    }
    if status.leader != status.member_id {
        // The leader does it for all; this member will, should it come to lead before that.
        return;
    }
    match store.compact(CompactionRequest { revision, physical: false }).await {
        Ok(_) => {
            tracing::info!(revision, "compacted on its own");
            compactor.done(now, revision);
        }
        Err(Error::Api(ApiError::Compacted)) => compactor.done(now, revision),
        Err(error) => {
            tracing::warn!(%error, revision, "cannot compact on its own; the next interval tries again");
        }
    }
}

#[cfg(test)]
mod tests {
    use skiff_store::clock::ManualClock;
    use skiff_store::engine::mem::MemEngine;
    use skiff_store::local::{LocalConfig, LocalStore};
    use skiff_store::pb::etcdserverpb::PutRequest;

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
                compactor.done(start + minutes(minute), target);
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
                compactor.done(start + minutes(6 * step), target);
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
        compactor.done(now, 500);
        assert_eq!(compactor.look(now, 1500), None);
        assert_eq!(compactor.look(now, 1501), Some(501));
    }

    /// A member that did not lead when it was due once took it for done.
    #[test]
    fn what_nobody_compacted_stays_due() {
        let mut compactor = Compactor::new(AutoCompaction::Revision(1000));
        let now = Instant::now();
        assert_eq!(compactor.look(now, 1500), Some(500));
        assert_eq!(compactor.look(now, 1500), Some(500));
        let mut compactor = Compactor::new(AutoCompaction::Periodic(minutes(10)));
        for minute in 0..10 {
            assert_eq!(compactor.look(now + minutes(minute), 100 * minute as i64 + 1), None);
        }
        assert_eq!(compactor.look(now + minutes(10), 1001), Some(1));
        assert_eq!(compactor.look(now + minutes(11), 1101), Some(101));
        compactor.done(now + minutes(11), 101);
        assert_eq!(compactor.look(now + minutes(12), 1201), None);
    }

    fn open(engine: &Arc<MemEngine>) -> Arc<dyn Store> {
        let config = LocalConfig { flush: false, ..LocalConfig::default() };
        LocalStore::open(engine.clone(), config, Arc::new(ManualClock::default())).unwrap()
    }

    async fn put(store: &Arc<dyn Store>, count: usize) -> i64 {
        let mut revision = 0;
        for _ in 0..count {
            let request = PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
            revision = store.put(request).await.unwrap().header.unwrap().revision;
        }
        revision
    }

    /// A new compactor, as after a restart, and so many of its looks.
    async fn looks(store: &Arc<dyn Store>, mode: AutoCompaction, count: u32) {
        let mut compactor = Compactor::new(mode);
        let start = Instant::now();
        for number in 0..count {
            let now = start + compactor.interval() * number;
            step(&mut compactor, store.as_ref(), now).await;
        }
    }

    #[tokio::test]
    async fn compacts_again_after_a_restart() {
        let engine = Arc::new(MemEngine::new());
        let store = open(&engine);
        assert_eq!(put(&store, 30).await, 31);
        looks(&store, AutoCompaction::Revision(10), 2).await;
        assert_eq!(store.status().compact_revision, 21);
        drop(store);
        // The next process starts from what the store knows.
        let store = open(&engine);
        looks(&store, AutoCompaction::Revision(10), 2).await;
        assert_eq!(store.status().compact_revision, 21);
        assert_eq!(put(&store, 5).await, 36);
        looks(&store, AutoCompaction::Revision(10), 2).await;
        assert_eq!(store.status().compact_revision, 26);
        // By time it needs a whole period of its own first: what was current when is not kept.
        looks(&store, AutoCompaction::Periodic(minutes(10)), 10).await;
        assert_eq!(store.status().compact_revision, 26);
        looks(&store, AutoCompaction::Periodic(minutes(10)), 11).await;
        assert_eq!(store.status().compact_revision, 36);
    }
}
