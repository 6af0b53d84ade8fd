//! Puts gRPC and HTTP on one router.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use skiff_store::{Cluster, Store};
use tokio::sync::watch;
use tonic_reflection::server::Builder as Reflection;

use crate::api::Api;
use crate::auth::AuthService;
use crate::cluster::ClusterService;
use crate::concurrency::{ElectionService, LockService};
use crate::kv::KvService;
use crate::layer::{self, Cutter, Gate};
use crate::lease::LeaseService;
use crate::maintenance::MaintenanceService;
use crate::services::{
    auth_server, cluster_server, election_server, kv_server, lease_server, lock_server, maintenance_server,
    watch_server,
};
use crate::watch::WatchService;
use crate::{ApiConfig, gateway, http as web, metrics};

/// The whole API: gRPC, its JSON gateway, health, version and metrics.
///
/// Requests that carry an [`axum::extract::ConnectInfo`] of a socket address are
/// logged with it. `shutdown` turns true when the member stops: streams then end with
/// "etcdserver: server stopped", so that connections can drain. Must be called
/// within a tokio runtime that lives as long as the router.
pub fn router(
    store: Arc<dyn Store>,
    cluster: Arc<dyn Cluster>,
    config: ApiConfig,
    shutdown: watch::Receiver<bool>,
) -> Router {
    metrics::init();
    let cutter = Cutter::start(store.leader(), shutdown, config.election_timeout);
    let api = Api::new(store, cluster, config);
    let serve_metrics = api.config.serve_metrics;
    let grpc = grpc(&api, &cutter);
    let mut router = grpc.clone().merge(web::routes(api.clone()));
    if api.config.gateway {
        match gateway::routes(grpc, &api) {
            Ok(routes) => router = router.merge(routes),
            Err(error) => tracing::error!(%error, "build the JSON gateway"),
        }
    }
    if serve_metrics {
        router = router.merge(web::metrics_routes(api));
    }
    router.fallback(fallback)
}

/// Only metrics and health, for `--listen-metrics-urls`.
pub fn metrics_router(store: Arc<dyn Store>, cluster: Arc<dyn Cluster>, config: ApiConfig) -> Router {
    metrics::init();
    let api = Api::new(store, cluster, config);
    web::health_routes(api.clone()).merge(web::metrics_routes(api)).fallback(fallback)
}

fn grpc(api: &Api, cutter: &Cutter) -> Router {
    // The gate bounds messages, with etcd's error; tonic's own bound is off.
    let mut router = Router::new();
    macro_rules! serve {
        ($path:literal, $service:expr) => {
            let gate = Gate::new($service, api.clone(), cutter.clone());
            router = router.route_service(concat!("/", $path, "/{*method}"), gate);
        };
    }
    macro_rules! etcd {
        ($path:literal, $server:path, $service:expr) => {
            let server = <$server>::new($service(api.clone()));
            let server = server.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX);
            serve!($path, server);
        };
    }
    etcd!("etcdserverpb.KV", kv_server::KvServer<_>, KvService);
    etcd!("etcdserverpb.Watch", watch_server::WatchServer<_>, WatchService);
    etcd!("etcdserverpb.Lease", lease_server::LeaseServer<_>, LeaseService);
    etcd!("etcdserverpb.Cluster", cluster_server::ClusterServer<_>, ClusterService);
    etcd!("etcdserverpb.Maintenance", maintenance_server::MaintenanceServer<_>, MaintenanceService);
    etcd!("etcdserverpb.Auth", auth_server::AuthServer<_>, AuthService);
    etcd!("v3lockpb.Lock", lock_server::LockServer<_>, LockService);
    etcd!("v3electionpb.Election", election_server::ElectionServer<_>, ElectionService);
    // As etcd: the empty service name is served, any other is not known.
    let (_, health) = tonic_health::server::health_reporter();
    serve!("grpc.health.v1.Health", health);
    match reflection().build_v1() {
        Ok(service) => {
            serve!("grpc.reflection.v1.ServerReflection", service);
        }
        Err(error) => tracing::error!(%error, "build the reflection service"),
    }
    match reflection().build_v1alpha() {
        Ok(service) => {
            serve!("grpc.reflection.v1alpha.ServerReflection", service);
        }
        Err(error) => tracing::error!(%error, "build the reflection service"),
    }
    router
}

fn reflection() -> Reflection<'static> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(crate::services::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// A path without a handler, answered in the caller's protocol.
async fn fallback(request: Request) -> Response {
    if layer::is_grpc(request.headers()) {
        return layer::unknown(request.uri().path()).into_http::<axum::body::Body>();
    }
    web::plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}
