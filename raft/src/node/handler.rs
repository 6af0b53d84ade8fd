//! The node as peers see it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use skiff_store::error::{Error, NodeError, Result};
use skiff_store::pb::skiff::v1::{Command, CommandBatch};

use super::core::Core;
use super::{Node, corruption, leases, membership, quota, wire};
use crate::metrics::METRICS;
use crate::pb::skiff::raft::v1::{self as pb, reply::Answer, request::Ask};
use crate::peer::{PeerHandler, Reply, Request, TransferLeaderRequest, TransferLeaderResponse};
use crate::snapshot::SnapshotDir;
use crate::types::{Snapshot, SnapshotMeta, TypeConfig, Vote};

#[async_trait]
impl PeerHandler for Node {
    fn cluster_id(&self) -> u64 {
        self.core.cluster_id
    }

    fn member_id(&self) -> u64 {
        self.core.member_id
    }

    fn is_removed(&self, member: u64) -> bool {
        self.core.metadata.lock().removed.contains(&member)
    }

    async fn call(&self, request: Request) -> Reply {
        let answer = match request.ask {
            Some(ask) => answer(&self.core, ask).await,
            None => Err(Error::Other("a request this version does not know".into())),
        };
        Reply { answer: Some(answer.unwrap_or_else(|e| Answer::Error(wire::encode_error(&e)))) }
    }

    async fn append_entries(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RaftError<TypeConfig>> {
        self.core.hear();
        self.core.raft().append_entries(request).await
    }

    fn stream_append(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<TypeConfig>>,
    ) -> BoxStream<'static, Result<StreamAppendResult<TypeConfig>, Fatal<TypeConfig>>> {
        let core = self.core.clone();
        let requests = requests.inspect(move |_| core.hear());
        self.core.raft().stream_append(requests).boxed()
    }

    async fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, RaftError<TypeConfig>> {
        self.core.raft().vote(request).await
    }

    async fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, RaftError<TypeConfig>> {
        self.core.raft().pre_vote(request).await
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Fatal<TypeConfig>> {
        self.core.raft().handle_transfer_leader(request).await
    }

    fn new_snapshot_dir(&self, bytes: u64) -> std::io::Result<SnapshotDir> {
        let mut receiving = self.receiving.lock();
        if receiving.upgrade().is_some() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::ResourceBusy,
                "another snapshot is being received",
            ));
        }
        let dir = quota::check_room(&self.core, bytes).and_then(|()| {
            let dir = self.core.state_dir.scratch("recv");
            std::fs::create_dir(dir.path()).map(|()| dir)
        });
        let dir = dir.inspect_err(|error| self.snapshot_failed(&error.to_string()))?;
        *receiving = dir.downgrade();
        Ok(dir)
    }

    fn snapshot_failed(&self, why: &str) {
        tracing::error!(error = why, "cannot receive a snapshot; the leader tries again");
        let fault = format!("a snapshot cannot be received: {why}");
        *self.core.snapshot_fault.lock() = Some((self.core.shared.applied_index(), fault));
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        dir: SnapshotDir,
    ) -> Result<SnapshotResponse<TypeConfig>, Fatal<TypeConfig>> {
        self.core.hear();
        METRICS.snapshot_apply_in_progress.set(1);
        let installed = self.core.raft().install_full_snapshot(vote, Snapshot { meta, snapshot: dir }).await;
        METRICS.snapshot_apply_in_progress.set(0);
        installed
    }
}

async fn answer(core: &Arc<Core>, ask: Ask) -> Result<Answer> {
    core.check_running()?;
    Ok(match ask {
        Ask::Write(batch) => Answer::Write(write(core, batch).await?),
        Ask::ReadIndex(_) => {
            leads(core)?;
            let index = core.reads.barrier(core).await?;
            Answer::ReadIndex(pb::ReadIndexReply { index })
        }
        Ask::LeaseRenew(request) => {
            leads(core)?;
            let ttl = leases::renew_here(core, request.caller.as_ref(), request.id).await?;
            Answer::LeaseRenew(pb::LeaseRenewReply { ttl })
        }
        Ask::LeaseTimeToLive(request) => {
            leads(core)?;
            Answer::LeaseTimeToLive(leases::time_to_live_here(core, None, request).await?)
        }
        Ask::LeaseTimeToLiveBy(pb::LeaseTimeToLive { request, caller }) => {
            leads(core)?;
            // Without its caller it would be the members' own question.
            let caller = caller.unwrap_or_default();
            let request = request.unwrap_or_default();
            Answer::LeaseTimeToLive(leases::time_to_live_here(core, Some(&caller), request).await?)
        }
        Ask::MemberChange(request) => Answer::MemberChange(membership::change(core, request).await?),
        Ask::ClusterInfo(request) => {
            if request.linearizable {
                core.reads.barrier(core).await?;
            }
            let removed = core.metadata.lock().removed.iter().copied().collect();
            Answer::ClusterInfo(pb::ClusterInfoReply {
                cluster_id: core.cluster_id,
                member_id: core.member_id,
                members: core.members(),
                removed,
            })
        }
        Ask::MemberStatus(_) => Answer::MemberStatus(pb::MemberStatusReply {
            version: core.config.version.clone(),
            revision: core.shared.mvcc.revision(),
            applied_index: core.shared.applied_index(),
            term: core.term(),
        }),
        Ask::HashKv(request) => Answer::HashKv(corruption::answer(core, request).await?),
        Ask::Downgrade(_) => return Err(Error::Other("not asked of peers".into())),
    })
}

fn leads(core: &Core) -> Result<()> {
    if core.is_leader() { Ok(()) } else { Err(NodeError::NotLeader.into()) }
}

/// Proposes a follower's batch. Each command has its own outcome: one that
/// certainly did not happen is answered [`NodeError::NotLeader`], which the
/// follower tries again elsewhere. A command that this version does not know
/// must not get into the log: no member of this version could go on behind it.
async fn write(core: &Arc<Core>, batch: CommandBatch) -> Result<pb::WriteReplies> {
    leads(core)?;
    let submit = |command: Command| match command.op {
        Some(_) => core.proposer.submit(command, true),
        None => Err(Error::Other("a command this version does not know".into())),
    };
    let waits: Vec<_> = batch.commands.into_iter().map(submit).collect();
    let timeout = core.config.request_timeout();
    let deadline = tokio::time::Instant::now() + timeout;
    let mut replies = Vec::with_capacity(waits.len());
    let mut index = 0;
    for wait in waits {
        let reply = match wait {
            Err(e) => Err(e),
            Ok(wait) => match tokio::time::timeout_at(deadline, wait).await {
                Ok(Ok(Ok(done))) => {
                    index = index.max(done.index);
                    done.reply
                }
                Ok(Ok(Err(e))) => Err(e),
                Ok(Err(_)) => Err(NodeError::Stopped.into()),
                Err(_) => Err(core.timeout_error().into()),
            },
        };
        replies.push(wire::encode_write_reply(reply));
    }
    Ok(pb::WriteReplies { replies, index })
}
