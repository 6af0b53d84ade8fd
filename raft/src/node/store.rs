//! The node as a [`Store`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use openraft::async_runtime::WatchReceiver;
use skiff_store::api::{
    RangeStream, Read, ReadReply, SnapshotStream, Status, Store, Vitals, Write, WriteReply,
};
use skiff_store::auth::{Access, Caller, SimpleTokens};
use skiff_store::error::{ApiError, Error, NodeError, Result};
use skiff_store::mvcc::Mvcc;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::{Command, LeaseRevoke, command::Op};
use skiff_store::watch::{WatchSpec, Watcher};
use tokio::sync::watch;

use super::core::Core;
use super::proposer::Done;
use super::{Node, leases, quota};
use crate::metrics::METRICS;

/// About how many bytes one piece of a streamed range holds.
const CHUNK_BYTES: usize = 512 << 10;
/// Pieces read ahead of the consumer of a streamed range.
const CHUNKS_AHEAD: usize = 2;
/// How often physical compaction is looked at.
const PHYSICAL_POLL: Duration = Duration::from_millis(10);

#[async_trait]
impl Store for Node {
    async fn read(&self, caller: Option<&Caller>, read: Read) -> Result<ReadReply> {
        let core = &self.core;
        core.check_running()?;
        if core.is_learner() && !is_serializable(&read) {
            return Err(NodeError::NotSupportedForLearner.into());
        }
        if let Read::LeaseTimeToLive(request) = read {
            return leases::time_to_live(core, caller, request).await.map(ReadReply::LeaseTimeToLive);
        }
        if read.is_linearizable() {
            core.reads.barrier(core).await?;
        } else {
            self.recovered().await?;
        }
        if read.is_cheap() {
            return evaluate(&core.shared.mvcc, caller, &read);
        }
        let _permit = self.heavy_reads.acquire().await.map_err(|_| NodeError::Stopped)?;
        let (mvcc, caller) = (core.shared.mvcc.clone(), caller.cloned());
        blocking(move || evaluate(&mvcc, caller.as_ref(), &read)).await
    }

    async fn read_stream(&self, caller: Option<&Caller>, request: pb::RangeRequest) -> Result<RangeStream> {
        let core = &self.core;
        core.check_running()?;
        if core.is_learner() && !request.serializable {
            return Err(NodeError::NotSupportedForLearner.into());
        }
        if request.serializable {
            self.recovered().await?;
        } else {
            core.reads.barrier(core).await?;
        }
        let (mvcc, caller) = (core.shared.mvcc.clone(), caller.cloned());
        let chunks = blocking(move || mvcc.read_chunks(caller.as_ref(), &request, CHUNK_BYTES)).await?;
        Ok(stream_blocking(chunks))
    }

    async fn write(&self, caller: Option<&Caller>, write: Write) -> Result<WriteReply> {
        let core = &self.core;
        core.check_running()?;
        if core.is_learner() {
            return Err(NodeError::NotSupportedForLearner.into());
        }
        let write = match write {
            Write::LeaseKeepAlive(request) => {
                return leases::keep_alive(core, caller, request.id).await.map(WriteReply::LeaseKeepAlive);
            }
            other => other,
        };
        let physical = match &write {
            Write::Compact(request) if request.physical => Some(request.revision),
            _ => None,
        };
        let op = command(core, write)?;
        quota::check(core, &op).await?;
        let reply = core.execute(Command { op: Some(op), caller: caller.cloned() }).await?;
        if let Some(revision) = physical {
            core.wait_compacted(revision).await?;
        }
        Ok(reply)
    }

    fn authorize(&self, caller: &Caller, access: Access<'_>) -> Result<()> {
        self.core.shared.mvcc.authorize(caller, access)
    }

    async fn resolve_token(&self, token: &str) -> Result<Caller> {
        let core = &self.core;
        core.check_running()?;
        let given_at = SimpleTokens::index_of(token).ok_or(ApiError::InvalidAuthToken)?;
        if core.shared.applied_index() < given_at {
            // Another member gave it out and is a little ahead, or it is forged.
            let wait = core.until_stop(core.shared.wait_applied(given_at));
            let waited = tokio::time::timeout(core.config.request_timeout(), wait).await;
            waited.map_err(|_| ApiError::InvalidAuthToken)?.ok_or(NodeError::Stopped)?;
        }
        // In this order: where the users change in between, the revision is an old one, and
        // does not count. The other way round a token of before could count after it.
        let auth_revision = core.shared.mvcc.vitals().1;
        let user = core.tokens.use_token(token).ok_or(ApiError::InvalidAuthToken)?;
        Ok(Caller { user, auth_revision })
    }

    fn watch(&self, spec: WatchSpec) -> Watcher {
        self.core.shared.mvcc.watch(spec)
    }

    fn status(&self) -> Status {
        let core = &self.core;
        let mvcc = &core.shared.mvcc;
        let metrics = core.raft().data_metrics();
        let committed = metrics.borrow_watched().cluster_committed.map_or(0, |at| at.index);
        let applied = core.shared.applied_index();
        Status {
            cluster_id: core.cluster_id,
            member_id: core.member_id,
            leader: core.leader(),
            raft_term: core.term(),
            raft_index: committed.max(applied),
            raft_applied_index: applied,
            revision: mvcc.revision(),
            compact_revision: mvcc.compact_revision(),
            db_size: mvcc.bytes_total(),
            db_size_in_use: mvcc.bytes_in_use(),
            db_size_quota: core.config.quota().unwrap_or(0),
            is_learner: core.is_learner(),
            alarms: mvcc.alarms(),
            errors: core.faults(),
            cluster_version: mvcc.cluster_version(),
            storage_version: mvcc.cluster_version(),
            downgrade: mvcc.downgrade(),
        }
    }

