//! The Lease service.

use std::pin::Pin;

use async_trait::async_trait;
use futures::Stream;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{ApiError, Error, StoreExt};
use tonic::{Request, Response, Status, Streaming};

use crate::api::Api;
use crate::auth::Identity;
use crate::services::lease_server::Lease;
use crate::to_status;

/// Answers etcd's Lease calls from a store.
pub(crate) struct LeaseService(pub(crate) Api);

type KeepAliveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Api(ApiError::LeaseNotFound))
}

/// Renews one lease. The header is taken before, so that its revision is not
/// above the state in which the lease was seen alive.
async fn renew(api: &Api, from: &Identity, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let header = Some(api.header(0));
    let caller = api.identify(from).await?;
    let ttl = match api.store.by(&caller).lease_keep_alive(pb::LeaseKeepAliveRequest { id }).await {
        Ok(response) => response.ttl,
        Err(error) if is_missing(&error) => 0,
        Err(error) => return Err(to_status(error)),
    };
    Ok(pb::LeaseKeepAliveResponse { header, id, ttl })
}

/// The next answer of a keepalive stream; `None` once the client is done.
async fn next_renewal(
    api: &Api,
    from: &Identity,
    requests: &mut Streaming<pb::LeaseKeepAliveRequest>,
) -> Result<Option<pb::LeaseKeepAliveResponse>, Status> {
    match requests.message().await? {
        Some(request) => renew(api, from, request.id).await.map(Some),
        None => Ok(None),
    }
}

#[async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let (from, request) = self.0.split(request);
        let caller = self.0.caller(from).await?;
        let mut response = self.0.store.by(&caller).lease_grant(request).await.map_err(to_status)?;
        self.0.fill(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let (from, request) = self.0.split(request);
        let caller = self.0.caller(from).await?;
        let mut response = self.0.store.by(&caller).lease_revoke(request).await.map_err(to_status)?;
        self.0.fill(&mut response.header);
        Ok(Response::new(response))
    }

    type LeaseKeepAliveStream = KeepAliveStream;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<KeepAliveStream>, Status> {
        let from = Identity::of(request.metadata(), request.extensions(), self.0.config.client_cert_auth);
        let state = Some((self.0.clone(), from, request.into_inner()));
        let stream = futures::stream::unfold(state, |state| async move {
            let (api, from, mut requests) = state?;
            match next_renewal(&api, &from, &mut requests).await {
                Ok(Some(response)) => Some((Ok(response), Some((api, from, requests)))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let (from, request) = self.0.split(request);
        let caller = self.0.caller(from).await?;
        let id = request.id;
        let mut response = match self.0.store.by(&caller).lease_time_to_live(request).await {
            Ok(response) => response,
            Err(error) if is_missing(&error) => {
                pb::LeaseTimeToLiveResponse { id, ttl: -1, ..Default::default() }
            }
            Err(error) => return Err(to_status(error)),
        };
        self.0.fill(&mut response.header);
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let (from, request) = self.0.split(request);
        let caller = self.0.caller(from).await?;
        let mut response = self.0.store.by(&caller).lease_leases(request).await.map_err(to_status)?;
        self.0.fill(&mut response.header);
        Ok(Response::new(response))
    }
}
