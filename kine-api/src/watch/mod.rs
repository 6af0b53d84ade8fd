//! The Watch service: many watches over one stream.

mod fragment;
mod ready;
mod stream;

use async_trait::async_trait;
use skiff_store::pb::etcdserverpb::WatchRequest;
use tonic::{Request, Response, Status, Streaming};

use crate::api::Api;
use crate::auth::Identity;
use crate::services::watch_server::Watch;
pub(crate) use stream::{Requests, WatchStream};

/// Answers etcd's Watch calls from a store.
pub(crate) struct WatchService(pub(crate) Api);

impl WatchService {
    /// Answers a call that may come from within the process.
    pub(crate) fn open(&self, request: Request<Requests>) -> WatchStream {
        let from = Identity::of(request.metadata(), request.extensions(), self.0.config.client_cert_auth);
        WatchStream::new(self.0.clone(), from, request.into_inner())
    }
}

#[async_trait]
impl Watch for WatchService {
    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<WatchStream>, Status> {
        Ok(Response::new(self.open(request.map(|requests| Box::pin(requests) as Requests))))
    }
}
