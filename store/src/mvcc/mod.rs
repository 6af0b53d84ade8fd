//! The state machine: etcd's data model over an [`Engine`].
//!
//! One applier calls [`Mvcc::apply`]; any number of readers call the rest and
//! never wait for it: they work on the last published view, a
//! persistent copy of the in-memory state with an engine snapshot beside it.
//! A third thread compacts.
//!
//! An apply is one engine batch: rows of the changes, leases, small tables and
//! the log's own position go in together, so that the state on disk is always
//! that of a whole number of entries. Nothing is published if it fails.
//!
//! Rows (frozen; see `keys` and `proto/skiff/v1/command.proto`): `kv` holds
//! every kept version, `ev` every kept change, `lease` the leases, `meta` the
//! rest. The index of live keys is in memory only, rebuilt when opening.
//!
//! Not here: validation that needs no state (the API layer does it), and
//! time: whoever drives the state machine keeps the leases' clock.

mod adopt;
mod audit;
mod chronicle;
mod compaction;
pub mod compare;
mod digest;
mod evaluate;
mod evaluate_auth;
mod export;
mod fill;
mod hash;
mod history;
mod index_file;
mod keys;
mod prepared;
mod range;
mod read;
mod rebase;
mod state;
mod unreadable;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;

use crate::api::{Read, ReadReply, WriteReply};
use crate::auth::{Access, Caller, Permit, TokenChange};
use crate::engine::{Batch, Cf, Engine};
use crate::error::{Error, Result};
use crate::mvcc::compaction::Compaction;
use crate::mvcc::evaluate::Evaluator;
use crate::mvcc::read::Chunks;
use crate::mvcc::state::{FORMAT_ROW, STATE_ROW, State};
use crate::mvcc::view::View;
use crate::pb::etcdserverpb as pb;
use crate::pb::skiff::v1::{Command, StoredLease};
use crate::watch::{Hub, PublishedEvent, WatchSpec, Watcher};

pub use audit::{Audit, IndexFile, audit};
pub use chronicle::Chronicle;
pub use digest::Digest;
pub use evaluate::MAX_LEASE_TTL;
pub use export::{Export, Version};
pub use fill::Filler;
pub use prepared::{Change, Prepared, SmallRow};
pub use range::KeyRange;
pub use rebase::{Rebase, rebase};
pub use unreadable::Unreadable;

/// Highest version of the stored format that is known. A store of a higher one
/// is refused. A store is of version 2 once auth was on in it.
pub const FORMAT: u32 = 2;
/// Version of a new store.
const NEW_FORMAT: u32 = 1;

/// Settings of the state machine. None of them changes what a command does.
#[derive(Debug, Clone)]
pub struct MvccConfig {
    /// Events kept in memory for watchers, in bytes.
    pub watch_history_bytes: usize,
    /// Bytes a watcher may hold before it falls back to reading history.
    pub watcher_queue_bytes: usize,
    /// Revisions visited by one step of compaction.
    pub compaction_batch: usize,
    /// Where [`Mvcc::save_index`] keeps a copy of the index that makes the
    /// next start faster; none is kept without.
    pub index_file: Option<PathBuf>,
}

impl MvccConfig {
    fn hub(&self) -> crate::watch::HubConfig {
        crate::watch::HubConfig {
            ring_bytes: self.watch_history_bytes,
            watcher_queue_bytes: self.watcher_queue_bytes,
            ..Default::default()
        }
    }
}

impl Default for MvccConfig {
    fn default() -> Self {
        Self {
            watch_history_bytes: 16 << 20,
            watcher_queue_bytes: 1 << 20,
            compaction_batch: 1000,
            index_file: None,
        }
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
    /// Tokens given out and dropped.
    pub tokens: Vec<TokenChange>,
}

/// What readers, the watch hub and the applier share.
pub(crate) struct Shared {
    /// The engine and the state read from it; replaced together.
    current: RwLock<(Arc<dyn Engine>, Arc<View>)>,
    /// Bytes that compaction has removed.
    bytes_removed: AtomicI64,
}

impl Shared {
    fn view(&self) -> Arc<View> {
        self.current.read().1.clone()
    }

