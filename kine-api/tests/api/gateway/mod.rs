//! The JSON gateway, on the router itself: no socket but where a WebSocket
//! needs one.

mod fuzz;
mod json;
mod socket;
mod streams;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use skiff_kine_api::{ApiConfig, router};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

use crate::common::odd::OddStore;
use crate::common::within;

/// Every path with a service behind it.
const PATHS: &[&str] = &[
    "kv/range",
    "kv/put",
    "kv/deleterange",
    "kv/txn",
    "kv/compaction",
    "watch",
    "lease/grant",
    "lease/revoke",
    "kv/lease/revoke",
    "lease/keepalive",
    "lease/timetolive",
    "kv/lease/timetolive",
    "lease/leases",
    "kv/lease/leases",
    "cluster/member/add",
    "cluster/member/remove",
    "cluster/member/update",
    "cluster/member/list",
    "cluster/member/promote",
    "maintenance/alarm",
    "maintenance/status",
    "maintenance/defragment",
    "maintenance/hash",
    "maintenance/hashkv",
    "maintenance/snapshot",
    "maintenance/transfer-leadership",
    "maintenance/downgrade",
    "auth/enable",
    "auth/disable",
    "auth/status",
    "auth/authenticate",
    "auth/user/add",
    "auth/user/get",
    "auth/user/list",
    "auth/user/delete",
    "auth/user/changepw",
    "auth/user/grant",
    "auth/user/revoke",
    "auth/role/add",
    "auth/role/get",
    "auth/role/list",
    "auth/role/delete",
    "auth/role/grant",
    "auth/role/revoke",
    "lock/unlock",
    "election/proclaim",
    "election/leader",
    "election/resign",
];

/// A store behind a gateway.
struct Gateway {
    store: Arc<OddStore>,
    router: Router,
    stop: watch::Sender<bool>,
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, code and text of an error.
    #[track_caller]
    fn error(&self) -> (u16, i64, String) {
        let json = self.json();
        let text = json["message"].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), json["code"].as_i64().unwrap_or_default(), text)
    }
}

impl Gateway {
    fn new() -> Self {
        Self::with(ApiConfig::default())
    }

    fn with(config: ApiConfig) -> Self {
        let store = OddStore::new();
        let (stop, stopping) = watch::channel(false);
        let router = router(store.clone(), store.inner.clone(), config, stopping);
        Self { store, router, stop }
    }

    /// Sends a request and answers the response with its body still open.
    async fn open(&self, request: Request<Body>) -> http::Response<Body> {
        within(self.router.clone().oneshot(request)).await.unwrap()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.open(request).await.into_parts();
        let body = within(body.collect()).await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(path, body)).await
    }

    /// A call that succeeds.
    async fn ok(&self, path: &str, body: &str) -> Value {
        let answer = self.post(path, body.to_owned()).await;
        assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
        answer.json()
    }
}

fn request(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(Method::POST).uri(format!("/v3/{path}")).body(body.into()).unwrap()
}

/// A body that stays open until its sender is gone.
fn open_body() -> (mpsc::Sender<String>, Body) {
    let (sender, queue) = mpsc::channel::<String>(16);
    let stream = tokio_stream::wrappers::ReceiverStream::new(queue);
    let stream = futures::StreamExt::map(stream, Ok::<_, std::convert::Infallible>);
    (sender, Body::from_stream(stream))
}

/// The next line of a streamed answer; `None` at its end.
async fn line(body: &mut Body) -> Option<Value> {
    let data = within(body.frame()).await?.unwrap().into_data().unwrap();
    assert!(data.ends_with(b"\n"), "a frame is a line");
    Some(serde_json::from_slice(&data).unwrap())
}

