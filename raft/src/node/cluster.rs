//! The node as a [`Cluster`].

use std::time::Duration;

use async_trait::async_trait;
use skiff_store::api::Cluster;
use skiff_store::error::{ApiError, Error, NodeError, Result};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::{Command, command::Op};

use super::core::Core;
use super::{Node, membership, version, wire};
use crate::pb::skiff::raft::v1::{
    MemberChange, MemberChangeReply, member_change, reply::Answer, request::Ask,
};

/// Pause before asking again who leads.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

#[async_trait]
impl Cluster for Node {
    async fn members(&self, linearizable: bool) -> Result<Vec<pb::Member>> {
        self.core.check_running()?;
        if linearizable {
            self.core.reads.barrier(&self.core).await?;
        }
        Ok(self.core.members())
    }

    async fn add(&self, peer_urls: Vec<String>, is_learner: bool) -> Result<(pb::Member, Vec<pb::Member>)> {
        let request = pb::MemberAddRequest { peer_ur_ls: peer_urls, is_learner };
        let reply = self.change(member_change::Change::Add(request)).await?;
        let added = reply.added.ok_or_else(|| Error::Other("the added member is gone again".into()))?;
        Ok((added, reply.members))
    }

    async fn remove(&self, id: u64) -> Result<Vec<pb::Member>> {
        let request = pb::MemberRemoveRequest { id };
        Ok(self.change(member_change::Change::Remove(request)).await?.members)
    }

    async fn update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<pb::Member>> {
        let request = pb::MemberUpdateRequest { id, peer_ur_ls: peer_urls };
        Ok(self.change(member_change::Change::Update(request)).await?.members)
    }

    async fn promote(&self, id: u64) -> Result<Vec<pb::Member>> {
        let request = pb::MemberPromoteRequest { id };
        Ok(self.change(member_change::Change::Promote(request)).await?.members)
    }

    async fn move_leader(&self, target: u64) -> Result<()> {
        let core = &self.core;
        core.check_running()?;
        if !core.is_leader() {
            return Err(NodeError::NotLeader.into());
        }
        if !core.membership().voter_ids().any(|id| id == target) {
            return Err(NodeError::BadLeaderTransferee.into());
        }
        if target == core.member_id {
            return Ok(());
        }
        transfer(core, target, core.config.request_timeout()).await
    }

    async fn downgrade(&self, request: pb::DowngradeRequest) -> Result<String> {
        use pb::downgrade_request::DowngradeAction;
        let core = &self.core;
        core.check_running()?;
        core.reads.barrier(core).await?;
        let mvcc = &core.shared.mvcc;
        let current = mvcc.cluster_version();
        if current.is_empty() {
            return Err(ApiError::ClusterVersionUnavailable.into());
        }
        let enabled = mvcc.downgrade().is_some_and(|info| info.enabled);
        let action = request.action();
        let info = if action == DowngradeAction::Cancel {
            if !enabled {
                return Err(ApiError::NoInflightDowngrade.into());
            }
            pb::DowngradeInfo::default()
        } else {
            // Own versions may begin with a "v"; this one, as in etcd, must not.
            let plain = Some(request.version.as_str()).filter(|text| !text.starts_with('v'));
            let target = plain.and_then(version::parse).ok_or(ApiError::WrongDowngradeVersionFormat)?;
            let now = version::parse(&current).ok_or(ApiError::ClusterVersionUnavailable)?;
            if (target.0, target.1 + 1) != (now.0, now.1) {
                return Err(ApiError::InvalidDowngradeTargetVersion.into());
            }
            if enabled {
                return Err(ApiError::DowngradeInProcess.into());
            }
            if action == DowngradeAction::Validate {
                return Ok(current);
            }
            pb::DowngradeInfo { enabled: true, target_version: format!("{}.{}.0", target.0, target.1) }
        };
        core.execute(Command::from(Op::Downgrade(info))).await?;
        Ok(current)
    }
}

impl Node {
    /// Changes the membership, here or at the leader. Never asks twice where
    /// the outcome of the first time is unknown.
    async fn change(&self, change: member_change::Change) -> Result<MemberChangeReply> {
        let core = &self.core;
        core.check_running()?;
        let request = MemberChange { change: Some(change) };
        let work = async {
            loop {
                let leader = core.leader();
                let outcome = if leader == 0 {
                    Err(NodeError::NotLeader.into())
                } else if leader == core.member_id {
                    membership::change(core, request.clone()).await
                } else {
                    ask_leader(core, leader, request.clone()).await
                };
                match outcome {
                    Err(Error::Node(NodeError::NotLeader)) => tokio::time::sleep(RETRY_PAUSE).await,
                    done => return done,
                }
            }
        };
        match tokio::time::timeout(core.config.request_timeout(), core.until_stop(work)).await {
            Ok(Some(done)) => done,
            Ok(None) => Err(NodeError::Stopped.into()),
            Err(_) => Err(core.timeout_error().into()),
        }
    }
}

async fn ask_leader(core: &Core, leader: u64, request: MemberChange) -> Result<MemberChangeReply> {
    use crate::peer::CallError;
    match core.call(leader, Ask::MemberChange(request), core.config.request_timeout()).await {
        Ok(Answer::MemberChange(reply)) => {
            core.shared.wait_applied(reply.index).await;
            Ok(reply)
        }
        Ok(Answer::Error(e)) => Err(wire::decode_error(e)),
        Ok(_) => Err(Error::Other("a peer answered another question".into())),
        Err(CallError::Unreachable(_) | CallError::Refused(_) | CallError::Removed) => {
            Err(NodeError::NotLeader.into())
        }
        Err(CallError::Lost(_)) => Err(NodeError::TimeoutConnectionLost.into()),
        Err(CallError::Timeout) => Err(NodeError::Timeout.into()),
    }
}

/// Hands leadership to `target` and waits until it leads.
pub(crate) async fn transfer(core: &Core, target: u64, timeout: Duration) -> Result<()> {
    let mut leader = core.watch_leader();
    core.raft().trigger().transfer_leader(target).await.map_err(|_| NodeError::Stopped)?;
    match tokio::time::timeout(timeout, leader.wait_for(|id| *id == target)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(core.timeout_error().into()),
    }
}
