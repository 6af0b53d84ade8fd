//! A store without consensus: one state machine, one applier, one member.
//!
//! It serves tests of what stands above the seam, and as the model that other
//! stores are compared with: it does nothing but what the contract says.
//!
//! Not here: a log (with [`LocalConfig::flush`] the engine is flushed before a
//! write is answered, which is slow), quotas, and lease checkpoints: after a
//! restart every lease has its full time again.

mod applier;
mod lessor;
mod queue;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use self::applier::Applier;
use self::lessor::Lessor;
use self::queue::{Job, Queue};
use crate::api::{RangeStream, Read, ReadReply, SnapshotStream, Status, Store, Vitals, Write, WriteReply};
use crate::auth::{Access, Caller, SimpleTokens};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::{ApiError, Error, NodeError, Result};
use crate::mvcc::{Entry, Mvcc, MvccConfig};
use crate::pb::etcdserverpb as pb;
use crate::pb::skiff::v1::command::Op;
use crate::pb::skiff::v1::{Command, LeaseRevoke};
use crate::watch::{WatchSpec, Watcher};

/// The term of a store that has no elections.
const TERM: u64 = 1;
/// Size of a piece of a streamed range, in bytes, about.
const STREAM_CHUNK: usize = 1 << 20;
/// Pieces of a stream that wait for their reader.
const STREAM_PIECES: usize = 2;

/// Settings of a [`LocalStore`].
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Of the state machine.
    pub mvcc: MvccConfig,
    /// Cluster id.
    pub cluster_id: u64,
    /// The one member.
    pub member: pb::Member,
    /// Cluster version a new store begins with.
    pub cluster_version: String,
    /// The shortest TTL of a lease, in seconds; shorter ones are raised to it.
    pub min_lease_ttl: i64,
    /// Flush the engine before a write is answered, as the contract asks for.
    /// Without it a write survives the process only in an engine that needs no
    /// flush.
    pub flush: bool,
    /// Requests that may wait for the applier; more are refused.
    pub max_waiting: usize,
    /// Time a token lives after its last use.
    pub token_ttl: Duration,
    /// Where copies of the store are made on their way into a snapshot; best on
    /// the file system of the engine.
    pub snapshot_dir: PathBuf,
}

impl Default for LocalConfig {
    fn default() -> Self {
        let member = pb::Member {
            id: 0x8e9e_05c5_2164_694d,
            name: "default".to_owned(),
            peer_ur_ls: vec!["http://localhost:2380".to_owned()],
            client_ur_ls: vec!["http://localhost:2379".to_owned()],
            is_learner: false,
        };
        Self {
            mvcc: MvccConfig::default(),
            cluster_id: 0xcdf8_18e1_94e3_a8c3,
            member,
            cluster_version: "3.6.0".to_owned(),
            min_lease_ttl: 2,
            flush: true,
            max_waiting: 10_000,
            token_ttl: Duration::from_secs(300),
            snapshot_dir: std::env::temp_dir(),
        }
    }
}

/// A store of one member, without consensus. Dropping it ends its watches and
/// its applier.
pub struct LocalStore {
    shared: Arc<Shared>,
    leader: tokio::sync::watch::Sender<u64>,
}

/// What requests and the applier share.
struct Shared {
    config: LocalConfig,
    mvcc: Arc<Mvcc>,
    clock: Arc<dyn Clock>,
    lessor: Mutex<Lessor>,
    tokens: SimpleTokens,
    queue: Queue,
    last_lease: AtomicI64,
}

impl LocalStore {
    /// Opens the store kept in an engine.
    ///
    /// # Errors
    /// As [`Mvcc::open`]; or the applier's thread cannot be started.
    pub fn open(engine: Arc<dyn Engine>, config: LocalConfig, clock: Arc<dyn Clock>) -> Result<Arc<Self>> {
        let mvcc = Mvcc::open(engine, config.mvcc.clone())?;
        if mvcc.cluster_version().is_empty() {
            let version = Command::from(Op::ClusterVersion(config.cluster_version.clone()));
            mvcc.apply(&[next_entry(&mvcc, vec![version])])?;
        }
        let lessor = Lessor::new(&mvcc.leases(), clock.now());
        let leader = tokio::sync::watch::Sender::new(config.member.id);
        let shared = Arc::new(Shared {
            queue: Queue::new(config.max_waiting),
            lessor: Mutex::new(lessor),
            tokens: SimpleTokens::new(config.token_ttl, 0),
            last_lease: AtomicI64::new(0),
            mvcc,
            clock,
            config,
        });
        Applier::start(Arc::clone(&shared))?;
        Ok(Arc::new(Self { shared, leader }))
    }