    fn engine(&self) -> Arc<dyn Engine> {
        self.current.read().0.clone()
    }
}

/// The state machine.
pub struct Mvcc {
    shared: Arc<Shared>,
    hub: Hub,
    config: MvccConfig,
    /// Held while entries are applied or the state is replaced.
    applier: Mutex<()>,
    compaction: Mutex<Compaction>,
    /// Revision of the index file; 0 while there is none.
    saved_index: Mutex<i64>,
}

impl Mvcc {
    /// Opens the state kept in an engine: checks its format, loads the index.
    ///
    /// # Errors
    /// [`Error::Corruption`] where the state contradicts itself;
    /// [`Error::Storage`] where a newer version wrote it.
    pub fn open(engine: Arc<dyn Engine>, config: MvccConfig) -> Result<Arc<Self>> {
        let (view, compaction) = load(engine.as_ref(), &config)?;
        let bytes_removed = AtomicI64::new(compaction.stored.bytes_removed);
        let shared = Arc::new(Shared { current: RwLock::new((engine, Arc::new(view))), bytes_removed });
        let history: Weak<Shared> = Arc::downgrade(&shared);
        let hub = Hub::new(config.hub(), shared.view().state.stored.revision, history)?;
        Ok(Arc::new(Self {
            shared,
            hub,
            config,
            applier: Mutex::new(()),
            compaction: Mutex::new(compaction),
            saved_index: Mutex::new(0),
        }))
    }

    /// Replaces the whole state by the one in `engine`, as after receiving a
    /// snapshot. Watchers go on from where they are.
    pub fn install(&self, engine: Arc<dyn Engine>) -> Result<()> {
        let (view, loaded) = load(engine.as_ref(), &self.config)?;
        let _applier = self.applier.lock();
        let mut compaction = self.compaction.lock();
        *compaction = loaded;
        self.shared.bytes_removed.store(compaction.stored.bytes_removed, Ordering::Relaxed);
        *self.shared.current.write() = (engine, Arc::new(view));
        self.hub.reset();
        Ok(())
    }

    /// Applies entries in order, in one atomic batch, then publishes them to
    /// readers and watchers. One outcome an entry. Only one caller at a time.
    ///
    /// # Errors
    /// Only faults of the engine: nothing was applied, and the caller must
    /// retry the same entries or stop.
    pub fn apply(&self, entries: &[Entry]) -> Result<Vec<EntryOutcome>> {
        let _applier = self.applier.lock();
        let prepared = self.evaluate(entries)?;
        self.publish(prepared)
    }

    /// Evaluates entries as [`Mvcc::apply`] does and changes nothing yet: for
    /// whoever must make the outcome durable elsewhere first.
    ///
    /// # Errors
    /// Only faults of the engine.
    pub fn prepare(&self, entries: &[Entry]) -> Result<Prepared> {
        self.evaluate(entries)
    }

    /// Applies what was prepared.
    ///
    /// # Errors
    /// Faults of the engine; or that something else was applied meanwhile.
    /// Nothing was applied then.
    pub fn commit(&self, prepared: Prepared) -> Result<Vec<EntryOutcome>> {
        let _applier = self.applier.lock();
        let (base, applied) = (prepared.base.state.stored.applied_index, self.applied_index());
        if base != applied {
            return Err(Error::Other(format!(
                "prepared after entry {base}, but {applied} was applied since"
            )));
        }
        self.publish(prepared)
    }

    fn evaluate(&self, entries: &[Entry]) -> Result<Prepared> {
        let base = self.shared.view();
        self.check_order(&base, entries)?;
        let mut evaluator = Evaluator::new((*base).clone());
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            outcomes.push(evaluator.entry(entry.term, entry.index, &entry.commands)?);
        }
        let Evaluator { view, mut batch, events, .. } = evaluator;
        let mut state = view.state;
        if let Some(last) = entries.last() {
            state.stored.applied_index = last.index;
            state.stored.applied_term = last.term;
            state.stored.position = last.position.clone();
            batch.put(Cf::Meta, STATE_ROW, state.stored.encode_to_vec());
        }
        Ok(Prepared { base, state, batch, events, outcomes })
    }

