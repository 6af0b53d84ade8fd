//! What the applier tells the rest of the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use skiff_store::mvcc::Mvcc;
use tokio::sync::{Notify, watch};

use crate::types::{LogId, StoredMembership};

/// State shared between the applier, which writes it, and the node.
pub struct Shared {
    /// The state machine.
    pub mvcc: Arc<Mvcc>,
    applied: watch::Sender<Option<LogId>>,
    membership: watch::Sender<Arc<StoredMembership>>,
    /// What is durable in the state: the log below may go.
    durable: RwLock<(Option<LogId>, Arc<StoredMembership>)>,
    /// Bytes of commands and entries applied since the last flush was asked for.
    unflushed: (AtomicU64, AtomicU64),
    /// Woken when a compaction was applied.
    pub compaction: Notify,
    /// Woken when enough was applied to be worth a flush.
    pub flush: Notify,
    flush_at: (u64, u64),
    /// The engine cannot write, as on a full disk; the applier tries again.
    stuck: AtomicBool,
}

impl Shared {
    /// Starts at a position read from the state. `flush_at`: bytes of commands,
    /// and entries (0 for any number), after which a flush is asked for.
    pub fn new(
        mvcc: Arc<Mvcc>,
        applied: Option<LogId>,
        membership: StoredMembership,
        flush_at: (u64, u64),
    ) -> Self {
        let membership = Arc::new(membership);
        Self {
            mvcc,
            applied: watch::Sender::new(applied),
            membership: watch::Sender::new(membership.clone()),
            durable: RwLock::new((applied, membership)),
            unflushed: Default::default(),
            compaction: Notify::new(),
            flush: Notify::new(),
            flush_at,
            stuck: AtomicBool::new(false),
        }
    }

    /// The last applied entry.
    pub fn applied(&self) -> Option<LogId> {
        *self.applied.borrow()
    }

    /// Index of the last applied entry; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied().map_or(0, |at| at.index)
    }

    /// Waits until the entry `index` is applied.
    pub async fn wait_applied(&self, index: u64) {
        let mut applied = self.applied.subscribe();
        // The sender lives as long as self: the wait cannot fail.
        let _ = applied.wait_for(|at| at.is_some_and(|at| at.index >= index)).await;
    }

    /// Waits until this member's state holds everything it ever applied before
    /// it was started, given the last entry its log held then: what is
    /// committed is only known again once the log goes on. An entry of a later
    /// term settles it too, for it comes after all that was committed before.
    pub async fn wait_recovered(&self, tail: LogId) {
        let mut applied = self.applied.subscribe();
        // The sender lives as long as self: the wait cannot fail.
        let _ = applied.wait_for(|at| at.is_some_and(|at| covers(at, tail))).await;
    }

    /// The last applied membership.
    pub fn membership(&self) -> Arc<StoredMembership> {
        self.membership.borrow().clone()
    }

    /// A receiver of applied memberships.
    pub fn watch_membership(&self) -> watch::Receiver<Arc<StoredMembership>> {
        self.membership.subscribe()
    }

    /// The position that survives a crash of the process.
    pub fn durable(&self) -> (Option<LogId>, Arc<StoredMembership>) {
        self.durable.read().clone()
    }

    /// True while the engine cannot write.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    pub(super) fn set_stuck(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
    }

    pub(super) fn set_durable(&self, applied: Option<LogId>, membership: Arc<StoredMembership>) {
        let mut durable = self.durable.write();
        if durable.0 < applied {
            *durable = (applied, membership);
        }
    }

    pub(super) fn set_membership(&self, membership: Arc<StoredMembership>) {
        self.membership.send_replace(membership);
    }

    pub(super) fn set_applied(&self, at: LogId) {
        self.applied.send_replace(Some(at));
    }

    /// Counts what was applied; asks for a flush each time enough came together.
    pub(super) fn count(&self, bytes: u64, entries: u64) {
        let bytes = self.unflushed.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let entries = self.unflushed.1.fetch_add(entries, Ordering::Relaxed) + entries;
        let (most_bytes, most_entries) = self.flush_at;
        if bytes >= most_bytes || (most_entries > 0 && entries >= most_entries) {
            self.unflushed.0.store(0, Ordering::Relaxed);
            self.unflushed.1.store(0, Ordering::Relaxed);
            self.flush.notify_one();
        }
    }
}

/// True where a state at `applied` holds all that was committed in a log that
/// ended with `tail`.
fn covers(applied: LogId, tail: LogId) -> bool {
    applied.index >= tail.index || applied.committed_leader_id().term > tail.committed_leader_id().term
}

#[cfg(test)]
mod tests {
    use super::covers;
    use crate::types::log_id;

    #[test]
    fn a_later_term_or_the_whole_log_covers_what_was_committed() {
        let tail = log_id(3, 10);
        assert!(!covers(log_id(3, 9), tail));
        assert!(covers(log_id(3, 10), tail));
        // The tail was never committed: a new leader's log replaced it.
        assert!(covers(log_id(4, 8), tail));
    }
}
