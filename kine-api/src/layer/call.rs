//! One call under way: what is counted and measured of it.

use std::time::Instant;

use tonic::Code;
use tracing::warn;

use super::method::{Kind, Method};
use crate::ApiConfig;
use crate::metrics::{self, MethodMetrics};

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
}

impl Call {
    /// Counts a call as started.
    pub(super) fn start(method: &'static Method, config: &ApiConfig) -> Self {
        let metrics = metrics::of_method(method);
        metrics.started.inc();
        let warns = method.kind == Kind::Unary && !config.slow_request.is_zero();
        Self {
            method,
            metrics,
            started: Instant::now(),
            code: None,
            sent_bytes: 0,
            slow_after: warns.then_some(config.slow_request),
            measured: config.extensive_metrics,
        }
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
        if self.measured {
            self.metrics.handling_seconds().observe(took.as_secs_f64());
        }
        if self.method.is_etcd_unary() {
            self.metrics.duration_seconds(code == Code::Ok).observe(took.as_secs_f64());
        }
        if self.slow_after.is_some_and(|limit| took > limit) {
            warn!(
                service = self.method.service,
                method = self.method.name,
                took_ms = took.as_millis() as u64,
                response_bytes = self.sent_bytes,
                ?code,
                "request took too long"
            );
        }
    }
}
