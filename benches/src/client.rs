//! A bare client: one gRPC channel, etcd's method paths, no retries, so that
//! what is measured is the server.

use futures::stream::{self, StreamExt};
use http::uri::PathAndQuery;
use prost::Message;
use skiff_store::pb::etcdserverpb as pb;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// A connection to one endpoint.
#[derive(Clone)]
pub(crate) struct Client {
    grpc: Grpc<Channel>,
}

impl Client {
    /// Connects to `endpoint` (`http://host:port`).
    pub(crate) async fn connect(endpoint: &str) -> Result<Self, tonic::transport::Error> {
        let channel = Channel::from_shared(endpoint.to_owned())
            .map_err(|_| ())
            .unwrap_or_else(|()| Channel::from_static("http://127.0.0.1:2379"))
            .tcp_nodelay(true)
            .connect()
            .await?;
        Ok(Self { grpc: Grpc::new(channel).max_decoding_message_size(usize::MAX) })
    }

    async fn call<Q, R>(&mut self, path: &'static str, request: Q) -> Result<R, Status>
    where
        Q: Message + Send + Sync + 'static,
        R: Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let codec = ProstCodec::<Q, R>::default();
        let path = PathAndQuery::from_static(path);
        Ok(self.grpc.unary(Request::new(request), path, codec).await?.into_inner())
    }

    pub(crate) async fn put(&mut self, request: pb::PutRequest) -> Result<pb::PutResponse, Status> {
        self.call("/etcdserverpb.KV/Put", request).await
    }

    pub(crate) async fn range(&mut self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(crate) async fn txn(&mut self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }

    pub(crate) async fn compact(
        &mut self,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, Status> {
        self.call("/etcdserverpb.KV/Compact", request).await
    }

    /// Watches; the watch ends with the answers' drop.
    pub(crate) async fn watch(
        &mut self,
        request: pb::WatchCreateRequest,
    ) -> Result<tonic::Streaming<pb::WatchResponse>, Status> {
        self.grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let create = pb::watch_request::RequestUnion::CreateRequest(request);
        let create = pb::WatchRequest { request_union: Some(create) };
        let requests = stream::once(async { create }).chain(stream::pending());
        let codec = ProstCodec::<pb::WatchRequest, pb::WatchResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        Ok(self.grpc.streaming(Request::new(requests), path, codec).await?.into_inner())
    }
}
