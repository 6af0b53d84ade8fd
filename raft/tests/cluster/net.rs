//! A network in memory: members call each other directly, through links that
//! a test can cut.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;
use skiff_raft::Node;
use skiff_raft::peer::{
    CallError, PeerClient, PeerHandler, Reply, Request, TransferLeaderRequest, TransferLeaderResponse,
};
use skiff_raft::snapshot::SnapshotDir;
use skiff_raft::types::{MemberNode, Snapshot, TypeConfig, Vote};

/// The wires between all members.
#[derive(Default)]
pub(crate) struct Wires {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    nodes: HashMap<u64, Weak<Node>>,
    cut: HashSet<(u64, u64)>,
    /// Snapshots that went over the wires.
    snapshots: usize,
}

impl Wires {
    pub(crate) fn plug(&self, node: &Arc<Node>) {
        self.inner.lock().nodes.insert(node.id(), Arc::downgrade(node));
    }

    pub(crate) fn unplug(&self, id: u64) {
        self.inner.lock().nodes.remove(&id);
    }

    /// Cuts all links between `id` and the others, both ways.
    pub(crate) fn isolate(&self, id: u64) {
        let mut inner = self.inner.lock();
        let others: Vec<u64> = inner.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            inner.cut.insert((id, other));
            inner.cut.insert((other, id));
        }
    }

    pub(crate) fn heal(&self) {
        self.inner.lock().cut.clear();
    }

    pub(crate) fn snapshots(&self) -> usize {
        self.inner.lock().snapshots
    }

    fn reach(&self, from: u64, to: u64) -> Option<Arc<Node>> {
        let inner = self.inner.lock();
        if inner.cut.contains(&(from, to)) {
            return None;
        }
        inner.nodes.get(&to)?.upgrade()
    }

    fn by_url(&self, url: &str) -> Option<Arc<Node>> {
        // URLs in tests end in the port, and each node knows its own.
        let nodes: Vec<Arc<Node>> = self.inner.lock().nodes.values().filter_map(Weak::upgrade).collect();
        nodes.into_iter().find(|node| node.advertised().iter().any(|own| own == url))
    }
}

/// One member's end of the wires.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) wires: Arc<Wires>,
    pub(crate) own: u64,
}

#[async_trait]
impl PeerClient for Endpoint {
    async fn call(
        &self,
        member: u64,
        _node: &MemberNode,
        request: Request,
        timeout: Duration,
    ) -> Result<Reply, CallError> {
        let to = self.wires.reach(self.own, member).ok_or_else(|| CallError::Unreachable("cut".into()))?;
        if to.is_removed(self.own) {
            return Err(CallError::Removed);
        }
        let reply = tokio::time::timeout(timeout, to.call(request)).await.map_err(|_| CallError::Timeout)?;
        // A cut meanwhile loses the reply.
        match self.wires.reach(member, self.own) {
            Some(_) => Ok(reply),
            None => Err(CallError::Lost("cut".into())),
        }
    }

    async fn call_url(&self, url: &str, request: Request, _timeout: Duration) -> Result<Reply, CallError> {
        let to = self.wires.by_url(url).ok_or_else(|| CallError::Unreachable("nobody".into()))?;
        Ok(to.call(request).await)
    }
}

impl RaftNetworkFactory<TypeConfig> for Endpoint {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &MemberNode) -> Link {
        Link { end: self.clone(), target }
    }
}

/// From one member to another.
pub(crate) struct Link {
    end: Endpoint,
    target: u64,
}

impl Link {
    async fn send<T, F: Future<Output = T>>(
        &self,
        work: impl FnOnce(Arc<Node>) -> F,
    ) -> Result<T, Unreachable<TypeConfig>> {
        let cut = || Unreachable::new(&AnyError::error("cut"));
        let to = self.end.wires.reach(self.end.own, self.target).ok_or_else(cut)?;
        if to.is_removed(self.end.own) {
            return Err(Unreachable::new(&AnyError::error("removed")));
        }
        let answer = work(to).await;
        self.end.wires.reach(self.target, self.end.own).map(|_| answer).ok_or_else(cut)
    }
}

fn unreachable(error: &dyn std::fmt::Display) -> StreamingError<TypeConfig> {
    StreamingError::Unreachable(Unreachable::new(&AnyError::error(error)))
}

/// Copies a snapshot to the member that receives it.
fn copy(from: &std::path::Path, to: &Node) -> std::io::Result<SnapshotDir> {
    let files = std::fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()?;
    let dir = to.new_snapshot_dir(0)?;
    for file in files {
        std::fs::copy(file.path(), dir.path().join(file.file_name()))?;
    }
    Ok(dir)
}

fn failed(error: impl std::fmt::Display) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(error)))
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotDir;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.send(|to| async move { to.append_entries(rpc).await }).await;
        answer.map_err(RPCError::Unreachable)?.map_err(failed)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.send(|to| async move { to.vote(rpc).await }).await;
        answer.map_err(RPCError::Unreachable)?.map_err(failed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.send(|to| async move { to.pre_vote(rpc).await }).await;
        answer.map_err(RPCError::Unreachable)?.map_err(failed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        self.end.wires.inner.lock().snapshots += 1;
        let answer = self
            .send(|to| async move {
                let dir = copy(snapshot.snapshot.path(), &to).map_err(|e| unreachable(&e))?;
                to.install_snapshot(vote, snapshot.meta, dir).await.map_err(|e| unreachable(&e))
            })
            .await;
        answer.map_err(|e| unreachable(&e))?
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let answer = self.send(|to| async move { to.transfer_leader(req).await }).await;
        answer.map_err(RPCError::Unreachable)?.map_err(failed)
    }
}
