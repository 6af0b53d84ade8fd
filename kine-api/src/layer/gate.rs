//! The gate every call passes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::ConnectInfo;
use http::{HeaderMap, Request, Response};
use skiff_store::{ApiError, NodeError};
use tonic::Status;
use tower::Service;

use super::body::{RequestBody, ResponseBody, code_of};
use super::call::Call;
use super::cut::{Cut, Cutter};
use super::method::{self, Kind, Method};
use super::patience;
use crate::api::Api;
use crate::{metrics, to_status};

/// Wraps a gRPC service.
#[derive(Clone)]
pub(crate) struct Gate<S> {
    inner: S,
    api: Api,
    cutter: Cutter,
}

impl<S> Gate<S> {
    pub(crate) fn new(inner: S, api: Api, cutter: Cutter) -> Self {
        Self { inner, api, cutter }
    }

    /// Checks role and metadata, in etcd's order; tells whether the call
    /// requires a leader.
    fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<bool, Status> {
        let vitals = self.api.store.vitals();
        if vitals.is_learner && !method.on_learner {
            return Err(to_status(NodeError::NotSupportedForLearner));
        }
        let version = match headers.get("client-api-version") {
            Some(value) => std::str::from_utf8(value.as_bytes())
                .map_err(|_| to_status(ApiError::InvalidClientApiVersion))?,
            None => "unknown",
        };
        metrics::count_client(method.kind == Kind::Unary, version);
        let requires_leader = headers.get("hasleader").is_some_and(|value| value.as_bytes() == b"true");
        if requires_leader && vitals.leader == 0 {
            return Err(to_status(NodeError::NoLeader));
        }
        Ok(requires_leader)
    }

    fn cut(&self, method: &Method, requires_leader: bool) -> Option<Cut> {
        (method.kind != Kind::Unary).then(|| self.cutter.cut(requires_leader))
    }

    /// The end of a call that waits for others.
    fn end(&self, method: &Method, headers: &HeaderMap) -> Option<Cut> {
        method.waits.then(|| patience::end(self.cutter.cut(false), headers))
    }
}

type Answer = Result<Response<ResponseBody>, Infallible>;

/// Awaits an answer, but not beyond `end`.
async fn until<F: Future>(answer: F, end: Option<Cut>) -> Result<F::Output, Status> {
    let Some(end) = end else { return Ok(answer.await) };
    tokio::select! {
        biased;
        answer = answer => Ok(answer),
        status = end => Err(status),
    }
}

fn refuse(status: Status, mut call: Call) -> Response<ResponseBody> {
    call.finish(status.code());
    status.into_http::<tonic::body::Body>().map(|body| ResponseBody::new(body, call, None))
}

impl<S> Service<Request<axum::body::Body>> for Gate<S>
where
    S: Service<Request<RequestBody>, Response = Response<tonic::body::Body>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<axum::body::Body>) -> Self::Future {
        let Some(method) = method::find(request.uri().path()) else {
            let status = method::unknown(request.uri().path());
            return Box::pin(async move { Ok(status.into_http::<()>().map(|_| ResponseBody::empty())) });
        };
        let remote = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let mut call = Call::start(method, &self.api.config, remote);
        if let Some(tracing) = &self.api.config.tracing {
            call.trace(tracing, request.headers());
        }
        let requires_leader = match self.admit(method, request.headers()) {
            Ok(requires_leader) => requires_leader,
            Err(status) => {
                let response = refuse(status, call);
                return Box::pin(async move { Ok(response) });
            }
        };
        let cut = self.cut(method, requires_leader);
        let end = self.end(method, request.headers());
        let max_message = self.api.config.max_message_bytes();
        let handled = self.inner.call(request.map(|body| RequestBody::new(body, max_message, call.metrics)));
        Box::pin(async move {
            let response = match until(handled, end).await {
                Ok(response) => response?,
                Err(status) => return Ok(refuse(status, call)),
            };
            if let Some(code) = code_of(response.headers()) {
                call.finish(code);
            }
            Ok(response.map(|body| ResponseBody::new(body, call, cut)))
        })
    }
}
