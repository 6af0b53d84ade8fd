//! Limits and intervals of the API.

use std::time::Duration;

use crate::Tracing;
use crate::auth::TokenKind;

/// Settings of the API, with etcd's defaults.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Largest request the store takes, in bytes (`--max-request-bytes`). A
    /// gRPC message may be larger by [`ApiConfig::GRPC_OVERHEAD_BYTES`].
    pub max_request_bytes: usize,
    /// Most operations of a transaction (`--max-txn-ops`).
    pub max_txn_ops: usize,
    /// Interval of progress notifications (`--watch-progress-notify-interval`).
    pub progress_interval: Duration,
    /// A unary request slower than this is logged
    /// (`--warning-unary-request-duration`); zero for never.
    pub slow_request: Duration,
    /// Election timeout: streams that ask for a leader are cut after three of
    /// them without one.
    pub election_timeout: Duration,
    /// Time a health check waits for a read.
    pub request_timeout: Duration,
    /// Measure handling times of calls (`--metrics=extensive`).
    pub extensive_metrics: bool,
    /// Serve `/metrics` beside the rest.
    pub serve_metrics: bool,
    /// Kind of the tokens users get for their passwords (`--auth-token`).
    pub tokens: TokenKind,
    /// Cost of hashing passwords (`--bcrypt-cost`).
    pub bcrypt_cost: u32,
    /// The common name of a client's certificate names its user
    /// (`--client-cert-auth`).
    pub client_cert_auth: bool,
    /// Serve every call as JSON over HTTP too (`--enable-grpc-gateway`).
    pub gateway: bool,
    /// Most WebSockets open at a time.
    pub max_websockets: usize,
    /// Spans of requests; `None` for none.
    pub tracing: Option<Tracing>,
}

impl ApiConfig {
    /// Bytes a gRPC message may be larger than a request.
    pub const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

    /// Largest gRPC message taken, in bytes.
    pub fn max_message_bytes(&self) -> usize {
        self.max_request_bytes.saturating_add(Self::GRPC_OVERHEAD_BYTES)
    }
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            progress_interval: Duration::from_secs(600),
            slow_request: Duration::from_millis(300),
            election_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(7),
            extensive_metrics: false,
            serve_metrics: true,
            tokens: TokenKind::Simple,
            bcrypt_cost: 10,
            client_cert_auth: false,
            gateway: true,
            max_websockets: 1024,
            tracing: None,
        }
    }
}
