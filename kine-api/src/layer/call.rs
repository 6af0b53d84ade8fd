//! One call under way: what is counted and measured of it.

use std::net::SocketAddr;
use std::time::Instant;

use http::HeaderMap;
use tonic::Code;
use tracing::warn;

use super::method::{Kind, Method};
use crate::metrics::{self, MethodMetrics};
use crate::trace::Open;
use crate::{ApiConfig, Tracing};

/// Records the outcome of a call when dropped. A call dropped before its
/// status was sent was cancelled by the client.
pub(super) struct Call {
    method: &'static Method,
    pub(super) metrics: &'static MethodMetrics,
    started: Instant,
    code: Option<Code>,
    sent_bytes: u64,
    slow_after: Option<std::time::Duration>,
    measured: bool,
    remote: Option<SocketAddr>,
    span: Option<Box<Open>>,
}

impl Call {
    /// Counts a call as started.
    pub(super) fn start(method: &'static Method, config: &ApiConfig, remote: Option<SocketAddr>) -> Self {
        let metrics = metrics::of_method(method);
        metrics.started.inc();
        let warns = method.kind == Kind::Unary && !method.waits && !config.slow_request.is_zero();
        Self {
            method,
            metrics,
            started: Instant::now(),
            code: None,
            sent_bytes: 0,
            slow_after: warns.then_some(config.slow_request),
            measured: config.extensive_metrics,
            remote,
            span: None,
        }
    }

    /// Lets the call leave a span, if its client or the sampling rate asks for it.
    pub(super) fn trace(&mut self, tracing: &Tracing, headers: &HeaderMap) {
        self.span = tracing.begin(headers);
    }

    /// Notes the status of the call.
    pub(super) fn finish(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// Counts messages sent to the client.
    pub(super) fn sent(&mut self, messages: u64, bytes: u64) {
        self.metrics.sent.inc_by(messages);
        metrics::GRPC_SENT_BYTES.inc_by(bytes);
        self.sent_bytes += bytes;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.metrics.handled(code).inc();
        let took = self.started.elapsed();
        if let Some(span) = self.span.take() {
            span.end(self.method.service, self.method.name, code, self.remote);
        }
        if self.measured {
            self.metrics.handling_seconds().observe(took.as_secs_f64());
        }
        if self.method.is_etcd_unary() {
            self.metrics.duration_seconds(code == Code::Ok).observe(took.as_secs_f64());
        }
        if self.slow_after.is_some_and(|limit| took > limit) {
            // In the words of etcd, for whatever reads its logs.
            let remote = self.remote.map_or_else(|| "local".to_owned(), |remote| remote.to_string());
            warn!(
                remote,
                "time spent" = ?took,
                "response type" = format!("/{}/{}", self.method.service, self.method.name),
                "response size" = self.sent_bytes,
                "response code" = ?code,
                "request stats"
            );
        }
    }
}
