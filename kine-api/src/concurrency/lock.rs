//! The Lock service.

use async_trait::async_trait;
use bytes::Bytes;
use skiff_store::pb::v3lockpb as pb;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::claim::Claim;
use super::detached::{Gone, canceled, detached};
use crate::api::Api;
use crate::services::lock_server::Lock;

/// Answers etcd's Lock calls from keys and leases.
pub(crate) struct LockService(pub(crate) Api);

#[async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<pb::LockRequest>) -> Result<Response<pb::LockResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        detached(|gone| acquire(caller, request, gone)).await.map(Response::new)
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let deleted = caller.delete(request.key).await?;
        Ok(Response::new(pb::UnlockResponse { header: deleted.header }))
    }
}

/// Enters the queue and waits for its turn. Who gives up waiting, for whatever
/// reason, leaves the queue.
///
/// A lock that was free is held, as in etcd, even if the caller has gone since:
/// the same lease may hold it by another call already.
async fn acquire(caller: Caller, request: pb::LockRequest, gone: Gone) -> Result<pb::LockResponse, Status> {
    let entered = Claim::enter(caller, &request.name, request.lease, Bytes::new()).await?;
    let claim = entered.claim;
    let holder = entered.oldest.map_or(claim.revision, |pair| pair.create_revision);
    if holder == claim.revision {
        return Ok(pb::LockResponse { header: Some(entered.header), key: claim.key });
    }
    let held = async {
        claim.turn().await?;
        claim.confirm().await
    };
    match gone.or(held).await.unwrap_or_else(|| Err(canceled())) {
        Ok(header) => Ok(pb::LockResponse { header, key: claim.key }),
        Err(status) => {
            claim.leave().await;
            Err(status)
        }
    }
}
