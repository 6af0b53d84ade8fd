//! The membership of a store that has one member for good: it answers as etcd
//! would for one member.

use async_trait::async_trait;

use crate::api::Cluster;
use crate::error::{ApiError, NodeError, Result};
use crate::pb::etcdserverpb as pb;

/// A store of one member: its [`Cluster`].
pub trait Sole: Send + Sync + 'static {
    /// The member.
    fn member(&self) -> &pb::Member;
}

fn check_member(sole: &impl Sole, id: u64) -> Result<()> {
    if id == sole.member().id { Ok(()) } else { Err(ApiError::MemberNotFound.into()) }
}

#[async_trait]
impl<T: Sole> Cluster for T {
    async fn members(&self, _linearizable: bool) -> Result<Vec<pb::Member>> {
        Ok(vec![self.member().clone()])
    }

    async fn add(&self, _peer_urls: Vec<String>, _is_learner: bool) -> Result<(pb::Member, Vec<pb::Member>)> {
        Err(ApiError::NotCapable.into())
    }

    async fn remove(&self, id: u64) -> Result<Vec<pb::Member>> {
        check_member(self, id)?;
        Err(ApiError::NotEnoughStartedMembers.into())
    }

    async fn update(&self, id: u64, _peer_urls: Vec<String>) -> Result<Vec<pb::Member>> {
        check_member(self, id)?;
        Err(ApiError::NotCapable.into())
    }

    async fn promote(&self, id: u64) -> Result<Vec<pb::Member>> {
        check_member(self, id)?;
        Err(ApiError::MemberNotLearner.into())
    }

    async fn move_leader(&self, target: u64) -> Result<()> {
        if target == self.member().id { Ok(()) } else { Err(NodeError::BadLeaderTransferee.into()) }
    }

    async fn downgrade(&self, _request: pb::DowngradeRequest) -> Result<String> {
        Err(ApiError::NotCapable.into())
    }
}