    /// Writes and publishes; the caller holds the applier's lock.
    fn publish(&self, prepared: Prepared) -> Result<Vec<EntryOutcome>> {
        let Prepared { state, batch, events, outcomes, .. } = prepared;
        if batch.ops.is_empty() {
            return Ok(outcomes);
        }
        let engine = self.shared.engine();
        engine.write(batch)?;
        let revision = state.stored.revision;
        let next = Arc::new(View::new(state, engine.snapshot()));
        self.shared.current.write().1 = next;
        self.hub.publish(revision, events.into_iter().map(PublishedEvent::from).collect());
        Ok(outcomes)
    }

    fn check_order(&self, view: &View, entries: &[Entry]) -> Result<()> {
        let mut applied = view.state.stored.applied_index;
        for entry in entries {
            if entry.index <= applied {
                return Err(Error::Other(format!(
                    "log entry {} was to be applied after entry {applied}",
                    entry.index
                )));
            }
            applied = entry.index;
        }
        Ok(())
    }

    /// The log's record of the last applied entry; empty before the first.
    pub fn position(&self) -> Bytes {
        self.shared.view().state.stored.position.clone()
    }

    /// Index of the last applied entry.
    pub fn applied_index(&self) -> u64 {
        self.shared.view().state.stored.applied_index
    }

    /// Makes everything applied durable; returns the applied index that is
    /// durable now. Blocks; not for an async worker.
    pub fn flush(&self) -> Result<u64> {
        let (engine, view) = self.shared.current.read().clone();
        engine.flush()?;
        Ok(view.state.stored.applied_index)
    }

    /// Rewrites the index file, if there is to be one and much has changed
    /// since it was last written. Blocks for as long as writing all keys
    /// takes; applies and reads go on.
    pub fn save_index(&self) -> Result<()> {
        let Some(path) = &self.config.index_file else { return Ok(()) };
        let mut saved = self.saved_index.lock();
        let view = self.shared.view();
        let revision = view.state.stored.revision;
        if index_file::worth_saving(*saved, revision, view.state.index.len()) {
            index_file::save(path, &view.state.index, revision, view.snapshot.as_ref())?;
            *saved = revision;
        }
        Ok(())
    }

    /// Answers a read from the current state. Blocks on the engine.
    /// `LeaseTimeToLive` answers the stored time: whoever keeps time replaces it.
    ///
    /// # Errors
    /// Those of the read; and that the caller, if there is one, may not do it.
    pub fn read(&self, caller: Option<&Caller>, read: &Read) -> Result<ReadReply> {
        let view = self.shared.view();
        if let Some(permit) = Permit::new(&view.state.auth, caller, &view.state) {
            permit.read(read)?;
        }
        Ok(match read {
            Read::Range(request) => ReadReply::Range(read::range(&view, request)?),
            Read::Txn(request) => ReadReply::Txn(evaluate::read_txn((*view).clone(), request)?),
            Read::LeaseTimeToLive(request) => {
                ReadReply::LeaseTimeToLive(read::lease_time_to_live(&view, request))
            }
            Read::LeaseLeases(_) => ReadReply::LeaseLeases(read::lease_leases(&view)),
            Read::Hash(_) => ReadReply::Hash(hash::hash(&view)?),
            Read::HashKv(request) => ReadReply::HashKv(hash::hash_kv(&view, request)?),
            Read::Alarms => ReadReply::Alarms(read::alarms(&view)),
            Read::AuthStatus => ReadReply::AuthStatus(read::auth_status(&view)),
            Read::UserGet(request) => ReadReply::UserGet(read::user_get(&view, request)?),
            Read::UserList => ReadReply::UserList(read::user_list(&view)),
            Read::RoleGet(request) => ReadReply::RoleGet(read::role_get(&view, request)?),
            Read::RoleList => ReadReply::RoleList(read::role_list(&view)),
            Read::Credentials(user) => ReadReply::Credentials(view.state.auth.credentials(user)?),
        })
    }

