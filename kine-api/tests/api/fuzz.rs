//! Every method, called with bytes that no client sends: the answer is a gRPC
//! status each time, and nothing panics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use axum::Router;
use axum::body::Body;
use bytes::{BufMut, Bytes};
use http_body_util::BodyExt;
use proptest::prelude::*;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use skiff_kine_api::services::DESCRIPTORS;
use skiff_kine_api::{ApiConfig, router};
use skiff_store::clock::SystemClock;
use skiff_store::conformance::fuzz::mutated;
use skiff_store::engine::mem::MemEngine;
use skiff_store::local::{LocalConfig, LocalStore};
use skiff_store::pb::etcdserverpb::*;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tower::Service;

use crate::common::within;

/// A field of a message, as it stands on the wire.
#[derive(Debug, Clone)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
    Message(Vec<(u32, Field)>),
}

fn put_message(fields: &[(u32, Field)], out: &mut Vec<u8>) {
    for (tag, field) in fields {
        let bytes = match field {
            Field::Number(number) => {
                encode_key(*tag, WireType::Varint, out);
                encode_varint(*number, out);
                continue;
            }
            Field::Bytes(bytes) => bytes.clone(),
            Field::Message(fields) => {
                let mut inner = Vec::new();
                put_message(fields, &mut inner);
                inner
            }
        };
        encode_key(*tag, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.extend(bytes);
    }
}

/// A message of fields as etcd's have them, numbers at their extremes.
fn shaped() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(2),
        Just(5),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(1 << 63),
        any::<u64>(),
    ];
    let bytes = prop::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(0xff), any::<u8>()], 0..6);
    let leaf = prop_oneof![number.prop_map(Field::Number), bytes.prop_map(Field::Bytes)];
    let field = leaf.prop_recursive(4, 40, 6, |inner| {
        prop::collection::vec((1u32..9, inner), 0..6).prop_map(Field::Message)
    });
    prop::collection::vec((1u32..14, field), 0..8).prop_map(|fields| {
        let mut out = Vec::new();
        put_message(&fields, &mut out);
        out
    })
}

