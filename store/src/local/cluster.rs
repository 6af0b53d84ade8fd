//! The membership of a store that has one member for good.

use async_trait::async_trait;

use super::LocalStore;
use crate::api::Cluster;
use crate::error::{ApiError, NodeError, Result};
use crate::pb::etcdserverpb as pb;

impl LocalStore {
    fn member(&self) -> pb::Member {
        self.shared.config.member.clone()
    }

    fn check_member(&self, id: u64) -> Result<()> {
        if id == self.shared.config.member.id { Ok(()) } else { Err(ApiError::MemberNotFound.into()) }
    }
}

#[async_trait]
impl Cluster for LocalStore {
    async fn members(&self, _linearizable: bool) -> Result<Vec<pb::Member>> {
        Ok(vec![self.member()])
    }

    async fn add(&self, _peer_urls: Vec<String>, _is_learner: bool) -> Result<(pb::Member, Vec<pb::Member>)> {
        Err(ApiError::NotCapable.into())
    }

    async fn remove(&self, id: u64) -> Result<Vec<pb::Member>> {
        self.check_member(id)?;
        Err(ApiError::NotEnoughStartedMembers.into())
    }

    async fn update(&self, id: u64, _peer_urls: Vec<String>) -> Result<Vec<pb::Member>> {
        self.check_member(id)?;
        Err(ApiError::NotCapable.into())
    }

    async fn promote(&self, id: u64) -> Result<Vec<pb::Member>> {
        self.check_member(id)?;
        Err(ApiError::MemberNotLearner.into())
    }

    async fn move_leader(&self, target: u64) -> Result<()> {
        if target == self.shared.config.member.id {
            Ok(())
        } else {
            Err(NodeError::BadLeaderTransferee.into())
        }
    }

    async fn downgrade(&self, _request: pb::DowngradeRequest) -> Result<String> {
        Err(ApiError::NotCapable.into())
    }
}