    /// Whether a caller may do something in the current state.
    ///
    /// # Errors
    /// etcd's, as for the request itself.
    pub fn authorize(&self, caller: &Caller, access: Access<'_>) -> Result<()> {
        Ok(self.shared.view().state.auth.permit(caller, access)?)
    }

    /// Whether a caller may renew a lease in the current state.
    ///
    /// # Errors
    /// etcd's.
    pub fn authorize_renewal(&self, caller: Option<&Caller>, lease: i64) -> Result<()> {
        let state = &self.shared.view().state;
        match Permit::new(&state.auth, caller, state) {
            Some(permit) => Ok(permit.renew(lease)?),
            None => Ok(()),
        }
    }

    /// Answers a range in pieces of about `chunk_bytes`, from one state.
    ///
    /// # Errors
    /// As for a range.
    pub fn read_chunks(
        &self,
        caller: Option<&Caller>,
        request: &pb::RangeRequest,
        chunk_bytes: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<pb::RangeResponse>> + Send>> {
        let view = self.shared.view();
        if let Some(caller) = caller {
            view.state.auth.permit(caller, Access::Read(&request.key, &request.range_end))?;
        }
        Ok(Box::new(Chunks::new((*view).clone(), request, chunk_bytes)?))
    }

    /// The revision and sub-revision of the version that a key has at `revision`;
    /// `None` where it does not exist then.
    ///
    /// # Errors
    /// The revision is compacted or in the future; faults of the engine.
    pub fn version_at(&self, key: &[u8], revision: i64) -> Result<Option<(i64, u32)>> {
        let view = self.shared.view();
        let revision = view.resolve_revision(revision)?;
        let picked = view.pick(&KeyRange::One(Bytes::copy_from_slice(key)), revision, 1)?;
        Ok(picked.keys.first().map(|(_, meta)| (meta.mod_revision, meta.sub)))
    }

    /// Starts a watch.
    pub fn watch(&self, spec: WatchSpec) -> Watcher {
        self.hub.watch(spec)
    }

    /// Ends all watches, as when the store closes.
    pub fn close_watches(&self, reason: Error) {
        self.hub.close(reason);
    }

    /// Current revision.
    pub fn revision(&self) -> i64 {
        self.shared.view().state.stored.revision
    }

    /// Whether auth is on, the auth revision, and the current revision: what
    /// every request needs.
    pub fn vitals(&self) -> (bool, u64, i64) {
        let view = self.shared.view();
        (view.state.auth.enabled(), view.state.auth.revision(), view.state.stored.revision)
    }

    /// Revision compacted at; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.shared.view().state.stored.compact_revision
    }

    /// Bytes of keys, values and kept history. Members differ by how far their
    /// physical compaction has got.
    pub fn bytes_in_use(&self) -> i64 {
        self.shared.view().state.stored.bytes_written - self.shared.bytes_removed.load(Ordering::Relaxed)
    }

    /// Bytes the engine occupies.
    pub fn bytes_total(&self) -> i64 {
        self.shared.engine().size().total as i64
    }

    /// How many keys there are now.
    pub fn key_count(&self) -> usize {
        self.shared.view().state.index.len()
    }

    /// All leases, for a new keeper of time.
    pub fn leases(&self) -> Vec<StoredLease> {
        self.shared.view().state.leases.iter().map(|(_, lease)| lease.stored).collect()
    }

    /// A lease.
    pub fn lease(&self, id: i64) -> Option<StoredLease> {
        self.shared.view().state.leases.get(&id).map(|lease| lease.stored)
    }

