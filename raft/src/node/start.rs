//! Starting and stopping a node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use openraft::RaftNetworkFactory;
use openraft::errors::{InitializeError, RaftError};
use skiff_store::engine::Engine;
use skiff_store::error::{Error, NodeError, Result};
use skiff_store::mvcc::{EntryOutcome, Mvcc};
use tokio::sync::{Semaphore, watch};

use super::bootstrap::bootstrap;
use super::core::{Core, End};
use super::proposer::{self, Proposer};
use super::read_index::{self, Reads};
use super::{
    Node, NodeConfig, cluster, corruption, force, leases, log_place, membership, quota, tasks, version,
};
use crate::clock::Clock;
use crate::codec;
use crate::disk::Disk;
use crate::lessor::Lessor;
use crate::log_store::LogStore;
use crate::metrics::METRICS;
use crate::peer::PeerClient;
use crate::snapshot::SnapshotDir;
use crate::state::{Applier, EngineFactory, Replacing, Shared, StateDir, StateMachine};
use crate::tokens::Tokens;
use crate::types::{MemberNode, TypeConfig, log_id};
use crate::wal::{Health, Wal, WalOptions};

/// Large reads at a time; more wait.
const HEAVY_READS: usize = 8;
/// How long the log may take to stop; what it acknowledged is durable anyway.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long a stop may take to hand leadership over.
const HANDOVER: Duration = Duration::from_secs(1);

