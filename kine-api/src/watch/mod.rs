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
use stream::WatchStream;

/// Answers etcd's Watch calls from a store.
pub(crate) struct WatchService(pub(crate) Api);

#[async_trait]
impl Watch for WatchService {
    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<WatchStream>, Status> {
        let from = Identity::of(request.metadata(), request.extensions(), self.0.config.client_cert_auth);
        Ok(Response::new(WatchStream::new(self.0.clone(), from, Box::pin(request.into_inner()))))
    }
}
