//! What a call's metadata and the member's role forbid.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::odd::OddStore;
use crate::common::*;
use skiff_kine_api::ApiConfig;
use skiff_kine_api::services::kv_client::KvClient;
use skiff_kine_api::services::lease_client::LeaseClient;
use skiff_kine_api::services::maintenance_client::MaintenanceClient;
use skiff_kine_api::services::watch_client::WatchClient;
use skiff_store::pb::etcdserverpb::*;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Request};

const NO_LEADER: &str = "etcdserver: no leader";
const LEARNER: &str = "etcdserver: rpc not supported for learner";

async fn start(store: &Arc<OddStore>) -> (Channel, watch::Sender<bool>) {
    let (shutdown, stopping) = watch::channel(false);
    let config = ApiConfig { election_timeout: Duration::from_millis(50), ..Default::default() };
    let address = serve(store.clone(), store.inner.clone(), config, stopping).await;
    (connect(&address).await, shutdown)
}

fn asking<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

fn range(serializable: bool) -> RangeRequest {
    RangeRequest { key: "a".into(), serializable, ..Default::default() }
}

fn watch_a() -> WatchRequest {
    let create = WatchCreateRequest { key: "a".into(), ..Default::default() };
    WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) }
}

#[tokio::test]
async fn unary_calls_that_ask_for_a_leader() {
    let store = OddStore::new();
    let (channel, _shutdown) = start(&store).await;
    let mut kv = KvClient::new(channel);
    kv.range(asking(range(true))).await.unwrap();
    store.lose_leader();
    refused(kv.range(asking(range(true))).await, Code::Unavailable, NO_LEADER);
    kv.range(range(true)).await.unwrap();
    refused(kv.range(range(false)).await, Code::Unavailable, NO_LEADER);
}

#[tokio::test]
async fn streams_that_ask_for_a_leader_are_cut() {
    let store = OddStore::new();
    let (channel, _shutdown) = start(&store).await;
    let mut client = WatchClient::new(channel);
    let endless = || tokio_stream::StreamExt::chain(tokio_stream::iter([watch_a()]), tokio_stream::pending());
    let mut cut = client.watch(asking(endless())).await.unwrap().into_inner();
    let mut kept = client.watch(endless()).await.unwrap().into_inner();
    for stream in [&mut cut, &mut kept] {
        assert!(within(stream.message()).await.unwrap().unwrap().created);
    }
    store.lose_leader();
    refused(within(cut.message()).await, Code::Unavailable, NO_LEADER);
    refused(client.watch(asking(endless())).await, Code::Unavailable, NO_LEADER);
    let put = PutRequest { key: "a".into(), ..Default::default() };
    skiff_store::StoreExt::put(&*store.inner, put).await.unwrap();
    assert_eq!(within(kept.message()).await.unwrap().unwrap().events.len(), 1);
}

#[tokio::test]
async fn a_stop_ends_streams() {
    let store = OddStore::new();
    let (channel, shutdown) = start(&store).await;
    let mut client = WatchClient::new(channel);
    let endless = tokio_stream::StreamExt::chain(tokio_stream::iter([watch_a()]), tokio_stream::pending());
    let mut stream = client.watch(endless).await.unwrap().into_inner();
    within(stream.message()).await.unwrap();
    shutdown.send_replace(true);
    refused(within(stream.message()).await, Code::Unavailable, "etcdserver: server stopped");
}

#[tokio::test]
async fn a_learner_serves_little() {
    let store = OddStore::new();
    store.learner.store(true, Ordering::Relaxed);
    let (channel, _shutdown) = start(&store).await;
    let code = Code::FailedPrecondition;
    let mut kv = KvClient::new(channel.clone());
    kv.range(range(true)).await.unwrap();
    refused(kv.range(range(false)).await, code, LEARNER);
    refused(kv.range(RangeRequest::default()).await, code, LEARNER);
    refused(kv.put(PutRequest { key: "a".into(), ..Default::default() }).await, code, LEARNER);
    refused(kv.txn(TxnRequest::default()).await, code, LEARNER);
    let requests = tokio_stream::iter([watch_a()]);
    refused(WatchClient::new(channel.clone()).watch(requests).await, code, LEARNER);
    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id: 1 }]);
    refused(LeaseClient::new(channel.clone()).lease_keep_alive(requests).await, code, LEARNER);
    let mut maintenance = MaintenanceClient::new(channel);
    assert!(maintenance.status(StatusRequest {}).await.unwrap().into_inner().is_learner);
    refused(maintenance.hash(HashRequest {}).await, code, LEARNER);
    maintenance.snapshot(SnapshotRequest {}).await.unwrap();
}

#[tokio::test]
async fn client_versions() {
    let store = OddStore::new();
    let (channel, _shutdown) = start(&store).await;
    let mut kv = KvClient::new(channel);
    let mut request = Request::new(range(true));
    request.metadata_mut().insert("client-api-version", "3.5".parse().unwrap());
    kv.range(request).await.unwrap();
    let mut request = Request::new(range(true));
    let value = tonic::metadata::MetadataValue::try_from(&b"\xff\xfe"[..]).unwrap();
    request.metadata_mut().insert("client-api-version", value);
    refused(kv.range(request).await, Code::InvalidArgument, "etcdserver: invalid client api version");
}

#[tokio::test]
async fn move_leader_only_on_the_leader() {
    let store = OddStore::new();
    store.leader.send_replace(7);
    let (channel, _shutdown) = start(&store).await;
    let mut maintenance = MaintenanceClient::new(channel);
    let request = MoveLeaderRequest { target_id: 7 };
    refused(maintenance.move_leader(request).await, Code::FailedPrecondition, "etcdserver: not leader");
    store.lose_leader();
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, status.errors), (0, vec![NO_LEADER.to_owned()]));
}