/// Messages a client sends, to be changed.
fn samples() -> Vec<Vec<u8>> {
    let put =
        PutRequest { key: "a".into(), value: "b".into(), lease: 7, prev_kv: true, ..Default::default() };
    let range = RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: 5,
        sort_order: 2,
        ..Default::default()
    };
    let op = |request| RequestOp { request: Some(request) };
    let txn = TxnRequest {
        compare: vec![Compare { key: "a".into(), target: 3, result: 1, ..Default::default() }],
        success: vec![op(request_op::Request::RequestPut(put.clone()))],
        failure: vec![op(request_op::Request::RequestRange(range.clone()))],
    };
    let create = WatchCreateRequest { key: "a".into(), start_revision: 2, watch_id: 3, ..Default::default() };
    let watch = WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
    vec![
        put.encode_to_vec(),
        range.encode_to_vec(),
        txn.encode_to_vec(),
        watch.encode_to_vec(),
        LeaseGrantRequest { id: 7, ttl: 60 }.encode_to_vec(),
        MemberAddRequest { peer_ur_ls: vec!["http://a:1".into()], is_learner: true }.encode_to_vec(),
        AlarmRequest { action: 1, member_id: 1, alarm: 1 }.encode_to_vec(),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => shaped(),
        2 => (any::<prop::sample::Index>(), any::<u64>()).prop_map(|(at, seed)| {
            let samples = samples();
            let sample: &Vec<u8> = at.get(&samples);
            mutated(sample, seed)
        }),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

/// How a body lies about its message.
#[derive(Debug, Clone)]
enum Frame {
    Right,
    /// Another flag: "compressed", or one that does not exist.
    Flag(u8),
    /// Another length.
    Length(u32),
    /// No frame at all.
    None,
}

fn body(messages: &[(Vec<u8>, Frame)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (message, frame) in messages {
        let (flag, length) = match frame {
            Frame::Right => (0, message.len() as u32),
            Frame::Flag(flag) => (*flag, message.len() as u32),
            Frame::Length(length) => (0, *length),
            Frame::None => {
                out.extend(message);
                continue;
            }
        };
        out.put_u8(flag);
        out.put_u32(length);
        out.extend(message);
    }
    out
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        6 => Just(Frame::Right),
        1 => any::<u8>().prop_map(Frame::Flag),
        1 => prop_oneof![Just(u32::MAX), Just(1 << 31), 0u32..40].prop_map(Frame::Length),
        1 => Just(Frame::None),
    ]
}

/// Panics anywhere in this process, also on tasks that nobody joins.
static PANICS: AtomicUsize = AtomicUsize::new(0);

struct Subject {
    runtime: Runtime,
    router: Mutex<Router>,
    methods: Vec<String>,
    _shutdown: watch::Sender<bool>,
}

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Other tests of this process have their own say about their panics.
        if info.location().is_some_and(|at| !at.file().contains("tests/api")) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
    let runtime = Runtime::new().unwrap();
    let (shutdown, stopping) = watch::channel(false);
    let router = runtime.block_on(async {
        let clock = Arc::new(SystemClock::default());
        let store = LocalStore::open(Arc::new(MemEngine::new()), LocalConfig::default(), clock).unwrap();
        router(store.clone(), store, ApiConfig::default(), stopping)
    });
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let services = files.iter().flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
    let mut methods: Vec<String> = services
        .flat_map(|(package, service)| {
            service
                .method
                .iter()
                .map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        })
        .collect();
    // These wait for others by design, for as long as their client does.
    const WAIT: [&str; 3] =
        ["/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign", "/v3electionpb.Election/Observe"];
    methods.retain(|method| !WAIT.contains(&method.as_str()));
    // Not `Watch` of that service, which is not ours: it goes on after its request.
    methods.push("/grpc.health.v1.Health/Check".to_owned());
    methods.push("/etcdserverpb.KV/Nothing".to_owned());
    assert!(methods.len() > 30, "{methods:?}");
    Subject { runtime, router: Mutex::new(router), methods, _shutdown: shutdown }
});

/// The status that a method answers a body with.
fn call(method: &str, mut body: Vec<u8>) -> Result<u16, String> {
    if method == "/etcdserverpb.Watch/Watch" {
        // Watches outlive the requests of their stream, but not what is no request.
        body.extend([7, 0, 0, 0, 0]);
    }
    let subject = &*SUBJECT;
    let request = http::Request::post(method)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::from(Bytes::from(body)))
        .unwrap();
    let mut router = subject.router.lock().unwrap().clone();
    subject.runtime.block_on(within(async move {
        let response = router.call(request).await.map_err(|error| error.to_string())?;
        if response.status() != 200 {
            return Err(format!("HTTP status {}", response.status()));
        }
        let mut status = response.headers().get("grpc-status").cloned();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            if let Some(trailers) = frame.trailers_ref() {
                status = trailers.get("grpc-status").cloned();
            }
        }
        let status = status.ok_or("no grpc-status")?;
        status.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| format!("status {status:?}"))
    }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn every_method_answers_strange_bytes_with_a_status(
        at in any::<prop::sample::Index>(),
        messages in prop::collection::vec((message(), frame()), 0..3),
    ) {
        let method = at.get(&SUBJECT.methods);
        let status = call(method, body(&messages));
        prop_assert!(status.as_ref().is_ok_and(|status| *status <= 16), "{}: {:?}", method, status);
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{} made something panic", method);
    }
}

#[test]
fn every_method_answers_nothing_and_a_lie_about_the_length() {
    for method in &SUBJECT.methods {
        for body in [
            Vec::new(),
            vec![0, 0xff, 0xff, 0xff, 0xff],
            [&[0, 0x7f, 0xff, 0xff, 0xff][..], &[0; 100]].concat(),
            vec![0, 0, 0],
        ] {
            let status = call(method, body.clone());
            assert!(status.as_ref().is_ok_and(|status| *status <= 16), "{method} {body:?}: {status:?}");
        }
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}
