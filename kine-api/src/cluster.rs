//! The Cluster service.

use async_trait::async_trait;
use skiff_store::Access;
use skiff_store::pb::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::services::cluster_server::Cluster;
use crate::{to_status, validate};

/// Answers etcd's Cluster calls from the membership.
pub(crate) struct ClusterService(pub(crate) Api);

#[async_trait]
impl Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let (from, request) = self.0.split(request);
        validate::peer_urls(&request.peer_ur_ls).map_err(to_status)?;
        self.0.authorize(from, Access::Admin).await?;
        let (member, members) =
            self.0.cluster.add(request.peer_ur_ls, request.is_learner).await.map_err(to_status)?;
        let header = Some(self.0.header(0));
        Ok(Response::new(pb::MemberAddResponse { header, member: Some(member), members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let (from, request) = self.0.split(request);
        self.0.authorize(from, Access::Admin).await?;
        let members = self.0.cluster.remove(request.id).await.map_err(to_status)?;
        Ok(Response::new(pb::MemberRemoveResponse { header: Some(self.0.header(0)), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let (from, request) = self.0.split(request);
        self.0.authorize(from, Access::Admin).await?;
        let members = self.0.cluster.update(request.id, request.peer_ur_ls).await.map_err(to_status)?;
        Ok(Response::new(pb::MemberUpdateResponse { header: Some(self.0.header(0)), members }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let (from, request) = self.0.split(request);
        self.0.authorize(from, Access::Identified).await?;
        let members = self.0.cluster.members(request.linearizable).await.map_err(to_status)?;
        Ok(Response::new(pb::MemberListResponse { header: Some(self.0.header(0)), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let (from, request) = self.0.split(request);
        self.0.authorize(from, Access::Admin).await?;
        let members = self.0.cluster.promote(request.id).await.map_err(to_status)?;
        Ok(Response::new(pb::MemberPromoteResponse { header: Some(self.0.header(0)), members }))
    }
}