    /// Runs blocking work on the state machine.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let work = tokio::task::spawn_blocking(move || work(&shared));
        work.await.map_err(|error| Error::Other(format!("running a request: {error}")))?
    }

    async fn propose(&self, caller: Option<&Caller>, op: Op) -> Result<WriteReply> {
        let physical = match &op {
            Op::Compact(request) if request.physical => Some(request.revision),
            _ => None,
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        let command = Command { op: Some(op), caller: caller.cloned() };
        self.shared.queue.push(Job { command, physical, reply })?;
        answer.await.map_err(|_| Error::Node(NodeError::Stopped))?
    }

    async fn grant(&self, caller: Option<&Caller>, mut request: pb::LeaseGrantRequest) -> Result<WriteReply> {
        request.ttl = request.ttl.max(self.shared.config.min_lease_ttl);
        if request.id == 0 {
            request.id = self.shared.free_lease();
        }
        self.propose(caller, Op::LeaseGrant(request)).await
    }
}

impl Shared {
    /// Replaces the stored time of a lease by the time it has left.
    fn time_to_live(
        &self,
        caller: Option<&Caller>,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<ReadReply> {
        let mut reply = self.mvcc.read(caller, &Read::LeaseTimeToLive(*request))?;
        if let ReadReply::LeaseTimeToLive(response) = &mut reply
            && response.ttl >= 0
            && let Some(left) = self.lessor.lock().remaining(request.id, self.clock.now())
        {
            response.ttl = left.as_secs() as i64;
        }
        Ok(reply)
    }

    fn keep_alive(&self, request: &pb::LeaseKeepAliveRequest) -> pb::LeaseKeepAliveResponse {
        let ttl = self.lessor.lock().renew(request.id, self.clock.now());
        pb::LeaseKeepAliveResponse {
            header: Some(pb::ResponseHeader { revision: self.mvcc.revision(), ..Default::default() }),
            id: request.id,
            ttl: ttl.unwrap_or(0),
        }
    }

    /// An id that no lease has. Spread out, as clients that pick ids
    /// themselves tend to start at 1.
    fn free_lease(&self) -> i64 {
        loop {
            let count = self.last_lease.fetch_add(1, Ordering::Relaxed) + 1;
            let id = count.wrapping_mul(0x1e37_79b9_7f4a_7c15) & i64::MAX;
            if id != 0 && self.mvcc.lease(id).is_none() {
                return id;
            }
        }
    }

    fn stream(
        &self,
        caller: Option<&Caller>,
        request: &pb::RangeRequest,
        pieces: &tokio::sync::mpsc::Sender<Result<pb::RangeResponse>>,
    ) {
        let chunks = match self.mvcc.read_chunks(caller, request, STREAM_CHUNK) {
            Ok(chunks) => chunks,
            Err(error) => return drop(pieces.blocking_send(Err(error))),
        };
        for chunk in chunks {
            if pieces.blocking_send(chunk).is_err() {
                return;
            }
        }
    }
}

fn next_entry(mvcc: &Mvcc, commands: Vec<Command>) -> Entry {
    Entry { term: TERM, index: mvcc.applied_index() + 1, position: Default::default(), commands }
}

#[async_trait]
impl Store for LocalStore {
    async fn read(&self, caller: Option<&Caller>, read: Read) -> Result<ReadReply> {
        let caller = caller.cloned();
        self.blocking(move |shared| match &read {
            Read::LeaseTimeToLive(request) => shared.time_to_live(caller.as_ref(), request),
            read => shared.mvcc.read(caller.as_ref(), read),
        })
        .await
    }