    fn vitals(&self) -> Vitals {
        let core = &self.core;
        let (auth_enabled, auth_revision, revision) = core.shared.mvcc.vitals();
        Vitals {
            cluster_id: core.cluster_id,
            member_id: core.member_id,
            leader: core.leader(),
            raft_term: core.term(),
            revision,
            is_learner: core.is_learner(),
            auth_enabled,
            auth_revision,
        }
    }

    fn leader(&self) -> watch::Receiver<u64> {
        self.core.watch_leader()
    }

    async fn snapshot(&self) -> Result<SnapshotStream> {
        let core = self.core.clone();
        core.check_running()?;
        blocking(move || {
            let dir = core.state_dir.scratch_path("save");
            core.shared.mvcc.archive(&dir)
        })
        .await
    }

    async fn defragment(&self) -> Result<()> {
        let mvcc = self.core.shared.mvcc.clone();
        blocking(move || mvcc.reclaim()).await
    }
}

impl Node {
    /// Holds reads of this member's own state until it is as new as before the
    /// restart: such a read may be old, but never goes back.
    async fn recovered(&self) -> Result<()> {
        let Some(tail) = self.tail else { return Ok(()) };
        let wait = self.recovered.get_or_init(|| self.core.shared.wait_recovered(tail));
        match tokio::time::timeout(self.core.config.request_timeout(), wait).await {
            Ok(_) => self.core.check_running(),
            Err(_) => Err(self.core.timeout_error().into()),
        }
    }
}

impl Core {
    pub(crate) fn is_learner(&self) -> bool {
        self.learner.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Proposes a command and waits until this member has applied it.
    pub(crate) async fn execute(&self, command: Command) -> Result<WriteReply> {
        self.in_time(async {
            let done = self.submit(command).await?;
            // Where another member led: until here, so that the client reads its write.
            if self.shared.applied_index() < done.index {
                self.shared.wait_applied(done.index).await;
            }
            done.reply
        })
        .await
    }

    /// Proposes a command; answers the index of its entry, which this member,
    /// where another one leads, need not have applied.
    pub(crate) async fn propose(&self, command: Command) -> Result<u64> {
        self.in_time(async {
            let done = self.submit(command).await?;
            done.reply.map(|_| done.index)
        })
        .await
    }

    async fn submit(&self, command: Command) -> Result<Done> {
        self.proposer.submit(command, false)?.await.map_err(|_| NodeError::Stopped)?
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.config.request_timeout(), work).await {
            Ok(done) => done,
            Err(_) => Err(self.timeout_error().into()),
        }
    }

    /// Waits until everything up to `revision` is compacted physically.
    async fn wait_compacted(&self, revision: i64) -> Result<()> {
        let compacted = async {
            while !self.shared.mvcc.compacted_physically(revision) {
                tokio::time::sleep(PHYSICAL_POLL).await;
            }
        };
        self.until_stop(compacted).await.ok_or_else(|| NodeError::Stopped.into())
    }

    /// Faults beside alarms, in etcd's words.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.shared.is_stuck() {
            faults.push("the state cannot be written: is the disk full?".into());
        }
        let applied = self.shared.applied_index();
        faults.extend(
            self.snapshot_fault.lock().iter().filter(|(at, _)| *at == applied).map(|(_, why)| why.clone()),
        );
        faults
    }
}

/// A client's write as a command, which carries every choice made for it.
fn command(core: &Core, write: Write) -> Result<Op> {
    Ok(match write {
        Write::Put(request) => Op::Put(request),
        Write::DeleteRange(request) => Op::DeleteRange(request),
        Write::Txn(request) => Op::Txn(request),
        Write::Compact(request) => Op::Compact(request),
        Write::LeaseGrant(mut request) => {
            // A TTL that is too large is refused when it is applied, after alarms.
            request.ttl = request.ttl.max(core.config.min_lease_ttl());
            while request.id == 0 {
                request.id = rand::random::<i64>() & i64::MAX;
            }
            Op::LeaseGrant(request)
        }
        Write::LeaseRevoke(request) => Op::LeaseRevoke(LeaseRevoke { id: request.id, expired_in_term: 0 }),
        Write::Alarm(request) => Op::Alarm(request),
        Write::Auth(change) => Op::Auth(change),
        Write::Authenticate(request) => Op::Authenticate(request),
        other => return Err(Error::Other(format!("write {other:?} is not replicated"))),
    })
}

fn is_serializable(read: &Read) -> bool {
    match read {
        Read::Range(request) => request.serializable,
        Read::Hash(_) | Read::HashKv(_) => true,
        _ => false,
    }
}

/// Answers a read from the state there is.
fn evaluate(mvcc: &Mvcc, caller: Option<&Caller>, read: &Read) -> Result<ReadReply> {
    let begun = Instant::now();
    let reply = mvcc.read(caller, read);
    if matches!(read, Read::Range(_)) {
        METRICS.range(reply.is_ok(), begun.elapsed());
    }
    reply
}

/// Runs blocking work off the async workers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Other(format!("blocking work failed: {e}")))?
}

/// An iterator that blocks as a stream; reads a little ahead, then waits.
fn stream_blocking<T: Send + 'static>(
    items: Box<dyn Iterator<Item = Result<T>> + Send>,
) -> Pin<Box<dyn futures::Stream<Item = Result<T>> + Send>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        for item in items {
            if sender.blocking_send(item).is_err() {
                return;
            }
        }
    });
    Box::pin(futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    }))
}

/// What tasks need of the heavy reads' bound.
pub(crate) type HeavyReads = Arc<tokio::sync::Semaphore>;
