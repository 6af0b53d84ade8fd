//! openraft's side of the state.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::Mutex;
use skiff_store::engine::Engine;
use skiff_store::error::{Error, Result};

use super::{Applier, Shared, StateDir};
use crate::codec;
use crate::snapshot::SnapshotDir;
use crate::types::{LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

/// Pause before a failed flush or checkpoint is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Entries, and bytes of commands, applied as one batch.
const BATCH: (usize, usize) = (1024, 4 << 20);

/// What else is to be done where a snapshot replaces the state.
#[derive(Clone)]
pub struct Replacing {
    /// Forgets what must not outlive the old state: called when nobody sees the new one yet.
    pub before: Arc<dyn Fn() + Send + Sync>,
    /// Takes over what the new state holds.
    pub after: Arc<dyn Fn() + Send + Sync>,
}

/// The state machine as openraft drives it. Clones share one state.
#[derive(Clone)]
pub struct StateMachine {
    shared: Arc<Shared>,
    applier: Arc<Applier>,
    dir: Arc<StateDir>,
    /// The engine in use; replaced with the state.
    engine: Arc<Mutex<Weak<dyn Engine>>>,
    /// Called before and after a snapshot replaces the state.
    replacing: Replacing,
    /// Set once the log runs: from then on a snapshot is asked for to be sent.
    running: Arc<std::sync::atomic::AtomicBool>,
}

impl StateMachine {
    /// Joins the parts. `replacing` is called whenever a snapshot replaces the state.
    pub fn new(
        shared: Arc<Shared>,
        applier: Arc<Applier>,
        dir: Arc<StateDir>,
        engine: Weak<dyn Engine>,
        replacing: Replacing,
    ) -> Self {
        let engine = Arc::new(Mutex::new(engine));
        Self { shared, applier, dir, engine, replacing, running: Default::default() }
    }

    /// Tells that the log has recovered.
    pub fn set_running(&self) {
        self.running.store(true, std::sync::atomic::Ordering::Release);
    }

    fn applied(&self) -> (Option<LogId>, StoredMembership) {
        (self.shared.applied(), (*self.shared.membership()).clone())
    }

    async fn install(&self, meta: SnapshotMeta, snapshot: SnapshotDir) -> Result<()> {
        let (dir, engine) = (self.dir.clone(), self.engine.clone());
        let before = self.replacing.before.clone();
        self.applier
            .run(move |state| {
                let previous = engine.lock().clone();
                let shared = state.shared().clone();
                // A full disk is waited for: an error would end the member, which would
                // find the disk as full at its next start.
                let new = state
                    .patiently("take over a received snapshot", || dir.adopt(&snapshot, previous.clone()))?;
                before();
                state.patiently("read a received snapshot", || shared.mvcc.install(new.clone()))?;
                *engine.lock() = Arc::downgrade(&new);
                let (applied, membership) = codec::decode_position(shared.mvcc.position())?;
                if applied != meta.last_log_id {
                    return Err(Error::Corruption(format!(
                        "snapshot holds {applied:?}, not {:?} as announced",
                        meta.last_log_id
                    )));
                }
                state.replace(applied, membership);
                Ok(())
            })
            .await?;
        (self.replacing.after)();
        self.dir.sweep();
        Ok(())
    }

    /// What is durable in the state, without its files.
    fn durable(&self) -> Snapshot {
        let (last_log_id, membership) = self.shared.durable();
        let meta = SnapshotMeta { last_log_id, last_membership: (*membership).clone() };
        Snapshot { meta, snapshot: self.dir.scratch("none") }
    }

    async fn checkpoint(&self) -> Result<Snapshot> {
        let (shared, dir) = (self.shared.clone(), self.dir.clone());
        blocking(move || {
            let snapshot = dir.scratch("send");
            let position = shared.mvcc.checkpoint(snapshot.path())?;
            let meta = codec::decode_snapshot_meta(position)?;
            Ok(Snapshot { meta, snapshot })
        })
        .await
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotDir;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.applied())
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(item) = entries.next().await {
            let item = item?;
            if let Payload::Normal(proposal) = &item.0.payload {
                bytes += proposal.encoded().len();
            }
            batch.push(item);
            if batch.len() >= BATCH.0 || bytes >= BATCH.1 {
                self.applier.apply(std::mem::take(&mut batch)).await.map_err(io_error)?;
                bytes = 0;
            }
        }
        self.applier.apply(batch).await.map_err(io_error)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let (applied, membership) = self.applied();
        SnapshotBuilder { shared: self.shared.clone(), dir: self.dir.clone(), applied, membership }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotDir) -> io::Result<()> {
        self.install(meta.clone(), snapshot).await.map_err(io_error)
    }

    /// A checkpoint of now once the log runs. Before, openraft only wants to
    /// know what the log need not hold: what is durable in the state.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        if self.shared.applied().is_none() {
            return Ok(None);
        }
        if self.running.load(std::sync::atomic::Ordering::Acquire) {
            return match self.checkpoint().await {
                // Not waited for: no entry is applied before this returns. What
                // comes instead cannot be sent, which the sender tries again.
                Err(Error::Storage(why)) => {
                    tracing::error!(error = %why, "cannot copy the state for a peer; trying again");
                    Ok(Some(self.durable()))
                }
                made => made.map(Some).map_err(io_error),
            };
        }
        Ok(Some(self.durable()))
    }
}

/// "Builds" a snapshot: makes the state durable, so that the log below may be
/// purged. Nothing is copied: a checkpoint is made when a peer needs one.
pub struct SnapshotBuilder {
    shared: Arc<Shared>,
    dir: Arc<StateDir>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotDir;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        // Everything applied when the builder was made was applied before this.
        patiently("make the state durable", || {
            let shared = self.shared.clone();
            blocking(move || shared.mvcc.flush())
        })
        .await
        .map_err(io_error)?;
        self.shared.set_durable(self.applied, Arc::new(self.membership.clone()));
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Ok(Snapshot { meta, snapshot: self.dir.scratch("none") })
    }
}

/// Repeats what fails for want of disk space or the like: openraft would take
/// such an error for the end. Ends with the runtime.
async fn patiently<T, F: Future<Output = Result<T>>>(what: &str, attempt: impl Fn() -> F) -> Result<T> {
    loop {
        match attempt().await {
            Err(Error::Storage(why)) => {
                tracing::error!(error = %why, "cannot {what}; trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Other(format!("blocking work failed: {e}")))?
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Corruption(text) => io::Error::new(io::ErrorKind::InvalidData, text),
        other => io::Error::other(other),
    }
}
