//! Every kind of call against one real etcd.

use skiff_kine_api::pass_through::Options;
use skiff_kine_api::services::auth_client::AuthClient;
use skiff_kine_api::services::lease_client::LeaseClient;
use skiff_kine_api::services::maintenance_client::MaintenanceClient;
use skiff_kine_api::services::watch_client::WatchClient;
use skiff_store::pb::etcdserverpb::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::common::*;

pub fn watch(key: &str, start_revision: i64) -> WatchRequest {
    let create = WatchCreateRequest { key: key.to_owned().into(), start_revision, ..Default::default() };
    WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_streams() {
    let etcd = Etcd::single("http", &[]);
    let front = Front::start(&[&etcd.url], Options::default()).await;
    front.ready().await;
    front.kv().put(put("k", "v")).await.unwrap();
    let answer = front.kv().range(get("k")).await.unwrap().into_inner();
    assert_eq!(answer.kvs[0].value, "v");
    let error = front.kv().put(put("", "v")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "etcdserver: key is not provided"));

    let (requests, receiver) = mpsc::channel(1);
    requests.send(watch("k", 0)).await.unwrap();
    let call = WatchClient::new(front.channel.clone()).watch(ReceiverStream::new(receiver)).await;
    let mut events = call.unwrap().into_inner();
    assert!(within(events.message()).await.unwrap().unwrap().created);
    front.kv().put(put("k", "w")).await.unwrap();
    assert_eq!(within(events.message()).await.unwrap().unwrap().events.len(), 1);

    let mut leases = LeaseClient::new(front.channel.clone());
    let id = leases.lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await.unwrap().into_inner().id;
    let (beats, receiver) = mpsc::channel(1);
    beats.send(LeaseKeepAliveRequest { id }).await.unwrap();
    let mut alive = leases.lease_keep_alive(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for _ in 0..3 {
        assert_eq!(within(alive.message()).await.unwrap().unwrap().ttl, 60);
        beats.send(LeaseKeepAliveRequest { id }).await.unwrap();
    }

    front.shutdown.send_replace(true);
    let error = within(events.message()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "etcdserver: server stopped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_and_snapshots() {
    let etcd = Etcd::single("http", &[]);
    let front = Front::start(&[&etcd.url], Options::default()).await;
    front.ready().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot");
    for (args, want) in [
        (vec!["put", "k", "v"], "OK"),
        (vec!["get", "k"], "k\nv"),
        (vec!["endpoint", "health"], ""),
        (vec!["snapshot", "save", file.to_str().unwrap()], "Snapshot saved"),
    ] {
        let mut command = tokio::process::Command::new(program("etcdctl"));
        command.arg(format!("--endpoints={}", front.address)).args(&args).kill_on_drop(true);
        let output = within(command.output()).await.unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains(want), "{args:?}");
    }
    let mut parts = MaintenanceClient::new(front.channel.clone())
        .snapshot(SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut length = 0;
    while let Some(part) = within(parts.message()).await.unwrap() {
        length += part.blob.len() as u64;
    }
    assert_eq!(length, std::fs::metadata(&file).unwrap().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http() {
    let etcd = Etcd::single("http", &[]);
    let front = Front::start(&[&etcd.url], Options::default()).await;
    front.ready().await;
    let version = front.http("GET", "/version", "").await;
    assert!(version.starts_with("HTTP/1.1 200") && version.contains("etcdserver"), "{version}");
    let put = front.http("POST", "/v3/kv/put", r#"{"key":"aw==","value":"dg=="}"#).await;
    assert!(put.starts_with("HTTP/1.1 200") && put.contains("revision"), "{put}");
    assert_eq!(front.kv().range(get("k")).await.unwrap().into_inner().kvs[0].value, "v");
    assert!(front.http("GET", "/health", "").await.contains(r#"{"health":"true""#));
    let metrics = front.http("GET", "/metrics", "").await;
    let healthy = format!("skiff_pass_through_endpoint_healthy{{endpoint=\"{}\"}} 1", etcd.url);
    assert!(metrics.contains(&healthy), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_pass() {
    let etcd = Etcd::single("http", &[]);
    let front = Front::start(&[&etcd.url], Options::default()).await;
    front.ready().await;
    enable_auth(&front).await;
    let login = AuthenticateRequest { name: "root".into(), password: "secret".into() };
    let token = AuthClient::new(front.channel.clone()).authenticate(login).await.unwrap().into_inner().token;
    let mut request = tonic::Request::new(put("k", "v"));
    request.metadata_mut().insert("authorization", token.parse().unwrap());
    front.kv().put(request).await.unwrap();
    let error = front.kv().put(put("k", "v")).await.unwrap_err();
    assert_eq!(error.message(), "etcdserver: user name is empty");
}

pub async fn enable_auth(front: &Front) {
    let mut auth = AuthClient::new(front.channel.clone());
    let user = AuthUserAddRequest { name: "root".into(), password: "secret".into(), ..Default::default() };
    auth.user_add(user).await.unwrap();
    auth.role_add(AuthRoleAddRequest { name: "root".into() }).await.unwrap();
    auth.user_grant_role(AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() })
        .await
        .unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
}
