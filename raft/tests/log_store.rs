//! The log storage against openraft's own conformance suite, and what the
//! suite does not ask.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use openraft::storage::{
    EntryResponder, LeaderBoundedStreamError, RaftLogReader, RaftLogStorage, RaftLogStorageExt,
    RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use skiff_raft::disk::{Disk, RealDisk, SimDisk};
use skiff_raft::log_store::LogStore;
use skiff_raft::types::{
    CommittedLeaderId, Entry, LogId, MemberNode, Payload, Proposal, SnapshotMeta, StoredMembership,
    TypeConfig, Vote, log_id,
};
use skiff_raft::wal::{Wal, WalOptions};

type Snapshot = openraft::Snapshot<CommittedLeaderId, u64, MemberNode, ()>;

/// As much of a state machine as the suite needs.
#[derive(Debug, Clone, Default)]
struct Machine {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMeta>,
    shared: Arc<parking_lot::Mutex<Option<SnapshotMeta>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        *self.shared.lock() = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, _)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let Payload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _data: ()) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.shared.lock() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.snapshot.clone_from(&self.shared.lock());
        Ok(self.snapshot.clone().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

fn options(dir: &Path) -> WalOptions {
    // A cache of nothing: every read comes from the disk.
    WalOptions { segment_bytes: 16 << 10, cache_bytes: 0, background_spares: false, ..WalOptions::new(dir) }
}

struct Builder<D> {
    disk: D,
    root: std::path::PathBuf,
    next: AtomicU64,
}

impl<D: Disk + Clone> StoreBuilder<TypeConfig, LogStore, Machine> for Builder<D> {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let dir = self.root.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let wal = Wal::open(Arc::new(self.disk.clone()), options(&dir)).unwrap();
        Ok(((), LogStore::new(wal), Machine::default()))
    }
}

#[tokio::test]
async fn passes_openrafts_suite_on_a_simulated_disk() {
    let builder = Builder { disk: SimDisk::new(1), root: "/".into(), next: AtomicU64::new(0) };
    Suite::test_all(builder).await.unwrap();
}

#[tokio::test]
async fn passes_openrafts_suite_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Builder { disk: RealDisk, root: dir.path().into(), next: AtomicU64::new(0) };
    Suite::test_all(builder).await.unwrap();
}

fn open(disk: &SimDisk) -> LogStore {
    LogStore::new(Wal::open(Arc::new(disk.clone()), options(Path::new("/wal"))).unwrap())
}

fn commands(term: u64, index: u64, size: usize) -> Entry {
    let payload = Payload::Normal(Proposal::from_encoded(Bytes::from(vec![index as u8; size])));
    Entry { log_id: log_id(term, index), payload }
}

async fn append(store: &mut LogStore, entries: Vec<Entry>) {
    store.blocking_append(entries).await.unwrap();
}

#[tokio::test]
async fn entries_votes_and_committed_survive_a_restart() {
    let disk = SimDisk::new(2);
    let mut store = open(&disk);
    let vote = Vote::new_committed(3, 77);
    store.save_vote(&vote).await.unwrap();
    let entries: Vec<Entry> = (0..100).map(|i| commands(1 + i / 30, i, 500)).collect();
    append(&mut store, entries.clone()).await;
    store.save_committed(Some(log_id(2, 50))).await.unwrap();
    store.wal().close();
    drop(store);

    let mut store = open(&disk);
    assert_eq!(store.read_vote().await.unwrap(), Some(vote));
    assert_eq!(store.read_committed().await.unwrap(), Some(log_id(2, 50)));
    assert_eq!(store.try_get_log_entries(..).await.unwrap(), entries);
    let streamed: Vec<Entry> = store.entries_stream(10..90).await.try_collect().await.unwrap();
    assert_eq!(streamed, entries[10..90]);
    let keys = store.get_key_log_ids(log_id(1, 0)..=log_id(4, 99)).await.unwrap();
    assert_eq!(keys, [log_id(1, 29), log_id(2, 59), log_id(3, 89), log_id(4, 99)]);
}

#[tokio::test]
async fn reads_for_replication_are_bounded_in_bytes() {
    let disk = SimDisk::new(3);
    let options = WalOptions { segment_bytes: 4 << 20, ..options(Path::new("/wal")) };
    let mut store = LogStore::new(Wal::open(Arc::new(disk), options).unwrap());
    append(&mut store, (0..30).map(|i| commands(1, i, 100 << 10)).collect()).await;
    let read = store.limited_get_log_entries(0, 30).await.unwrap();
    assert_eq!(read.len(), 10);
    let streamed: Vec<Entry> = store.entries_stream(0..30).await.try_collect().await.unwrap();
    assert_eq!(streamed.len(), 30);
}

#[tokio::test]
async fn a_leaders_stream_ends_when_the_vote_changes_under_it() {
    let disk = SimDisk::new(4);
    let options = WalOptions { segment_bytes: 4 << 20, ..options(Path::new("/wal")) };
    let mut store = LogStore::new(Wal::open(Arc::new(disk), options).unwrap());
    let vote = Vote::new_committed(1, 5);
    store.save_vote(&vote).await.unwrap();
    append(&mut store, (0..30).map(|i| commands(1, i, 100 << 10)).collect()).await;
    let mut reader = store.clone();
    let mut stream = reader.leader_bounded_stream(*vote.leader_id(), 0..30).await;
    assert_eq!(stream.next().await.unwrap().unwrap().log_id, log_id(1, 0));
    store.save_vote(&Vote::new(2, 6)).await.unwrap();
    let rest: Vec<_> = stream.collect().await;
    assert!(rest.len() < 29, "{} more", rest.len());
    assert!(matches!(rest.last(), Some(Err(LeaderBoundedStreamError::LeaderChanged(_)))));
}

/// Decoded entries are kept by place; a place truncated and written again by
/// another leader is another entry.
#[tokio::test]
async fn a_replaced_entry_is_read_as_replaced() {
    let mut store = open(&SimDisk::new(5));
    append(&mut store, (0..10).map(|i| commands(1, i, 10)).collect()).await;
    store.truncate_after(Some(log_id(1, 4))).await.unwrap();
    append(&mut store, (5..8).map(|i| commands(2, i, 20)).collect()).await;
    let read = store.try_get_log_entries(3..).await.unwrap();
    let expected: Vec<Entry> =
        (3..5).map(|i| commands(1, i, 10)).chain((5..8).map(|i| commands(2, i, 20))).collect();
    assert_eq!(read, expected);
}