/// What a node stands on: all of it can be simulated.
pub struct Parts {
    /// Opens the database that holds the state.
    pub engines: EngineFactory,
    /// The disk of the log.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Node {
    /// Starts a member. Returns once it has recovered its own state; a leader
    /// may not be known yet.
    ///
    /// `connect` makes the network for a cluster id and a member id; it is
    /// called with zeros for a member that still has to ask for its own.
    ///
    /// # Errors
    /// Where the data directory cannot be used or is damaged, or where this
    /// member does not belong to the cluster.
    pub async fn start<N>(
        config: NodeConfig,
        parts: Parts,
        connect: impl Fn(u64, u64) -> (N, Arc<dyn PeerClient>),
    ) -> Result<Arc<Self>>
    where
        N: RaftNetworkFactory<TypeConfig>,
        N::Network: openraft::network::NetSnapshot<TypeConfig, SnapshotData = SnapshotDir>,
    {
        let raft_config = Arc::new(config.raft()?);
        let mut start = bootstrap(&config, connect(0, 0).1.as_ref(), parts.disk.as_ref()).await?;
        let (cluster_id, member_id) = (start.metadata.cluster_id, start.metadata.member_id);
        tracing::info!(
            cluster = format!("{cluster_id:x}"),
            member = format!("{member_id:x}"),
            "starting a member"
        );
        METRICS.id.with_label_values(&[&format!("{member_id:x}")]).set(1);
        METRICS.quota_backend_bytes.set(config.quota().unwrap_or(0));

        let member_dir = config.data_dir.join("member");
        let log_dir = log_place::find(&config, &mut start.metadata, &member_dir, parts.disk.as_ref())?;
        let mut wal_options = WalOptions::new(&log_dir);
        wal_options.slow_sync = Duration::from_secs(1);
        wal_options.segment_bytes = config.log_segment_bytes;
        wal_options.cache_bytes = config.log_cache_bytes;
        let (state, wal) = {
            let (root, engines) = (member_dir.join("state"), parts.engines.clone());
            let (mvcc_config, disk) = (config.mvcc.clone(), parts.disk.clone());
            super::store::blocking(move || {
                let (dir, engine) = StateDir::open(root, engines)?;
                let mvcc = Mvcc::open(engine.clone(), mvcc_config)?;
                log_place::check_present(disk.as_ref(), &wal_options.dir, mvcc.applied_index() > 0)?;
                let wal = Wal::open(disk, wal_options).map_err(wal_error)?;
                Ok(((dir, engine, mvcc), wal))
            })
            .await?
        };
        let (dir, engine, mvcc) = state;
        let (applied, members) = codec::decode_position(mvcc.position())?;
        check_gap(wal.purged().map(|id| id.index), applied.map(|id| id.index), &member_dir)?;
        check_log(wal.vote().is_some() || wal.last().is_some(), applied.is_some(), &member_dir)?;
        let mut log = LogStore::new(wal.clone());
        force::apply(&config, &mut start.metadata, &member_dir, &mut log, (applied, &members)).await?;
        let before: BTreeSet<u64> = members.nodes().map(|(id, _)| *id).collect();
        let (network, peers) = connect(cluster_id, member_id);
        if config.initial_corrupt_check && applied.is_some() {
            let patience = config.request_timeout();
            corruption::initial(&mvcc, member_id, &members, peers.as_ref(), patience).await?;
        }
        let shared =
            Arc::new(Shared::new(mvcc.clone(), applied, members, (config.flush_bytes, config.flush_entries)));
        let lessor = Arc::new(Lessor::new(parts.clock.clone(), mvcc.leases()));
        let tail = wal.last().map(|id| log_id(id.term, id.index));
        let replayed = tail.map_or(0, |tail| tail.index);
        let tokens = Arc::new(Tokens::new(parts.clock.clone(), config.token_ttl, replayed));
        let observer = {
            let (lessor, tokens) = (lessor.clone(), tokens.clone());
            Box::new(move |outcome: &EntryOutcome| {
                lessor.apply(&outcome.leases);
                tokens.apply(&outcome.tokens);
            })
        };
        let applier = Arc::new(Applier::start(shared.clone(), observer, config.slow_apply)?);
        let dir = Arc::new(dir);
        let hashes = Arc::new(corruption::HashBook::default());
        let weak: Arc<dyn Engine> = engine;
        let replacing = {
            let (lessor, mvcc, hashes) = (lessor.clone(), mvcc.clone(), hashes.clone());
            let tokens = tokens.clone();
            Replacing {
                before: Arc::new(move || tokens.clear()),
                after: Arc::new(move || {
                    lessor.reset(mvcc.leases());
                    hashes.clear();
                }),
            }
        };
        let weak = Arc::downgrade(&weak);
        let machine = StateMachine::new(shared.clone(), applier, dir.clone(), weak, replacing);
        let health = wal.health();
        let raft = openraft::Raft::new(member_id, raft_config, network, log, machine.clone())
            .await
            .map_err(|e| Error::Storage(format!("recover the log: {e}")))?;
        machine.set_running();

        let (proposer, queue) = Proposer::new(config.pending_limit);
        let (reads, read_queue) = Reads::new();
        let core = Arc::new(Core {
            cluster_id,
            member_id,
            raft,
            shared,
            wal,
            state_dir: dir,
            lessor,
            tokens,
            peers,
            started: parts.clock.now(),
            clock: parts.clock,
            proposer,
            reads,
            metadata: parking_lot::Mutex::new(start.metadata),
            leader: watch::Sender::new(0),
            term: Default::default(),
            learner: AtomicBool::new(false),
            heard: Default::default(),
            published: watch::Sender::new(false),
            changing: Default::default(),
            ended: watch::Sender::new(None),
            snapshot_fault: Default::default(),
            log_dir,
            hashes,
            config,
        });
        spawn_tasks(&core, queue, read_queue, health, before);
        if let Some(members) = start.initial {
            initialize(&core, members).await?;
        }
        Ok(Arc::new(Node {
            tail,
            recovered: Default::default(),
            core,
            heavy_reads: Arc::new(Semaphore::new(HEAVY_READS)),
            receiving: Default::default(),
        }))
    }

    /// Hands leadership over, if this member leads and another can: requests
    /// under way then find a leader while this member still forwards them.
    pub async fn hand_over(&self) {
        if !self.core.is_stopping() && self.core.is_leader() {
            hand_over(&self.core).await;
        }
    }

    /// Stops the member: hands leadership over, ends all requests, and makes
    /// the state durable, so that the next start has nothing to replay.
    pub async fn stop(&self) {
        let core = &self.core;
        self.hand_over().await;
        core.end(End::Stopped);
        match tokio::time::timeout(SHUTDOWN, core.raft().shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the log did not stop in order"),
            Err(_) => tracing::warn!("the log did not stop in time"),
        }
        let (mvcc, wal) = (core.shared.mvcc.clone(), core.wal.clone());
        let closed = super::store::blocking(move || {
            mvcc.close_watches(NodeError::Stopped.into());
            let flushed = mvcc.flush().and_then(|_| mvcc.save_index());
            wal.close();
            flushed
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "the state was not made durable; the next start replays the log");
        }
    }
}

