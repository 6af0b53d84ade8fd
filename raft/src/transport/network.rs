//! openraft's network over the transport.

use std::future::Future;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::RaftNetworkFactory;
use openraft::base::BoxFuture;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::{Code, Status};

use super::append;
use super::client::Transport;
use super::convert::{
    append_messages, append_result, last_log_id, malformed, transfer_message, transfer_response,
    vote_message, vote_response,
};
use super::identity::RefusalKind;
use super::link::{Lane, Link, describe};
use super::snapshot;
use crate::codec::{decode_log_id, decode_vote};
use crate::snapshot::SnapshotDir;
use crate::types::{MemberNode, Snapshot, TypeConfig, Vote};

/// First pause after a peer was unreachable; doubled up to the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// The same for snapshots, each attempt at which makes a copy of the state.
const SNAPSHOT_BACKOFF_MIN: Duration = Duration::from_millis(200);
const SNAPSHOT_BACKOFF_MAX: Duration = Duration::from_secs(3);

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

/// What one client of openraft's is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Log entries and votes.
    Replication,
    /// Snapshots.
    Snapshot,
    /// Heartbeats: each a single call on the connection for urgent traffic.
    Heartbeat,
}

/// A client of one peer, as openraft uses it. All clients of a peer share its
/// connections, so making one is cheap.
pub struct PeerNetwork {
    link: Arc<Link>,
    purpose: Purpose,
}

impl RaftNetworkFactory<TypeConfig> for Arc<Transport> {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &MemberNode) -> PeerNetwork {
        PeerNetwork { link: self.link(target, node), purpose: Purpose::Replication }
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &MemberNode) -> PeerNetwork {
        PeerNetwork { link: self.link(target, node), purpose: Purpose::Heartbeat }
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &MemberNode) -> PeerNetwork {
        PeerNetwork { link: self.link(target, node), purpose: Purpose::Snapshot }
    }
}

impl PeerNetwork {
    fn error(&self, status: &Status, action: RPCTypes, timeout: Duration) -> RPCError<TypeConfig> {
        match status.code() {
            Code::DeadlineExceeded => {
                let (id, target) = (self.link.local(), self.link.peer());
                RPCError::Timeout(Timeout { action, id, target, timeout })
            }
            // A refusal does not go away by asking again at once.
            Code::Unavailable | Code::ResourceExhausted => unreachable_peer(status),
            _ if RefusalKind::of(status).is_some() => unreachable_peer(status),
            _ => RPCError::Network(NetworkError::from_string(describe(status))),
        }
    }

    /// One request and its reply on the connection for urgent traffic.
    async fn append_one(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        timeout: Duration,
    ) -> RpcResult<StreamAppendResult<TypeConfig>> {
        let mut messages = append_messages(request, usize::MAX);
        let Some(message) = messages.pop() else {
            return Err(RPCError::Network(NetworkError::from_string("no append message")));
        };
        let (prev, last) = (message.prev_log_id.map(decode_log_id), last_log_id(&message));
        let mut client = self.link.client(Lane::Control);
        let call = self.link.call(message, timeout, |request| async move { client.append(request).await });
        let result = match call.await {
            Ok(reply) => append_result(reply, prev, last),
            Err(status) => Err(status),
        };
        result.map_err(|status| self.error(&status, RPCTypes::AppendEntries, timeout))
    }

    /// Requests one by one. For heartbeats, which are single and small.
    fn append_in_turn<'s, S>(
        &'s self,
        input: S,
        timeout: Duration,
    ) -> BoxStream<'s, RpcResult<StreamAppendResult<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        futures::stream::unfold(Some(input), move |input| async move {
            let mut input = input?;
            let request = input.next().await?;
            let result = self.append_one(request, timeout).await;
            let go_on = matches!(result, Ok(Ok(_)));
            Some((result, go_on.then_some(input)))
        })
        .boxed()
    }
}

fn unreachable_peer(status: &Status) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(describe(status)))
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotDir;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        let result = self.append_one(rpc, option.soft_ttl()).await?;
        Ok(match result {
            Ok(at) if at < last => AppendEntriesResponse::PartialSuccess(at),
            result => result.into(),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let timeout = option.soft_ttl();
            if self.purpose == Purpose::Heartbeat {
                return Ok(self.append_in_turn(input, timeout));
            }
            let idle = timeout.max(self.link.options().append_idle_timeout);
            let action = RPCTypes::AppendEntries;
            let replies = append::stream_append(self.link.clone(), input, idle);
            let this: &'s PeerNetwork = self;
            let replies = replies.map(move |item| item.map_err(|status| this.error(&status, action, idle)));
            Ok(replies.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let timeout = option.soft_ttl();
        let mut client = self.link.client(Lane::Control);
        let reply =
            self.link.call(vote_message(&rpc), timeout, |rpc| async move { client.vote(rpc).await }).await;
        reply.and_then(vote_response).map_err(|status| self.error(&status, RPCTypes::Vote, timeout))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        let timeout = option.soft_ttl();
        let mut client = self.link.client(Lane::Control);
        let call =
            self.link.call(vote_message(&rpc), timeout, |rpc| async move { client.pre_vote(rpc).await });
        let reply = call.await.and_then(vote_response);
        reply.map_err(|status| self.error(&status, RPCTypes::Vote, timeout))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<TypeConfig>> {
        let timeout = option.soft_ttl();
        let mut client = self.link.client(Lane::Control);
        let send = |req| async move { client.transfer_leader(req).await };
        let reply = self.link.call(transfer_message(&req), timeout, send).await;
        reply
            .and_then(transfer_response)
            .map_err(|status| self.error(&status, RPCTypes::TransferLeader, timeout))
    }

    /// Takes as long as there is progress: a snapshot's size is not known to
    /// whoever set the time-out.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sending = snapshot::send(self.link.clone(), vote, &snapshot.meta, snapshot.snapshot);
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            sent = sending => sent,
        };
        let vote =
            sent.and_then(|reply| reply.vote.ok_or_else(|| malformed("a snapshot reply without a vote")));
        let timeout = self.link.options().snapshot_idle_timeout;
        let vote = vote.map_err(|status| {
            tracing::warn!(
                peer = format!("{:x}", self.link.peer()),
                error = describe(&status),
                "cannot send a snapshot"
            );
            self.error(&status, RPCTypes::InstallSnapshot, timeout)
        });
        match vote {
            Ok(vote) => Ok(SnapshotResponse::new(decode_vote(vote))),
            Err(RPCError::Timeout(error)) => Err(StreamingError::Timeout(error)),
            Err(RPCError::Unreachable(error)) => Err(StreamingError::Unreachable(error)),
            Err(RPCError::Network(error)) => Err(StreamingError::Network(error)),
            Err(RPCError::RemoteError(error)) => match error.source {},
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let (min, max) = match self.purpose {
            Purpose::Snapshot => (SNAPSHOT_BACKOFF_MIN, SNAPSHOT_BACKOFF_MAX),
            Purpose::Replication | Purpose::Heartbeat => (BACKOFF_MIN, BACKOFF_MAX),
        };
        Some(Backoff::new(iter::successors(Some(min), move |pause| Some(max.min(*pause * 2)))))
    }
}
