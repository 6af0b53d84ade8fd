//! The etcd v3 API over a store: gRPC and HTTP on one port.
//!
//! * [`router`]: everything as one [`axum::Router`]; the binary owns
//!   listeners, TLS and HTTP/2 settings.
//! * [`ApiConfig`]: limits and intervals.
//! * [`services`]: the generated gRPC servers and clients.
//! * `kv`, `watch`, `lease`, `cluster`, `maintenance`, `auth`: the services.
//! * `validate`: the checks etcd makes before a request reaches the store.
//! * `layer`: what holds for every call: metadata, limits, metrics, cutting of
//!   streams, warnings about slow requests.
//! * `http`: health, version, metrics.
//!
//! # What a request costs here
//!
//! A put is decoded once (`bytes` fields share the frame's buffer), checked
//! without an allocation, and moved into the store; its answer is one header.
//! A get moves the store's pairs into the answer without copying values; they
//! are copied once, into the gRPC frame. Beside that a call takes four boxed
//! futures or bodies (axum's route and response body, tonic's method future
//! and request body) and some atomic counters.
//!
//! # Not implemented
//!
//! Users, roles and tokens (the `Auth` service answers only what holds without
//! them), the `Election` and `Lock` services (etcdctl's commands of that name
//! do without), and the JSON gateway.

mod api;
mod auth;
mod cluster;
mod config;
mod http;
mod kv;
mod layer;
mod lease;
mod maintenance;
mod metrics;
mod router;
mod status;
mod trace;
mod validate;
mod version;
mod watch;

/// The generated gRPC servers and clients of etcd's packages.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod services {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));

    /// Descriptors of etcd's packages, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

pub use config::ApiConfig;
pub use router::{metrics_router, router};
pub use status::to_status;
pub use trace::{Span, Spans, Tracing};
pub use version::ETCD_VERSION;