fn spawn_tasks(
    core: &Arc<Core>,
    queue: proposer::Queue,
    reads: read_index::ReadQueue,
    health: watch::Receiver<Health>,
    members: BTreeSet<u64>,
) {
    let full = move || *health.borrow() == Health::DiskFull;
    tokio::spawn(tasks::observe(core.clone()));
    tokio::spawn(tasks::follow_membership(core.clone(), members));
    tokio::spawn(tasks::ask_if_removed(core.clone()));
    tokio::spawn(proposer::run(core.clone(), queue));
    tokio::spawn(read_index::run(core.clone(), reads));
    tokio::spawn(leases::run(core.clone()));
    tokio::spawn(membership::run(core.clone()));
    tokio::spawn(version::run(core.clone()));
    tokio::spawn(quota::run(core.clone(), full));
    tokio::spawn(corruption::periodic(core.clone()));
    tokio::spawn(corruption::at_compactions(core.clone()));
    tokio::spawn(tasks::compact(core.clone()));
    tokio::spawn(tasks::flush(core.clone()));
    tokio::spawn(tasks::sweep(core.clone()));
    core.spawn(tasks::publish(core.clone()));
}

/// Gives an empty log its first membership. All members of a new cluster do
/// it with the same one, which is safe; one that has a log already does not.
async fn initialize(core: &Arc<Core>, members: std::collections::BTreeMap<u64, MemberNode>) -> Result<()> {
    match core.raft().initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(e) => Err(Error::Other(format!("initialize the log: {e}"))),
    }
}

/// Hands leadership to the voter that has most of the log.
pub(super) async fn hand_over(core: &Arc<Core>) {
    use openraft::async_runtime::WatchReceiver;
    let best = {
        let metrics = core.raft().metrics();
        let metrics = metrics.borrow_watched();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let progress = metrics.replication.iter().flatten();
        progress
            .filter(|(id, at)| **id != core.member_id && at.is_some() && voters.contains(id))
            .max_by_key(|(_, at)| at.map(|at| at.index))
            .map(|(id, _)| *id)
    };
    if let Some(to) = best
        && let Err(error) = cluster::transfer(core, to, HANDOVER).await
    {
        tracing::warn!(%error, "could not hand leadership over; the others elect");
    }
}

/// Refuses a state from which the log does not go on: what lies between was
/// applied once and is lost, as when the state's files were cut or replaced.
pub(crate) fn check_gap(
    purged: Option<u64>,
    applied: Option<u64>,
    member_dir: &std::path::Path,
) -> Result<()> {
    match purged {
        Some(purged) if applied.is_none_or(|applied| applied < purged) => Err(Error::Corruption(format!(
            "{}: the state ends with log entry {}, but the log begins after entry {purged}: part of the state \
             is lost; restore a snapshot, or remove this member and add it again with an empty data directory",
            member_dir.join("state").display(),
            applied.unwrap_or(0),
        ))),
        _ => Ok(()),
    }
}

/// Refuses a state beside an empty log, as when the log's files were deleted:
/// with them the member lost what it had promised to the others.
fn check_log(written: bool, applied: bool, member_dir: &std::path::Path) -> Result<()> {
    if written || !applied {
        return Ok(());
    }
    Err(Error::Corruption(format!(
        "{}: the log is gone, and with it what this member has voted for; restore a snapshot, or remove this \
         member and add it again with an empty data directory",
        member_dir.join("wal").display(),
    )))
}

pub(crate) fn wal_error(error: crate::wal::Error) -> Error {
    if error.is_corruption() {
        Error::Corruption(error.to_string())
    } else {
        Error::Storage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_its_log_is_refused() {
        let dir = std::path::Path::new("member");
        for (written, applied) in [(true, true), (true, false), (false, false)] {
            assert!(check_log(written, applied, dir).is_ok());
        }
        let error = check_log(false, true, dir).unwrap_err();
        assert!(matches!(&error, Error::Corruption(text) if text.contains("member/wal")), "{error}");
    }

    #[test]
    fn a_state_older_than_the_log_is_refused() {
        let dir = std::path::Path::new("member");
        assert!(check_gap(None, None, dir).is_ok());
        assert!(check_gap(Some(7), Some(7), dir).is_ok());
        assert!(check_gap(Some(7), Some(9), dir).is_ok());
        for lost in [None, Some(6)] {
            let error = check_gap(Some(7), lost, dir).unwrap_err();
            assert!(matches!(&error, Error::Corruption(text) if text.contains("after entry 7")), "{error}");
        }
    }
}
