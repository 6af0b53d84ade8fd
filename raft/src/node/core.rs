//! What all parts of a node share.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, ServerState};
use parking_lot::Mutex;
use skiff_store::error::{Error, NodeError};
use skiff_store::pb::etcdserverpb as pb;
use tokio::sync::watch;

use super::config::NodeConfig;
use super::corruption::HashBook;
use super::proposer::Proposer;
use super::read_index::Reads;
use crate::clock::Clock;
use crate::lessor::Lessor;
use crate::metadata::Metadata;
use crate::pb::skiff::raft::v1::{reply::Answer, request::Ask};
use crate::peer::{CallError, PeerClient, Request};
use crate::state::{Shared, StateDir, StateMachine};
use crate::tokens::Tokens;
use crate::types::{MemberNode, Membership, TypeConfig};
use crate::wal::Wal;

/// The log and its state.
pub(crate) type Log = Raft<TypeConfig, StateMachine>;

/// What all parts of a node share.
pub(crate) struct Core {
    pub(crate) config: NodeConfig,
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) raft: Log,
    pub(crate) shared: Arc<Shared>,
    pub(crate) wal: Wal,
    pub(crate) state_dir: Arc<StateDir>,
    /// Where the log lies.
    pub(crate) log_dir: PathBuf,
    pub(crate) lessor: Arc<Lessor>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) peers: Arc<dyn PeerClient>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) proposer: Proposer,
    pub(crate) reads: Reads,
    pub(crate) metadata: Mutex<Metadata>,
    pub(crate) leader: watch::Sender<u64>,
    pub(crate) term: AtomicU64,
    pub(crate) learner: AtomicBool,
    /// When this member last heard of its leader, in ms since `started`.
    pub(crate) heard: AtomicU64,
    pub(crate) started: tokio::time::Instant,
    /// This member's attributes are in the state.
    pub(crate) published: watch::Sender<bool>,
    /// Serializes membership changes proposed here.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) ended: watch::Sender<Option<End>>,
    /// Why the last snapshot sent to this member was not received, and the last
    /// applied entry then: once it applies more, it needs that snapshot no longer.
    pub(crate) snapshot_fault: Mutex<Option<(u64, String)>>,
    /// Hashes at the last compactions.
    pub(crate) hashes: Arc<HashBook>,
}

/// Why a node runs no more.
#[derive(Debug, Clone)]
pub enum End {
    /// It was asked to stop.
    Stopped,
    /// It was removed from the cluster.
    Removed,
    /// The log or the state failed for good.
    Failed(String),
}

impl Core {
    pub(crate) fn raft(&self) -> &Log {
        &self.raft
    }

    /// The leader this member follows, or itself; 0 for none.
    pub(crate) fn leader(&self) -> u64 {
        *self.leader.borrow()
    }

    pub(crate) fn watch_leader(&self) -> watch::Receiver<u64> {
        self.leader.subscribe()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.leader() == self.member_id
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Notes a sign of life from the leader.
    pub(crate) fn hear(&self) {
        let now = self.clock.now().saturating_duration_since(self.started);
        self.heard.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Time since the last sign of life from a leader.
    pub(crate) fn silence(&self) -> Duration {
        let now = self.clock.now().saturating_duration_since(self.started);
        now.saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    /// The index a read may be answered at, where this member alone is the
    /// cluster: nobody else can lead, so what it applied in its own term is
    /// everything that was ever acknowledged.
    pub(crate) fn sole_voter_index(&self) -> Option<u64> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.get_joint_config();
        let alone = voters.len() == 1 && voters[0].len() == 1 && voters[0].contains(&self.member_id);
        if !alone || metrics.state != ServerState::Leader {
            return None;
        }
        let term = metrics.vote.leader_id().term;
        let applied = self.shared.applied()?;
        (applied.committed_leader_id().term == term).then_some(applied.index)
    }

    /// The effective membership, which may not be committed yet.
    pub(crate) fn membership(&self) -> Membership {
        let metrics = self.raft.server_metrics();
        let stored = metrics.borrow_watched().membership_config.clone();
        stored.membership().clone()
    }

    /// Asks another member.
    pub(crate) async fn call(&self, to: u64, ask: Ask, timeout: Duration) -> Result<Answer, CallError> {
        let node = self.membership().get_node(&to).cloned();
        let node = node.ok_or_else(|| CallError::Unreachable(format!("member {to:x} is not known")))?;
        let reply = self.peers.call(to, &node, Request { ask: Some(ask) }, timeout).await?;
        reply.answer.ok_or_else(|| CallError::Lost("an empty reply".into()))
    }

    /// All members in etcd's words, ordered by id.
    pub(crate) fn members(&self) -> Vec<pb::Member> {
        let mut attributes = self.shared.mvcc.member_attributes();
        // Its own are known before they are published.
        attributes.entry(self.member_id).or_insert_with(|| self.config.attributes(self.member_id));
        members(&self.membership(), &attributes)
    }

    /// etcd's word for a request that ran out of time.
    pub(crate) fn timeout_error(&self) -> NodeError {
        if self.leader() == 0 { NodeError::TimeoutLeaderFail } else { NodeError::Timeout }
    }

    /// Runs `work` unless the node stops first.
    pub(crate) async fn until_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            biased;
            _ = ended.wait_for(Option::is_some) => None,
            done = work => Some(done),
        }
    }

    /// Spawns work that ends with the node.
    pub(crate) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let core = self.clone();
        tokio::spawn(async move { core.until_stop(work).await });
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Ends the node; the first reason stays.
    pub(crate) fn end(&self, why: End) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            if first {
                *ended = Some(why);
            }
            first
        });
    }

    /// Fails once the node has ended.
    pub(crate) fn check_running(&self) -> Result<(), Error> {
        if self.is_stopping() { Err(NodeError::Stopped.into()) } else { Ok(()) }
    }
}

/// Members in etcd's words. One that is wanted as a voter counts as one, even
/// while it still catches up.
pub(crate) fn members(membership: &Membership, attributes: &BTreeMap<u64, pb::Member>) -> Vec<pb::Member> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    membership
        .nodes()
        .map(|(id, node)| {
            let known = attributes.get(id).cloned().unwrap_or_default();
            pb::Member {
                id: *id,
                name: known.name,
                peer_ur_ls: node.peer_urls.clone(),
                client_ur_ls: known.client_ur_ls,
                is_learner: !is_voter(*id, node, &voters),
            }
        })
        .collect()
}

/// A voter, or one that becomes a voter as soon as it has caught up.
pub(crate) fn is_voter(id: u64, node: &MemberNode, voters: &BTreeSet<u64>) -> bool {
    node.wanted_voter || voters.contains(&id)
}
