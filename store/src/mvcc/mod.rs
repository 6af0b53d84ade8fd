//! The state machine: etcd's data model over an [`Engine`].
//!
//! One applier calls [`Mvcc::apply`]; any number of readers call the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::api::{Read, ReadReply, WriteReply};
use crate::engine::Engine;
use crate::error::Result;
use crate::pb::etcdserverpb as pb;
use crate::pb::skiff::v1::{Command, StoredLease};
use crate::watch::{WatchSpec, Watcher};

/// Settings of the state machine. None of them changes what a command does.
#[derive(Debug, Clone)]
pub struct MvccConfig {
    /// Events kept in memory for watchers, in bytes.
    pub watch_history_bytes: usize,
    /// Bytes a watcher may hold before it falls back to reading history.
    pub watcher_queue_bytes: usize,
    /// Revisions visited by one step of compaction.
    pub compaction_batch: usize,
}

impl Default for MvccConfig {
    fn default() -> Self {
        Self { watch_history_bytes: 16 << 20, watcher_queue_bytes: 1 << 20, compaction_batch: 1000 }
    }
}

/// A log entry to apply.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Term of the entry.
    pub term: u64,
    /// Index of the entry.
    pub index: u64,
    /// The log's own record of this position (applied id, membership), stored
    /// in the same atomic batch; opaque here.
    pub position: Bytes,
    /// The commands; none for entries of the log itself.
    pub commands: Vec<Command>,
}

/// A lease's change, for the one who keeps time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease was granted.
    Granted(StoredLease),
    /// A lease was revoked or has expired.
    Revoked(i64),
    /// The remaining time of a lease was recorded.
    Checkpointed(StoredLease),
}

/// The outcome of applying one entry.
#[derive(Debug, Default)]
pub struct EntryOutcome {
    /// One answer a command, in order.
    pub replies: Vec<Result<WriteReply>>,
    /// Leases that changed.
    pub leases: Vec<LeaseChange>,
}

/// The state machine.
pub struct Mvcc {
    _todo: (),
}

impl Mvcc {
    /// Opens the state kept in an engine: checks its format, loads the index.
    ///
    /// # Errors
    /// [`crate::Error::Corruption`] where the state contradicts itself;
    /// [`crate::Error::Storage`] where a newer version wrote it.
    pub fn open(_engine: Arc<dyn Engine>, _config: MvccConfig) -> Result<Arc<Self>> {
        todo!()
    }

    /// Replaces the whole state by the one in `engine`, as after receiving a
    /// snapshot. Watchers go on from where they are.
    pub fn install(&self, _engine: Arc<dyn Engine>) -> Result<()> {
        todo!()
    }

    /// Applies entries in order, in one atomic batch, then publishes them to
    /// readers and watchers. One outcome an entry. Only one caller at a time.
    ///
    /// # Errors
    /// Only faults of the engine: nothing was applied, and the caller must
    /// retry the same entries or stop.
    pub fn apply(&self, _entries: &[Entry]) -> Result<Vec<EntryOutcome>> {
        todo!()
    }

    /// The log's record of the last applied entry; empty before the first.
    pub fn position(&self) -> Bytes {
        todo!()
    }

    /// Index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        todo!()
    }

    /// Makes everything applied durable; returns the applied index that is
    /// durable now. Blocks; not for an async worker.
    pub fn flush(&self) -> Result<u64> {
        todo!()
    }

    /// Answers a read from the current state. Blocks on the engine.
    /// `LeaseTimeToLive` answers the stored time: whoever keeps time replaces it.
    pub fn read(&self, _read: &Read) -> Result<ReadReply> {
        todo!()
    }

    /// Answers a range in pieces of about `chunk_bytes`, from one state.
    pub fn read_chunks(
        &self,
        _request: &pb::RangeRequest,
        _chunk_bytes: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<pb::RangeResponse>> + Send>> {
        todo!()
    }

    /// Starts a watch.
    pub fn watch(&self, _spec: WatchSpec) -> Watcher {
        todo!()
    }

    /// Current revision.
    pub fn revision(&self) -> i64 {
        todo!()
    }

    /// Revision compacted at; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        todo!()
    }

    /// Bytes of keys, values and kept history: equal on all members.
    pub fn bytes_in_use(&self) -> i64 {
        todo!()
    }

    /// Bytes the engine occupies.
    pub fn bytes_total(&self) -> i64 {
        todo!()
    }

    /// All leases, for a new keeper of time.
    pub fn leases(&self) -> Vec<StoredLease> {
        todo!()
    }

    /// A lease.
    pub fn lease(&self, _id: i64) -> Option<StoredLease> {
        todo!()
    }

    /// Alarms raised.
    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        todo!()
    }

    /// Attributes (name, client URLs) published by members.
    pub fn member_attributes(&self) -> BTreeMap<u64, pb::Member> {
        todo!()
    }

    /// Cluster version; empty until it is known.
    pub fn cluster_version(&self) -> String {
        todo!()
    }

    /// A downgrade in progress.
    pub fn downgrade(&self) -> Option<pb::DowngradeInfo> {
        todo!()
    }

    /// Copies the state into `dir` (hard links); returns the position it holds.
    pub fn checkpoint(&self, _dir: &Path) -> Result<Bytes> {
        todo!()
    }

    /// Does one bounded step of the compaction in progress; true while more is
    /// to do. Call it from a background thread.
    pub fn compact_step(&self) -> Result<bool> {
        todo!()
    }

    /// True once everything up to `revision` has been compacted physically.
    pub fn compacted_physically(&self, _revision: i64) -> bool {
        todo!()
    }

    /// Gives unused space back; blocks, others go on.
    pub fn reclaim(&self) -> Result<()> {
        todo!()
    }
}