    /// Alarms raised.
    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        self.shared.view().state.stored.alarms.clone()
    }

    /// Attributes (name, client URLs) published by members.
    pub fn member_attributes(&self) -> BTreeMap<u64, pb::Member> {
        (*self.shared.view().state.members).clone()
    }

    /// Cluster version; empty until it is known.
    pub fn cluster_version(&self) -> String {
        self.shared.view().state.stored.cluster_version.clone()
    }

    /// A downgrade in progress.
    pub fn downgrade(&self) -> Option<pb::DowngradeInfo> {
        self.shared.view().state.stored.downgrade.clone()
    }

    /// Copies the state into `dir` (hard links); returns the position it holds.
    /// Waits for an apply under way, and holds the next one up for as long as
    /// the engine takes to link its files.
    pub fn checkpoint(&self, dir: &Path) -> Result<Bytes> {
        Ok(self.copy_to(dir)?.position)
    }

    /// Copies the state into `dir`, as [`Mvcc::checkpoint`] does, and streams
    /// it as an [`crate::archive`]; `dir` is deleted afterwards. Blocks, inside
    /// of a tokio runtime.
    pub fn archive(&self, dir: &Path) -> Result<crate::api::SnapshotStream> {
        let scratch = crate::archive::Scratch::new(dir.to_owned());
        let revision = self.copy_to(dir)?.revision;
        crate::archive::pack(scratch, crate::archive::Manifest { revision })
    }

    fn copy_to(&self, dir: &Path) -> Result<crate::pb::skiff::v1::StoredState> {
        let _applier = self.applier.lock();
        let (engine, view) = self.shared.current.read().clone();
        engine.checkpoint(dir)?;
        Ok(view.state.stored.clone())
    }

    /// Does one bounded step of the compaction in progress; true while more is
    /// to do. Call it from a background thread.
    pub fn compact_step(&self) -> Result<bool> {
        let mut compaction = self.compaction.lock();
        let (engine, view) = self.shared.current.read().clone();
        let target = view.state.stored.compact_revision;
        if compaction.stored.done_through >= target {
            return Ok(false);
        }
        // A snapshot of its own: the view's may be older than the last step.
        let more = compaction.step(
            engine.as_ref(),
            engine.snapshot().as_ref(),
            target,
            self.config.compaction_batch,
        )?;
        self.shared.bytes_removed.store(compaction.stored.bytes_removed, Ordering::Relaxed);
        drop(compaction);
        if !more {
            self.renew_view();
        }
        Ok(more)
    }

    /// Publishes the state again with a new engine snapshot, so that a store
    /// without writes does not keep what has been removed.
    fn renew_view(&self) {
        let _applier = self.applier.lock();
        let (engine, view) = self.shared.current.read().clone();
        let renewed = Arc::new(View::new(view.state.clone(), engine.snapshot()));
        self.shared.current.write().1 = renewed;
    }

    /// True once everything up to `revision` has been compacted physically.
    pub fn compacted_physically(&self, revision: i64) -> bool {
        self.compaction.lock().stored.done_through >= revision
    }

    /// Gives unused space back; blocks, others go on.
    pub fn reclaim(&self) -> Result<()> {
        self.shared.engine().reclaim()
    }
}

/// Reads the state of an engine, after checking that this version knows its
/// format; marks an empty one.
fn load(engine: &dyn Engine, config: &MvccConfig) -> Result<(View, Compaction)> {
    check_format(engine)?;
    let snapshot = engine.snapshot();
    let compaction = Compaction::load(snapshot.as_ref())?;
    let state = State::load(snapshot.as_ref(), &compaction.stored, config.index_file.as_deref())?;
    Ok((View::new(state, snapshot), compaction))
}

fn check_format(engine: &dyn Engine) -> Result<()> {
    if stored_format(engine)?.is_none() {
        let mut batch = Batch::default();
        batch.put(Cf::Meta, FORMAT_ROW, NEW_FORMAT.to_be_bytes().to_vec());
        engine.write(batch)?;
    }
    Ok(())
}

/// The format the store was written in; `None` in an empty one.
///
/// # Errors
/// Where this version does not know it.
pub fn stored_format(engine: &dyn Engine) -> Result<Option<u32>> {
    match engine.snapshot().get(Cf::Meta, FORMAT_ROW)? {
        Some(bytes) => {
            let format = <[u8; 4]>::try_from(&bytes[..])
                .map(u32::from_be_bytes)
                .map_err(|_| Error::Corruption(format!("row meta/format: {bytes:02x?}")))?;
            if format > FORMAT {
                return Err(Error::Storage(format!(
                    "the store was written in format {format} by a newer skiff; this binary reads up to \
                     format {FORMAT}: start the newer binary, or restore a snapshot"
                )));
            }
            Ok(Some(format))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;
