//! The store itself: the seam over the replica and the tasks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use parking_lot::Mutex;
use skiff_store::api::{
    RangeStream, Read, ReadReply, SnapshotStream, Status, Store, Vitals, Write, WriteReply,
};
use skiff_store::auth::{Access, Caller, SimpleTokens};
use skiff_store::clock::Clock;
use skiff_store::mvcc::Mvcc;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::{Command, LeaseRevoke, command::Op};
use skiff_store::sole::Sole;
use skiff_store::watch::{WatchSpec, Watcher};
use skiff_store::{ApiError, Error, NodeError, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::SqlConfig;
use crate::core::{self, Core, TERM, TimeLeft, Work, blocking};
use crate::db::Database;

/// About how many bytes one piece of a streamed range holds.
const CHUNK_BYTES: usize = 512 << 10;
/// Pieces read ahead of the consumer of a streamed range.
const CHUNKS_AHEAD: usize = 2;

/// A store over an SQL database. [`SqlStore::stop`] ends it in order.
pub struct SqlStore {
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl SqlStore {
    /// Opens the store that a database holds: creates the tables that are
    /// missing, takes over what kine left, fills the replica.
    ///
    /// # Errors
    /// The database fails, is of a newer format, or contradicts itself.
    pub async fn open(db: Arc<dyn Database>, config: SqlConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let (stop, stopping) = watch::channel(false);
        let (parts, queues) = core::open(db, config, clock, stopping).await?;
        let core = Arc::new(parts);
        let mut tasks = JoinSet::new();
        core::spawn(&core, queues, &mut tasks);
        Ok(Arc::new(Self { core, stop, tasks: Mutex::new(tasks) }))
    }

    /// Ends all work and the connections to the database. What was acknowledged
    /// is in the database; nothing else is to be saved.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        self.core.mvcc.close_watches(NodeError::Stopped.into());
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
        self.core.db.close().await;
    }

    async fn propose(&self, caller: Option<&Caller>, op: Op) -> Result<WriteReply> {
        let core = &self.core;
        let (reply, answer) = oneshot::channel();
        let work = Work::Command(Command { op: Some(op), caller: caller.cloned() });
        core.jobs.try_send(core::Job { work, reply }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NodeError::TooManyRequests,
            mpsc::error::TrySendError::Closed(_) => NodeError::Stopped,
        })?;
        core.in_time(async { answer.await.map_err(|_| Error::from(NodeError::Stopped))? }).await
    }

    async fn grant(&self, caller: Option<&Caller>, mut request: pb::LeaseGrantRequest) -> Result<WriteReply> {
        request.ttl = request.ttl.max(self.core.config.min_lease_ttl);
        if request.id == 0 {
            request.id = self.free_lease();
        }
        self.propose(caller, Op::LeaseGrant(request)).await
    }

    /// An id that no lease has, and that no other server is likely to draw.
    fn free_lease(&self) -> i64 {
        loop {
            let id = rand::random::<i64>() & i64::MAX;
            if id > i64::from(u32::MAX) && self.core.mvcc.lease(id).is_none() {
                return id;
            }
        }
    }

    async fn time_to_live(
        &self,
        caller: Option<&Caller>,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<ReadReply> {
        let core = &self.core;
        core.reads.barrier(core).await?;
        let mut reply = core.mvcc.read(caller, &Read::LeaseTimeToLive(request))?;
        if let ReadReply::LeaseTimeToLive(response) = &mut reply
            && response.ttl >= 0
            && let Some(left) = TimeLeft::of(core, request.id).await?
        {
            response.ttl = left;
        }
        Ok(reply)
    }

    async fn keep_alive(
        &self,
        caller: Option<&Caller>,
        request: pb::LeaseKeepAliveRequest,
    ) -> Result<WriteReply> {
        let core = &self.core;
        core.reads.barrier(core).await?;
        core.mvcc.authorize_renewal(caller, request.id)?;
        let ttl = core.keep_alives.renew(core, request.id).await?;
        Ok(WriteReply::LeaseKeepAlive(pb::LeaseKeepAliveResponse {
            header: Some(pb::ResponseHeader { revision: core.mvcc.revision(), ..Default::default() }),
            id: request.id,
            ttl,
        }))
    }

    /// Waits until a compaction has given its space back.
    async fn until_compacted(&self, revision: i64) -> Result<()> {
        let core = &self.core;
        let mut compacted = core.compacted.subscribe();
        core.in_time(async {
            let done = compacted.wait_for(|done| *done >= revision).await;
            done.map(drop).map_err(|_| NodeError::Stopped.into())
        })
        .await
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn read(&self, caller: Option<&Caller>, read: Read) -> Result<ReadReply> {
        let core = &self.core;
        core.check_running()?;
        if let Read::LeaseTimeToLive(request) = read {
            return self.time_to_live(caller, request).await;
        }
        if read.is_linearizable() {
            core.reads.barrier(core).await?;
        }
        if read.is_cheap() {
            return core.mvcc.read(caller, &read);
        }
        let (mvcc, caller) = (core.mvcc.clone(), caller.cloned());
        blocking(move || mvcc.read(caller.as_ref(), &read)).await
    }

    async fn read_stream(&self, caller: Option<&Caller>, request: pb::RangeRequest) -> Result<RangeStream> {
        let core = &self.core;
        core.check_running()?;
        if !request.serializable {
            core.reads.barrier(core).await?;
        }
        let (mvcc, caller) = (core.mvcc.clone(), caller.cloned());
        let (pieces, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let chunks = blocking(move || mvcc.read_chunks(caller.as_ref(), &request, CHUNK_BYTES)).await?;
        tokio::task::spawn_blocking(move || {
            for chunk in chunks {
                if pieces.blocking_send(chunk).is_err() {
                    return;
                }
            }
        });
        let next = |mut pieces: mpsc::Receiver<_>| async { pieces.recv().await.map(|piece| (piece, pieces)) };
        Ok(Box::pin(futures::stream::unfold(receiver, next)))
    }

    async fn write(&self, caller: Option<&Caller>, write: Write) -> Result<WriteReply> {
        self.core.check_running()?;
        let op = match write {
            Write::Put(request) => Op::Put(request),
            Write::DeleteRange(request) => Op::DeleteRange(request),
            Write::Txn(request) => Op::Txn(request),
            Write::Compact(request) => {
                let reply = self.propose(caller, Op::Compact(request)).await?;
                if request.physical {
                    self.until_compacted(request.revision).await?;
                }
                return Ok(reply);
            }
            Write::LeaseGrant(request) => return self.grant(caller, request).await,
            Write::LeaseRevoke(request) => {
                Op::LeaseRevoke(LeaseRevoke { id: request.id, expired_in_term: 0 })
            }
            Write::LeaseKeepAlive(request) => return self.keep_alive(caller, request).await,
            Write::Alarm(request) => Op::Alarm(request),
            Write::Auth(change) => Op::Auth(change),
            Write::Authenticate(request) => Op::Authenticate(request),
            _ => return Err(Error::Other("a change that the SQL store does not know".into())),
        };
        self.propose(caller, op).await
    }

    fn authorize(&self, caller: &Caller, access: Access<'_>) -> Result<()> {
        self.core.mvcc.authorize(caller, access)
    }

    async fn resolve_token(&self, token: &str) -> Result<Caller> {
        let core = &self.core;
        core.check_running()?;
        let given_at = SimpleTokens::index_of(token).ok_or(ApiError::InvalidAuthToken)?;
        if core.mvcc.applied_index() < given_at {
            core.reads.barrier(core).await?;
        }
        let user = core.tokens.use_token(token, core.clock.now()).ok_or(ApiError::InvalidAuthToken)?;
        Ok(Caller { user, auth_revision: core.mvcc.vitals().1 })
    }

    fn watch(&self, spec: WatchSpec) -> Watcher {
        self.core.mvcc.watch(spec)
    }

    fn status(&self) -> Status {
        let core = &self.core;
        let mvcc: &Mvcc = &core.mvcc;
        let index = mvcc.applied_index();
        let in_use = mvcc.bytes_in_use();
        Status {
            cluster_id: core.cluster_id,
            member_id: core.member.id,
            leader: *core.contact.leader().borrow(),
            raft_term: TERM,
            raft_index: index,
            raft_applied_index: index,
            revision: mvcc.revision(),
            compact_revision: mvcc.compact_revision(),
            db_size: core.db_size.load(Ordering::Relaxed).max(in_use),
            db_size_in_use: in_use,
            alarms: mvcc.alarms(),
            errors: core.contact.faults(),
            cluster_version: mvcc.cluster_version(),
            storage_version: mvcc.cluster_version(),
            downgrade: mvcc.downgrade(),
            ..Status::default()
        }
    }

    fn vitals(&self) -> Vitals {
        let core = &self.core;
        let (auth_enabled, auth_revision, revision) = core.mvcc.vitals();
        Vitals {
            cluster_id: core.cluster_id,
            member_id: core.member.id,
            leader: *core.contact.leader().borrow(),
            raft_term: TERM,
            revision,
            is_learner: false,
            auth_enabled,
            auth_revision,
        }
    }

    fn leader(&self) -> watch::Receiver<u64> {
        self.core.contact.leader().subscribe()
    }

    async fn snapshot(&self) -> Result<SnapshotStream> {
        let core = self.core.clone();
        core.check_running()?;
        core.reads.barrier(&core).await?;
        let dir = core::scratch_dir(&core);
        blocking(move || core.mvcc.archive(&dir)).await
    }

    async fn defragment(&self) -> Result<()> {
        core::give_space_back(&self.core).await?;
        let mvcc = self.core.mvcc.clone();
        blocking(move || mvcc.reclaim()).await
    }
}

impl Sole for SqlStore {
    fn member(&self) -> &pb::Member {
        &self.core.member
    }
}
