//! The Election service.

use std::pin::Pin;

use async_trait::async_trait;
use futures::Stream;
use skiff_store::pb::v3electionpb as pb;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::claim::{self, Claim};
use super::detached::{Gone, canceled, detached};
use super::observe::Observer;
use super::prefix::Prefix;
use crate::api::Api;
use crate::services::election_server::Election;

/// Answers etcd's Election calls from keys and leases.
pub(crate) struct ElectionService(pub(crate) Api);

type Leaders = Pin<Box<dyn Stream<Item = Result<pb::LeaderResponse, Status>> + Send>>;

#[async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        detached(|gone| campaign(caller, request, gone)).await.map(Response::new)
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let leader = request.leader.ok_or_else(missing_leader)?;
        let lease = caller.lease(leader.lease).await?;
        let header = claim::proclaim(&caller, &leader.key, leader.rev, lease, request.value).await?;
        Ok(Response::new(pb::ProclaimResponse { header }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let oldest = caller.range(Prefix::of(&request.name).oldest()).await?;
        match oldest.kvs.into_iter().next() {
            Some(kv) => Ok(Response::new(pb::LeaderResponse { header: oldest.header, kv: Some(kv) })),
            None => Err(Status::unknown("election: no leader")),
        }
    }

    type ObserveStream = Leaders;

    async fn observe(&self, request: Request<pb::LeaderRequest>) -> Result<Response<Leaders>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let observer = Observer::new(caller, Prefix::of(&request.name));
        let leaders = futures::stream::unfold(observer, |mut observer| async {
            observer.next().await.map(|leader| (Ok(leader), observer))
        });
        Ok(Response::new(Box::pin(leaders)))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let (caller, request) = Caller::of(&self.0, request);
        let leader = request.leader.ok_or_else(missing_leader)?;
        // Resigning needs no lease, but etcd makes one here too.
        caller.lease(leader.lease).await?;
        let header = claim::resign(&caller, &leader.key, leader.rev).await?;
        Ok(Response::new(pb::ResignResponse { header }))
    }
}

/// Enters the queue and waits for its turn. As in etcd, a candidate leaves the
/// queue when its caller is gone, but not when waiting fails; and it is not
/// asked whether its claim still stands: whoever acts as leader compares the
/// revision in the answer.
async fn campaign(
    caller: Caller,
    request: pb::CampaignRequest,
    gone: Gone,
) -> Result<pb::CampaignResponse, Status> {
    let entered = Claim::enter(caller, &request.name, request.lease, request.value.clone()).await?;
    let claim = entered.claim;
    if entered.found.is_some_and(|pair| pair.value != request.value)
        && let Err(status) = claim.proclaim(request.value).await
    {
        if !claim::is_not_leader(&status) {
            claim.leave().await;
        }
        return Err(status);
    }
    let Some(turn) = gone.or(claim.turn()).await else {
        claim.leave().await;
        return Err(canceled());
    };
    turn?;
    let leader =
        pb::LeaderKey { name: request.name, key: claim.key, rev: claim.revision, lease: claim.lease };
    Ok(pb::CampaignResponse { header: Some(entered.header), leader: Some(leader) })
}

fn missing_leader() -> Status {
    Status::unknown("\"leader\" field must be provided")
}
