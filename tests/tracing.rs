//! Spans of requests, as a collector receives them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skiff_test_support::pb::etcdserverpb::{PutRequest, PutResponse};
use skiff_test_support::{Member, Program, Scratch, ports};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use otlp::trace_service_server::{TraceService, TraceServiceServer};
use otlp::value::Value;

#[allow(missing_docs, clippy::all, unreachable_pub, dead_code)]
mod otlp {
    include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.collector.trace.v1.rs"));
}

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Keeps what it receives.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<otlp::ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<otlp::ExportTraceServiceRequest>,
    ) -> Result<Response<otlp::ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(otlp::ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn serve(port: u16) -> Collector {
        let collector = Collector::default();
        let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve(([127, 0, 0, 1], port).into()));
        collector
    }

    fn spans(&self) -> Vec<otlp::Span> {
        let requests = self.0.lock().unwrap();
        let scopes = requests.iter().flat_map(|r| &r.resource_spans).flat_map(|r| &r.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits for the spans of a method.
    async fn wait_for(&self, name: &str, count: usize) -> Vec<otlp::Span> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found: Vec<_> = self.spans().into_iter().filter(|span| span.name == name).collect();
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < deadline, "{} of {count} spans of {name}", found.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn attribute<'a>(attributes: &'a [otlp::KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|a| a.key == key)?.value.as_ref()?.value.as_ref()
}

async fn member(scratch: &Scratch, flags: &[&str]) -> Member {
    let program = Program::Skiff(env!("CARGO_BIN_EXE_skiff").into());
    Member::flagged(program, scratch.path(), flags).await.unwrap()
}

async fn channel(member: &Member) -> Channel {
    Endpoint::from_shared(format!("http://{}", member.address())).unwrap().connect().await.unwrap()
}

/// Puts a key; an empty one is refused. With a trace, if one is given.
async fn put(channel: &Channel, key: &str, traceparent: Option<String>) -> Result<PutResponse, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(PutRequest { key: key.to_owned().into(), ..Default::default() });
    if let Some(traceparent) = traceparent {
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    }
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Put");
    grpc.unary(request, path, ProstCodec::<PutRequest, PutResponse>::default())
        .await
        .map(Response::into_inner)
}

#[tokio::test]
async fn requests_of_a_sampled_trace_leave_spans_in_it() {
    let scratch = Scratch::new("tracing");
    let port = ports::free_port();
    let address = format!("--experimental-distributed-tracing-address=127.0.0.1:{port}");
    let flags = [
        "--experimental-enable-distributed-tracing",
        &address,
        "--distributed-tracing-service-name=store",
        "--distributed-tracing-instance-id=m1",
    ];
    // The collector comes later than the member: what waits for it is sent on, or counted.
    let member = member(&scratch, &flags).await;
    let collector = Collector::serve(port);
    let channel = channel(&member).await;
    put(&channel, "k", Some(format!("00-{TRACE}-{PARENT}-00"))).await.unwrap();
    put(&channel, "k", None).await.unwrap();
    put(&channel, "k", Some(format!("00-{TRACE}-{PARENT}-01"))).await.unwrap();
    put(&channel, "", Some(format!("00-{TRACE}-{PARENT}-01"))).await.unwrap_err();

    let spans = collector.wait_for("etcdserverpb.KV/Put", 2).await;
    assert_eq!(spans.len(), 2, "only those of the sampled trace");
    for (span, code) in spans.iter().zip([0, 3]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
        assert_eq!((span.span_id.len(), span.kind()), (8, otlp::span::Kind::Server));
        assert!(span.start_time_unix_nano > 0 && span.end_time_unix_nano >= span.start_time_unix_nano);
        assert_eq!(attribute(&span.attributes, "rpc.grpc.status_code"), Some(&Value::IntValue(code)));
        let client = Value::StringValue("127.0.0.1".to_owned());
        assert_eq!(attribute(&span.attributes, "client.address"), Some(&client));
        assert_eq!(
            span.status.as_ref().map(|s| s.code()),
            Some(otlp::status::Code::Unset),
            "the client's fault"
        );
    }
    assert_ne!(spans[0].span_id, spans[1].span_id);
    let requests = collector.0.lock().unwrap();
    let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
    for (key, value) in [("service.name", "store"), ("service.instance.id", "m1")] {
        assert_eq!(attribute(&resource.attributes, key), Some(&Value::StringValue(value.to_owned())));
    }
}

#[tokio::test]
async fn the_rate_samples_requests_without_a_trace_and_the_last_spans_are_sent() {
    let scratch = Scratch::new("tracing-rate");
    let port = ports::free_port();
    let collector = Collector::serve(port);
    let address = format!("--distributed-tracing-address=127.0.0.1:{port}");
    let flags = ["--enable-distributed-tracing", &address, "--distributed-tracing-sampling-rate=1000000"];
    let mut member = member(&scratch, &flags).await;
    let channel = channel(&member).await;
    for _ in 0..20 {
        put(&channel, "k", None).await.unwrap();
    }
    drop(channel);
    member.stop().await.unwrap();
    let spans = collector.wait_for("etcdserverpb.KV/Put", 20).await;
    let traces: std::collections::HashSet<_> = spans.iter().map(|span| span.trace_id.clone()).collect();
    assert_eq!((spans.len(), traces.len()), (20, 20), "each its own trace");
    assert!(spans.iter().all(|span| span.parent_span_id.is_empty() && span.trace_id.len() == 16));
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_spans_alone() {
    let scratch = Scratch::new("tracing-lost");
    let address = format!("--distributed-tracing-address=127.0.0.1:{}", ports::free_port());
    let flags = ["--enable-distributed-tracing", &address, "--distributed-tracing-sampling-rate=1000000"];
    let member = member(&scratch, &flags).await;
    let channel = channel(&member).await;
    for _ in 0..20 {
        put(&channel, "k", None).await.unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = metrics(&member).await;
        let dropped = page.lines().find_map(|line| line.strip_prefix("skiff_tracing_dropped_spans_total "));
        if dropped.is_some_and(|count| count.parse::<u64>().unwrap() >= 20) {
            break;
        }
        assert!(Instant::now() < deadline, "dropped spans are not counted: {dropped:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn metrics(member: &Member) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(member.address()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply
}