    async fn read_stream(&self, caller: Option<&Caller>, request: pb::RangeRequest) -> Result<RangeStream> {
        let (pieces, mut stream) = tokio::sync::mpsc::channel(STREAM_PIECES);
        let (shared, caller) = (Arc::clone(&self.shared), caller.cloned());
        tokio::task::spawn_blocking(move || shared.stream(caller.as_ref(), &request, &pieces));
        let mut first = match stream.recv().await {
            Some(first) => Some(first?),
            None => return Err(Error::Other("a stream ended before its first piece".to_owned())),
        };
        Ok(Box::pin(futures::stream::poll_fn(move |cx| match first.take() {
            Some(first) => std::task::Poll::Ready(Some(Ok(first))),
            None => stream.poll_recv(cx),
        })))
    }

    async fn write(&self, caller: Option<&Caller>, write: Write) -> Result<WriteReply> {
        let op = match write {
            Write::Put(request) => Op::Put(request),
            Write::DeleteRange(request) => Op::DeleteRange(request),
            Write::Txn(request) => Op::Txn(request),
            Write::Compact(request) => Op::Compact(request),
            Write::LeaseGrant(request) => return self.grant(caller, request).await,
            Write::LeaseRevoke(request) => {
                Op::LeaseRevoke(LeaseRevoke { id: request.id, expired_in_term: 0 })
            }
            Write::LeaseKeepAlive(request) => {
                self.shared.mvcc.authorize_renewal(caller, request.id)?;
                return Ok(WriteReply::LeaseKeepAlive(self.shared.keep_alive(&request)));
            }
            Write::Alarm(request) => Op::Alarm(request),
            Write::Auth(change) => Op::Auth(change),
            Write::Authenticate(request) => Op::Authenticate(request),
        };
        self.propose(caller, op).await
    }

    fn authorize(&self, caller: &Caller, access: Access<'_>) -> Result<()> {
        self.shared.mvcc.authorize(caller, access)
    }

    /// Nothing to wait for: a token is told to its user after it was applied.
    async fn resolve_token(&self, token: &str) -> Result<Caller> {
        let Shared { tokens, clock, mvcc, .. } = &*self.shared;
        let user = tokens.use_token(token, clock.now()).ok_or(ApiError::InvalidAuthToken)?;
        Ok(Caller { user, auth_revision: mvcc.vitals().1 })
    }

    fn watch(&self, spec: WatchSpec) -> Watcher {
        self.shared.mvcc.watch(spec)
    }

    fn status(&self) -> Status {
        let Shared { mvcc, config, .. } = &*self.shared;
        let index = mvcc.applied_index();
        Status {
            cluster_id: config.cluster_id,
            member_id: config.member.id,
            leader: config.member.id,
            raft_term: TERM,
            raft_index: index,
            raft_applied_index: index,
            revision: mvcc.revision(),
            compact_revision: mvcc.compact_revision(),
            db_size: mvcc.bytes_total(),
            db_size_in_use: mvcc.bytes_in_use(),
            alarms: mvcc.alarms(),
            cluster_version: mvcc.cluster_version(),
            storage_version: config.cluster_version.clone(),
            downgrade: mvcc.downgrade(),
            ..Status::default()
        }
    }

    fn vitals(&self) -> Vitals {
        let Shared { mvcc, config, .. } = &*self.shared;
        let (auth_enabled, auth_revision, revision) = mvcc.vitals();
        Vitals {
            cluster_id: config.cluster_id,
            member_id: config.member.id,
            leader: config.member.id,
            raft_term: TERM,
            revision,
            is_learner: false,
            auth_enabled,
            auth_revision,
        }
    }

    fn leader(&self) -> tokio::sync::watch::Receiver<u64> {
        self.leader.subscribe()
    }

    async fn snapshot(&self) -> Result<SnapshotStream> {
        // Of all stores in this process.
        static SNAPSHOTS: AtomicU64 = AtomicU64::new(0);
        let number = SNAPSHOTS.fetch_add(1, Ordering::Relaxed);
        let name = format!("skiff-snapshot-{}-{number}", std::process::id());
        self.blocking(move |shared| {
            let dir = shared.config.snapshot_dir.join(name);
            shared.mvcc.archive(&dir)
        })
        .await
    }

    async fn defragment(&self) -> Result<()> {
        self.blocking(|shared| shared.mvcc.reclaim()).await
    }
}

impl crate::sole::Sole for LocalStore {
    fn member(&self) -> &pb::Member {
        &self.shared.config.member
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.mvcc.close_watches(NodeError::Stopped.into());
    }
}
