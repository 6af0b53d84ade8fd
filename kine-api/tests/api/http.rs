//! Health, version and metrics over HTTP/1.1, on the port of gRPC.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::odd::OddStore;
use crate::common::web::{call, get};
use crate::common::*;
use skiff_kine_api::ApiConfig;
use skiff_store::pb::etcdserverpb::AlarmMember;
use tokio::sync::watch;

async fn start(store: &Arc<OddStore>) -> (String, watch::Sender<bool>) {
    let (shutdown, stopping) = watch::channel(false);
    let config = ApiConfig { request_timeout: Duration::from_millis(200), ..Default::default() };
    (serve(store.clone(), store.inner.clone(), config, stopping).await, shutdown)
}

#[tokio::test]
async fn health() {
    let store = OddStore::new();
    let (at, _shutdown) = start(&store).await;
    let answer = get(&at, "/health").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"health":"true","reason":""}"#));
    let answer = call(&at, "POST", "/health").await;
    assert_eq!((answer.status, answer.body.as_str()), (405, "Method Not Allowed\n"));
    assert!(answer.head.contains("allow: get"));

    store.alarms.lock().push(AlarmMember { member_id: 1, alarm: 1 });
    let answer = get(&at, "/health").await;
    let body = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n";
    assert_eq!((answer.status, answer.body.as_str()), (503, body));
    assert_eq!(get(&at, "/health?exclude=NOSPACE").await.status, 200);
    assert_eq!(get(&at, "/health?exclude=CORRUPT").await.status, 503);
    store.alarms.lock()[0].alarm = 2;
    assert!(get(&at, "/health?exclude=NOSPACE").await.body.contains("ALARM CORRUPT"));
    assert_eq!(get(&at, "/health?exclude=NOSPACE&exclude=CORRUPT").await.status, 200);
    store.alarms.lock().clear();

    store.lose_leader();
    assert!(get(&at, "/health").await.body.contains("RAFT NO LEADER"));
    assert_eq!(get(&at, "/health?serializable=true").await.status, 200);
    store.delay_ms.store(5000, Ordering::Relaxed);
    let answer = get(&at, "/health?serializable=true").await;
    assert!(answer.body.contains("RANGE ERROR:context deadline exceeded"), "{answer:?}");
}

#[tokio::test]
async fn probes() {
    let store = OddStore::new();
    let (at, _shutdown) = start(&store).await;
    assert_eq!(get(&at, "/livez").await.body, "ok\n");
    assert_eq!(get(&at, "/livez?verbose").await.body, "[+]serializable_read ok\nok\n");
    assert_eq!(get(&at, "/livez/serializable_read").await.body, "ok\n");
    let all =
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(get(&at, "/readyz?verbose").await.body, all);
    assert_eq!(get(&at, "/readyz/none").await.status, 404);

    store.lose_leader();
    assert_eq!(get(&at, "/livez").await.status, 200);
    let answer = get(&at, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("[-]linearizable_read failed: etcdserver: no leader\n"), "{answer:?}");
    assert_eq!(get(&at, "/readyz?exclude=linearizable_read").await.status, 200);
    assert_eq!(get(&at, "/readyz/linearizable_read").await.status, 503);
    assert_eq!(get(&at, "/readyz/non_learner").await.status, 200);
    store.learner.store(true, Ordering::Relaxed);
    assert_eq!(get(&at, "/readyz/non_learner").await.status, 503);
    store.alarms.lock().push(AlarmMember { member_id: 1, alarm: 2 });
    assert_eq!(get(&at, "/readyz/data_corruption").await.status, 503);
}

#[tokio::test]
async fn version_metrics_and_the_rest() {
    let store = OddStore::new();
    let (at, _shutdown) = start(&store).await;
    let version = get(&at, "/version").await;
    let expected = format!(r#"{{"etcdserver":"{}","etcdcluster":"3.6.0","#, skiff_kine_api::ETCD_VERSION);
    assert!(version.body.starts_with(&expected), "{version:?}");
    assert!(version.head.contains("content-type: application/json"));
    let channel = connect(&at).await;
    let mut kv = skiff_kine_api::services::kv_client::KvClient::new(channel);
    kv.range(skiff_store::pb::etcdserverpb::RangeRequest { key: "a".into(), ..Default::default() })
        .await
        .unwrap();
    let metrics = get(&at, "/metrics").await;
    assert_eq!(metrics.status, 200);
    for name in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_id{server_id=",
        "etcd_server_version{server_version=",
        "etcd_mvcc_put_total",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"}",
        "grpc_server_started_total{grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Range\",",
        "grpc_server_msg_received_total{grpc_method=\"Watch\",",
        "grpc_server_msg_sent_total{grpc_method=\"Snapshot\",",
    ] {
        assert!(metrics.body.contains(name), "no {name} in\n{}", metrics.body);
    }
    assert!(get(&at, "/debug/vars").await.body.contains("StateLeader"));
    let answer = get(&at, "/nothing").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn calls_that_are_not_there() {
    let store = OddStore::new();
    let (at, _shutdown) = start(&store).await;
    let channel = connect(&at).await;
    let call = |path: &'static str| {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        async move {
            grpc.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<(), ()>::default();
            grpc.unary(tonic::Request::new(()), ::http::uri::PathAndQuery::from_static(path), codec).await
        }
    };
    let unimplemented = tonic::Code::Unimplemented;
    refused(
        call("/etcdserverpb.KV/Foo").await,
        unimplemented,
        "unknown method Foo for service etcdserverpb.KV",
    );
    refused(call("/a.B/Foo").await, unimplemented, "unknown service a.B");
}

#[tokio::test]
async fn health_and_reflection_over_grpc() {
    let server = Server::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel.clone());
    let request = |service: &str| tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
    let answer = health.check(request("")).await.unwrap().into_inner();
    assert_eq!(answer.status, 1);
    assert_eq!(health.check(request("x")).await.unwrap_err().code(), tonic::Code::NotFound);

    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let list = tonic_reflection::pb::v1::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let mut stream = client.server_reflection_info(tokio_stream::iter([list])).await.unwrap().into_inner();
    let answer = within(stream.message()).await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
    for name in ["etcdserverpb.KV", "etcdserverpb.Watch", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
}
