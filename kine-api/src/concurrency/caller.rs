//! Calls of the other services on behalf of a client.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::Extensions;
use skiff_store::ApiError;
use skiff_store::pb::etcdserverpb as pb;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::kv::KvService;
use crate::lease::LeaseService;
use crate::services::kv_server::Kv;
use crate::services::lease_server::Lease;
use crate::watch::{Requests, WatchService, WatchStream};

/// Seconds that a lease lives which a caller without one is given, as in etcd.
const NEW_LEASE_TTL: i64 = 60;

/// What errors of etcd's own start with.
const ETCD_ERROR: &str = "etcdserver: ";

/// A client whose call needs others: what came with it goes with them.
pub(super) struct Caller {
    api: Api,
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Caller {
    /// Takes a request apart into who asks and what.
    pub(super) fn of<T>(api: &Api, request: Request<T>) -> (Self, T) {
        let (metadata, extensions, message) = request.into_parts();
        (Self { api: api.clone(), metadata, extensions }, message)
    }

    /// Longest time a single call should take.
    pub(super) fn patience(&self) -> Duration {
        self.api.config.request_timeout
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }

    fn kv(&self) -> KvService {
        KvService(self.api.clone())
    }

    pub(super) async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        answer(self.kv().range(self.request(request)).await)
    }

    pub(super) async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        answer(self.kv().txn(self.request(request)).await)
    }

    pub(super) async fn delete(&self, key: Bytes) -> Result<pb::DeleteRangeResponse, Status> {
        let request = pb::DeleteRangeRequest { key, ..Default::default() };
        answer(self.kv().delete_range(self.request(request)).await)
    }

    /// The lease to act with: the given one, or a new one for 0. Whether it
    /// lives shows when a key is attached to it.
    pub(super) async fn lease(&self, given: i64) -> Result<i64, Status> {
        if given != 0 {
            return Ok(given);
        }
        let request = pb::LeaseGrantRequest { ttl: NEW_LEASE_TTL, id: 0 };
        answer(LeaseService(self.api.clone()).lease_grant(self.request(request)).await).map(|lease| lease.id)
    }

    /// Starts one watch.
    pub(super) fn watch(&self, request: pb::WatchCreateRequest) -> Events {
        let create = pb::watch_request::RequestUnion::CreateRequest(request);
        let request = pb::WatchRequest { request_union: Some(create) };
        let requests: Requests = Box::pin(futures::stream::iter([Ok(request)]));
        Events(WatchService(self.api.clone()).open(self.request(requests)))
    }
}

/// The responses of one watch.
pub(super) struct Events(WatchStream);

impl Events {
    /// The next response with events.
    ///
    /// # Errors
    /// Why the watch has ended.
    pub(super) async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        while let Some(response) = self.0.next().await {
            let response = response.map_err(|status| as_told_by_client(&status))?;
            if response.compact_revision != 0 {
                return Err(Status::unknown(ApiError::Compacted.text()));
            }
            if response.canceled {
                return Err(as_told_by_client(&Status::failed_precondition(response.cancel_reason)));
            }
            if !response.events.is_empty() {
                return Ok(response);
            }
        }
        Err(Status::unknown("lost watcher waiting for delete"))
    }
}

fn answer<T>(answer: Result<Response<T>, Status>) -> Result<T, Status> {
    answer.map(Response::into_inner).map_err(|status| as_told_by_client(&status))
}

/// etcd's services reach its KV through its own client library, whose errors
/// carry no gRPC code any more: they come out as UNKNOWN, with their text.
fn as_told_by_client(status: &Status) -> Status {
    let code = if status.message().starts_with(ETCD_ERROR) { tonic::Code::Unknown } else { status.code() };
    Status::new(code, status.message())
}