#[tokio::test]
async fn every_path_reaches_its_method() {
    let gateway = Gateway::new();
    for root in ["/v3/", "/v3beta/"] {
        for path in PATHS {
            if *path == "watch" {
                continue; // without a watch there is nothing to answer
            }
            let mut asked = request(path, "{}");
            *asked.uri_mut() = format!("{root}{path}").parse().unwrap();
            let answer = gateway.send(asked).await;
            let unserved =
                |answer: &Answer| matches!(answer.error().2.as_str(), "Not Found" | "Method Not Allowed");
            match *path {
                "lease/keepalive" => assert_eq!(answer.status, 200, "{path}"), // a lease that is not there
                "maintenance/snapshot" => {
                    for line in answer.body.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                        let line: Value = serde_json::from_slice(line).unwrap();
                        assert!(line["result"].is_object(), "{line}");
                    }
                }
                _ => assert!(!unserved(&answer), "{path}: {answer:?}"),
            }
            assert_eq!(answer.headers["content-type"], "application/json", "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_posted() {
    let gateway = Gateway::new();
    for path in ["", "nope", "kv", "kv/range/", "kv/nope", "kv/range:x"] {
        assert_eq!(gateway.post(path, "{}").await.error(), (404, 5, "Not Found".to_owned()), "{path}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let mut asked = request("kv/range", "{}");
        *asked.method_mut() = method.clone();
        assert_eq!(gateway.send(asked).await.error(), (501, 12, "Method Not Allowed".to_owned()), "{method}");
    }
    for (path, to) in [
        ("/v3", "/v3/"),
        ("/v3//kv/range?x=y", "/v3/kv/range?x=y"),
        ("/v3beta/kv/../lease/leases", "/v3/lease/leases"),
    ] {
        let mut asked = request("", "{}");
        *asked.uri_mut() = path.parse().unwrap();
        let answer = gateway.send(asked).await;
        assert_eq!((answer.status.as_u16(), answer.headers["location"].to_str().unwrap()), (301, to));
    }
    let mut asked = request("", r#"{"key":"YQ=="}"#);
    *asked.uri_mut() = "/v3/kv%2Frange".parse().unwrap();
    assert_eq!(gateway.send(asked).await.status, 200);
    let mut asked = request("", "{}");
    *asked.uri_mut() = "/v3alpha/kv/range".parse().unwrap();
    assert_eq!(gateway.send(asked).await.body, "404 page not found\n");
}

#[tokio::test]
async fn without_the_gateway_its_paths_are_not_there() {
    let gateway = Gateway::with(ApiConfig { gateway: false, ..Default::default() });
    let answer = gateway.post("kv/range", r#"{"key":"YQ=="}"#).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (404, b"404 page not found\n".as_slice()));
}

#[tokio::test]
async fn the_content_type_of_a_request_says_nothing() {
    let gateway = Gateway::new();
    for kind in ["text/plain", "application/grpc", "application/x-www-form-urlencoded", "nonsense"] {
        let mut asked = request("kv/range", r#"{"key":"YQ=="}"#);
        asked.headers_mut().insert("content-type", kind.parse().unwrap());
        assert_eq!(gateway.send(asked).await.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn rules_of_the_gate_hold() {
    let gateway = Gateway::new();
    gateway.store.learner.store(true, Ordering::Relaxed);
    let put = r#"{"key":"YQ==","value":"YQ=="}"#;
    let learner = "etcdserver: rpc not supported for learner".to_owned();
    let answer = gateway.post("kv/put", put).await.error();
    assert_eq!(answer, (400, 9, learner));
    assert!(gateway.ok("maintenance/status", "{}").await["isLearner"].as_bool().unwrap());
    gateway.store.learner.store(false, Ordering::Relaxed);

    gateway.store.lose_leader();
    let mut asked = request("kv/range", r#"{"key":"YQ==","serializable":true}"#);
    asked.headers_mut().insert("grpc-metadata-hasleader", "true".parse().unwrap());
    assert_eq!(gateway.send(asked).await.error(), (503, 14, "etcdserver: no leader".to_owned()));
}

#[tokio::test]
async fn a_client_may_say_how_long_it_waits() {
    let gateway = Gateway::new();
    gateway.store.delay_ms.store(60_000, Ordering::Relaxed);
    let with = |timeout: &str| {
        let mut asked = request("kv/range", r#"{"key":"YQ=="}"#);
        asked.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        asked
    };
    assert_eq!(gateway.send(with("5m")).await.error(), (504, 4, "context deadline exceeded".to_owned()));
    gateway.store.delay_ms.store(0, Ordering::Relaxed);
    assert_eq!(gateway.send(with("1n")).await.error().0, 504, "over before it began");
    assert_eq!(gateway.send(with("100S")).await.status, 200);
    assert_eq!(gateway.send(with("zz")).await.error(), (400, 3, "invalid grpc-timeout: zz".to_owned()));
}

#[tokio::test]
async fn requests_are_bounded_like_those_of_grpc() {
    let gateway = Gateway::with(ApiConfig { max_request_bytes: 1000, ..Default::default() });
    let put = |length: usize| format!(r#"{{"key":"YQ==","value":"{}"}}"#, "AAAA".repeat(length / 3));
    let too_large = "etcdserver: request is too large".to_owned();
    assert_eq!(gateway.post("kv/put", put(3000)).await.error(), (400, 3, too_large));
    let max = 1000 + ApiConfig::GRPC_OVERHEAD_BYTES;
    let (status, code, text) = gateway.post("kv/put", put(max + 30)).await.error();
    assert_eq!((status, code), (429, 8));
    assert!(
        text.starts_with("grpc: received message larger than max (")
            && text.ends_with(&format!(" vs. {max})")),
        "{text}"
    );
    // A body without an end is not read to its end.
    let endless =
        futures::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'1'; 1 << 16])));
    let (status, code, text) = gateway.post("kv/put", Body::from_stream(endless)).await.error();
    assert_eq!((status, code), (429, 8), "{text}");
    // Nor is one that breaks.
    let broken = futures::stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("gone"))]);
    assert_eq!(gateway.post("kv/put", Body::from_stream(broken)).await.error(), (400, 3, "gone".to_owned()));
}

#[tokio::test]
async fn metadata_of_answers_become_headers() {
    let answer = Gateway::new().post("kv/range", r#"{"key":"YQ=="}"#).await;
    assert_eq!(answer.headers["grpc-metadata-content-type"], "application/grpc");
    assert!(!answer.headers.contains_key("grpc-metadata-grpc-status"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_its_call() {
    let gateway = Gateway::new();
    gateway.store.delay_ms.store(3_600_000, Ordering::Relaxed);
    let asked = gateway.router.clone().oneshot(request("kv/range", r#"{"key":"YQ=="}"#));
    assert!(tokio::time::timeout(Duration::from_secs(1), asked).await.is_err());
    // Nothing of it is left that would hold the store.
    drop(gateway.router);
    assert_eq!(Arc::strong_count(&gateway.store), 1);
}
