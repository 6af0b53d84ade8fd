//! Puts the pass-through on one router.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use tokio::sync::{Semaphore, watch};

use super::pool::Pool;
use super::{Endpoint, Options, forward, web};
use crate::http as own;
use crate::layer::is_grpc;

/// What requests share.
pub(super) struct Passing {
    pub(super) pool: Pool,
    pub(super) options: Arc<Options>,
    pub(super) calls: Arc<Semaphore>,
    pub(super) http: Arc<Semaphore>,
    pub(super) shutdown: watch::Receiver<bool>,
}

/// Everything an etcd serves, from the etcd at `endpoints`. Only `/health`,
/// `/livez`, `/readyz` and `/metrics` are this process's own.
///
/// Requests that carry an [`axum::extract::ConnectInfo`] of a socket address are
/// passed on with it as `x-forwarded-for`. `shutdown` turns true when the
/// server stops: streams then end with "etcdserver: server stopped". Must be
/// called within a tokio runtime that lives as long as the router.
///
/// # Errors
/// There is no endpoint, or one needs TLS and no TLS is given.
pub fn router(
    endpoints: Vec<Endpoint>,
    options: Options,
    shutdown: watch::Receiver<bool>,
) -> Result<Router, String> {
    if endpoints.is_empty() {
        return Err("no etcd endpoint is given".to_owned());
    }
    if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.uses_tls() && options.tls.is_none()) {
        return Err(format!("endpoint {endpoint} uses TLS, but no TLS is configured for it"));
    }
    let options = Arc::new(options);
    let passing = Arc::new(Passing {
        pool: Pool::start(endpoints, options.clone()),
        calls: Arc::new(Semaphore::new(options.max_calls.min(Semaphore::MAX_PERMITS))),
        http: Arc::new(Semaphore::new(options.max_http_connections.min(Semaphore::MAX_PERMITS))),
        options: options.clone(),
        shutdown,
    });
    let mut router = Router::new()
        .route("/health", any(web::health))
        .route("/readyz", any(web::ready))
        .route("/livez", any(web::live));
    if options.serve_metrics {
        router = router.route("/metrics", any(|| async { own::gathered() }));
    }
    Ok(router.fallback(pass).with_state(passing))
}

async fn pass(State(passing): State<Arc<Passing>>, request: Request) -> Response {
    if is_grpc(request.headers()) {
        forward::call(&passing, request).await
    } else {
        web::pass(&passing, request).await
    }
}
