//! The etcd v3 API over a store: gRPC and HTTP on one port.
//!
//! * [`router`]: everything as one [`axum::Router`]; the binary owns
//!   listeners, TLS and HTTP/2 settings.
//! * [`ApiConfig`]: limits and intervals.
//! * [`services`]: the generated gRPC servers and clients.
//! * `auth`: who asks: tokens, certificates, passwords; and the Auth service.
//! * `kv`, `watch`, `lease`, `cluster`, `maintenance`: the other services.
//! * `concurrency`: the Lock and Election services, on top of those.
//! * `validate`: the checks etcd makes before a request reaches the store.
//! * `layer`: what holds for every call: metadata, limits, metrics, cutting of
//!   streams, warnings about slow requests.
//! * `http`: health, version, metrics.
//! * [`pass_through`]: the API of an etcd that runs elsewhere, in place of a store.
//! * `gateway`: every call as JSON over HTTP and WebSockets.
//!
//! # What a request costs here
//!
//! A put is decoded once (`bytes` fields share the frame's buffer), checked
//! without an allocation, and moved into the store; its answer is one header.
//! A get moves the store's pairs into the answer without copying values; they
//! are copied once, into the gRPC frame. Beside that a call takes four boxed
//! futures or bodies (axum's route and response body, tonic's method future
//! and request body) and some atomic counters.

mod api;
mod auth;
mod cluster;
mod concurrency;
mod config;
mod gateway;
mod http;
mod kv;
mod layer;
mod lease;
mod maintenance;
mod metrics;
pub mod pass_through;
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
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));

    /// Descriptors of etcd's packages, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

pub use auth::{JwtKeys, JwtOptions, PeerIdentity, TokenKind};
pub use config::ApiConfig;
pub use router::{metrics_router, router};
pub use status::to_status;
pub use trace::{Span, Spans, Tracing};
pub use version::ETCD_VERSION;
