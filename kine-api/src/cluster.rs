//! The Cluster service.

use async_trait::async_trait;
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
        let request = request.into_inner();
        validate::peer_urls(&request.peer_ur_ls).map_err(to_status)?;
        let (member, members) =
            self.0.cluster.add(request.peer_ur_ls, request.is_learner).await.map_err(to_status)?;
        let header = Some(self.0.header(0));
        Ok(Response::new(pb::MemberAddResponse { header, member: Some(member), members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let members = self.0.cluster.remove(request.into_inner().id).await.map_err(to_status)?;
        Ok(Response::new(pb::MemberRemoveResponse { header: Some(self.0.header(0)), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let request = request.into_inner();
        let members = self.0.cluster.update(request.id, request.peer_ur_ls).await.map_err(to_status)?;
        Ok(Response::new(pb::MemberUpdateResponse { header: Some(self.0.header(0)), members }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let members = self.0.cluster.members(request.into_inner().linearizable).await.map_err(to_status)?;
        Ok(Response::new(pb::MemberListResponse { header: Some(self.0.header(0)), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let members = self.0.cluster.promote(request.into_inner().id).await.map_err(to_status)?;
        Ok(Response::new(pb::MemberPromoteResponse { header: Some(self.0.header(0)), members }))
    }
}
