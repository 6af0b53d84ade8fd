//! Sends spans to a collector of OpenTelemetry (`--enable-distributed-tracing`),
//! by OTLP over gRPC, in the clear as etcd does.
//!
//! Requests put their spans into a bounded queue and never wait: what does not
//! fit is dropped and counted, and so is what the collector does not take.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use prometheus::{IntCounter, register_int_counter};
use skiff_kine_api::{Span, Spans, Tracing};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use self::pb::trace_service_client::TraceServiceClient;
use crate::serve::Stop;

// The generated server is used by tests alone.
#[allow(missing_docs, clippy::all, unreachable_pub, dead_code)]
mod pb {
    tonic::include_proto!("opentelemetry.proto.collector.trace.v1");
}

/// Spans that may wait.
const QUEUE: usize = 2048;
/// Spans in one message.
const BATCH: usize = 512;
/// Time a span may wait for others to be sent with.
const LINGER: Duration = Duration::from_secs(1);
/// Time the collector may take for one message.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for what is left when the member stops.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TracingOptions {
    /// `host:port` of the collector.
    pub(crate) address: String,
    /// Name of the service in the traces.
    pub(crate) service_name: String,
    /// Tells members apart; may be empty.
    pub(crate) instance_id: String,
    /// Of a million requests without a trace, so many begin one.
    pub(crate) per_million: u32,
}

static DROPPED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "skiff_tracing_dropped_spans_total",
        "Spans that were dropped: too many, or not taken by the collector.",
    )
});
static EXPORTED: LazyLock<IntCounter> =
    LazyLock::new(|| counter("skiff_tracing_exported_spans_total", "Spans that the collector took."));

fn counter(name: &str, help: &str) -> IntCounter {
    register_int_counter!(name, help).unwrap_or_else(|error| {
        tracing::warn!(name, %error, "a metric is not exported");
        IntCounter::new("unregistered", "not exported").expect("a constant name")
    })
}

/// The queue's end that requests see.
struct Queue(mpsc::Sender<Span>);

impl Spans for Queue {
    fn take(&self, span: Span) {
        if self.0.try_send(span).is_err() {
            DROPPED.inc();
        }
    }
}

/// Sends what is in the queue, batch by batch.
pub(crate) struct Exporter {
    spans: mpsc::Receiver<Span>,
    client: TraceServiceClient<Channel>,
    resource: pb::Resource,
    /// The last attempt failed: said once, until one succeeds.
    failing: bool,
}

/// Where requests leave their spans, and what sends them on. Connects when
/// there is something to send, and again when the connection is lost.
///
/// # Errors
/// The address is not one.
pub(crate) fn start(options: &TracingOptions) -> Result<(Tracing, Exporter), String> {
    let endpoint = Endpoint::from_shared(format!("http://{}", options.address))
        .map_err(|error| format!("--distributed-tracing-address {:?}: {error}", options.address))?
        .timeout(SEND_TIMEOUT)
        .connect_timeout(SEND_TIMEOUT);
    LazyLock::force(&DROPPED);
    LazyLock::force(&EXPORTED);
    let (sender, spans) = mpsc::channel(QUEUE);
    let mut attributes = vec![text("service.name", &options.service_name)];
    if !options.instance_id.is_empty() {
        attributes.push(text("service.instance.id", &options.instance_id));
    }
    let exporter = Exporter {
        spans,
        client: TraceServiceClient::new(endpoint.connect_lazy()),
        resource: pb::Resource { attributes },
        failing: false,
    };
    Ok((Tracing::new(options.per_million, Arc::new(Queue(sender))), exporter))
}

impl Exporter {
    /// Runs until the word to stop, and sends what is left then.
    pub(crate) async fn run(mut self, mut stop: Stop) {
        loop {
            let first = tokio::select! {
                () = stop.wait() => break,
                first = self.spans.recv() => match first {
                    Some(first) => first,
                    None => return,
                },
            };
            let mut batch = vec![first];
            let deadline = Instant::now() + LINGER;
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                let more = tokio::select! {
                    () = stop.wait() => break,
                    more = timeout_at(deadline, self.spans.recv_many(&mut batch, room)) => more,
                };
                if !matches!(more, Ok(1..)) {
                    break;
                }
            }
            self.send(batch).await;
        }
        self.spans.close();
        let mut rest = Vec::new();
        while let Ok(span) = self.spans.try_recv() {
            rest.push(span);
        }
        if !rest.is_empty() && tokio::time::timeout(LAST_TIMEOUT, self.send(rest)).await.is_err() {
            tracing::warn!("the tracing collector did not take the last spans in time");
        }
    }

    async fn send(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let scope = pb::Scope { name: "skiff".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let spans = batch.into_iter().map(encode).collect();
        let request = pb::ExportTraceServiceRequest {
            resource_spans: vec![pb::ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![pb::ScopeSpans { scope: Some(scope), spans }],
            }],
        };
        match self.client.export(request).await {
            Ok(answer) => {
                let refused = answer.into_inner().partial_success.map_or(0, |partial| partial.rejected_spans);
                let refused = u64::try_from(refused).unwrap_or(0).min(count);
                DROPPED.inc_by(refused);
                EXPORTED.inc_by(count - refused);
                self.failing = false;
            }
            Err(status) => {
                DROPPED.inc_by(count);
                if !std::mem::replace(&mut self.failing, true) {
                    let error = status.message();
                    tracing::warn!(error, "the tracing collector does not take spans; they are dropped");
                }
            }
        }
    }
}

fn text(key: &str, value: &str) -> pb::KeyValue {
    attribute(key, pb::value::Value::StringValue(value.to_owned()))
}

fn attribute(key: &str, value: pb::value::Value) -> pb::KeyValue {
    pb::KeyValue { key: key.to_owned(), value: Some(pb::Value { value: Some(value) }) }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A span in OTLP's form, with the attributes OpenTelemetry gives gRPC servers.
fn encode(span: Span) -> pb::Span {
    let mut attributes = vec![
        text("rpc.system", "grpc"),
        text("rpc.service", span.service),
        text("rpc.method", span.method),
        attribute("rpc.grpc.status_code", pb::value::Value::IntValue(span.code as i64)),
    ];
    if let Some(remote) = span.remote {
        attributes.push(text("client.address", &remote.ip().to_string()));
        attributes.push(attribute("client.port", pb::value::Value::IntValue(remote.port().into())));
    }
    // What is the client's fault is no error of the server.
    let failed = matches!(
        span.code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    let status = if failed { pb::status::Code::Error } else { pb::status::Code::Unset };
    pb::Span {
        trace_id: span.trace_id.to_vec(),
        span_id: span.span_id.to_vec(),
        parent_span_id: span.parent_id.map(Vec::from).unwrap_or_default(),
        name: format!("{}/{}", span.service, span.method),
        kind: pb::span::Kind::Server as i32,
        start_time_unix_nano: nanos(span.start),
        end_time_unix_nano: nanos(span.end),
        attributes,
        status: Some(pb::Status { message: String::new(), code: status as i32 }),
    }
}
