//! The KV service.

use std::pin::Pin;

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{NodeError, StoreExt};
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::services::kv_server::Kv;
use crate::{metrics, to_status, validate};

/// Answers etcd's KV calls from a store.
pub(crate) struct KvService(pub(crate) Api);

type RangeStream = Pin<Box<dyn Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send>>;

impl KvService {
    /// A learner serves what it may answer from its own state.
    fn refuse_on_learner(&self, serializable: bool) -> Result<(), Status> {
        if !serializable && self.0.store.vitals().is_learner {
            return Err(to_status(NodeError::NotSupportedForLearner));
        }
        Ok(())
    }
}

#[async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let (from, request) = self.0.split(request);
        self.refuse_on_learner(request.serializable)?;
        validate::range(&request).map_err(to_status)?;
        let caller = self.0.caller(from).await?;
        let mut response = self.0.store.by(&caller).range(request).await.map_err(to_status)?;
        self.0.fill(&mut response.header);
        metrics::MVCC.range.inc();
        Ok(Response::new(response))
    }

    type RangeStreamStream = RangeStream;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<RangeStream>, Status> {
        let (from, request) = self.0.split(request);
        validate::range(&request).map_err(to_status)?;
        if !validate::range_stream(&request) {
            return Err(Status::unimplemented(
                "etcdserver: range stream does not support this sort or filter",
            ));
        }
        let caller = self.0.caller(from).await?;
        let pieces = self.0.store.read_stream(Some(&caller), request).await.map_err(to_status)?;
        metrics::MVCC.range.inc();
        let api = self.0.clone();
        let stream = pieces.map(move |piece| {
            let mut piece = piece.map_err(to_status)?;
            if piece.header.is_some() {
                api.fill(&mut piece.header);
            }
            Ok(pb::RangeStreamResponse { range_response: Some(piece) })
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let (from, request) = self.0.split(request);
        validate::put(&request).map_err(to_status)?;
        let caller = self.0.caller(from).await?;
        validate::proposal(&request, self.0.config.max_request_bytes).map_err(to_status)?;
        let bytes = request.key.len() + request.value.len();
        let mut response = self.0.store.by(&caller).put(request).await.map_err(to_status)?;
        metrics::PUT_BYTES.add(bytes as i64);
        self.0.fill(&mut response.header);
        metrics::MVCC.put.inc();
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let (from, request) = self.0.split(request);
        validate::delete_range(&request).map_err(to_status)?;
        let caller = self.0.caller(from).await?;
        validate::proposal(&request, self.0.config.max_request_bytes).map_err(to_status)?;
        let mut response = self.0.store.by(&caller).delete_range(request).await.map_err(to_status)?;
        self.0.fill(&mut response.header);
        metrics::MVCC.delete.inc();
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let (from, request) = self.0.split(request);
        validate::txn(&request, self.0.config.max_txn_ops).map_err(to_status)?;
        let caller = self.0.caller(from).await?;
        let store = self.0.store.by(&caller);
        let response = if validate::txn_reads_only(&request) {
            store.read_txn(request).await
        } else {
            validate::proposal(&request, self.0.config.max_request_bytes).map_err(to_status)?;
            store.txn(request).await
        };
        let mut response = response.map_err(to_status)?;
        self.0.fill(&mut response.header);
        metrics::MVCC.txn.inc();
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let (from, request) = self.0.split(request);
        let caller = self.0.caller(from).await?;
        let mut response = self.0.store.by(&caller).compact(request).await.map_err(to_status)?;
        self.0.fill(&mut response.header);
        Ok(Response::new(response))
    }
}
