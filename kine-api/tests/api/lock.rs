//! The Lock service over gRPC.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::odd::OddStore;
use crate::common::*;
use bytes::Bytes;
use prost::Message;
use skiff_kine_api::services::lock_client::LockClient;
use skiff_kine_api::{ApiConfig, router};
use skiff_store::pb::etcdserverpb::*;
use skiff_store::pb::v3lockpb::*;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tower::ServiceExt;

pub type Answer<T> = Result<Response<T>, Status>;

impl Server {
    fn locks(&self) -> LockClient<Channel> {
        LockClient::new(self.channel.clone())
    }

    pub async fn grant(&self, ttl: i64) -> i64 {
        self.lease().lease_grant(LeaseGrantRequest { ttl, id: 0 }).await.unwrap().into_inner().id
    }

    pub async fn revoke(&self, id: i64) {
        self.lease().lease_revoke(LeaseRevokeRequest { id }).await.unwrap();
    }

    async fn lock(&self, name: &Bytes, lease: i64) -> Answer<LockResponse> {
        within(self.locks().lock(LockRequest { name: name.clone(), lease })).await
    }

    async fn unlock(&self, key: &Bytes) -> Answer<UnlockResponse> {
        self.locks().unlock(UnlockRequest { key: key.clone() }).await
    }

    /// Starts to wait for a lock; returns once the claim stands.
    async fn wait_for_lock(&self, name: &Bytes, lease: i64) -> JoinHandle<Answer<LockResponse>> {
        let (mut locks, request) = (self.locks(), LockRequest { name: name.clone(), lease });
        let waiting = tokio::spawn(async move { locks.lock(request).await });
        self.until(&claim(name, lease), true).await;
        waiting
    }

    /// Waits until a key is there, or is not.
    pub async fn until(&self, key: &Bytes, there: bool) {
        let mut watch = self.watch().await;
        watch.create(WatchCreateRequest { key: key.clone(), ..Default::default() }).await;
        while (self.get(key).await.count == 1) != there {
            watch.next().await;
        }
    }
}

/// The key of a claim.
pub fn claim(name: &Bytes, lease: i64) -> Bytes {
    [&name[..], format!("/{lease:x}").as_bytes()].concat().into()
}

#[tokio::test]
async fn a_lock_is_held_by_one_and_handed_on() {
    let server = Server::start().await;
    let name = server.key("lock");
    let (first, second) = (server.grant(100).await, server.grant(100).await);
    let held = server.lock(&name, first).await.unwrap().into_inner();
    assert_eq!(held.key, claim(&name, first));
    let pair = server.get(&held.key).await.kvs.remove(0);
    assert_eq!((pair.lease, pair.version, pair.value.len()), (first, 1, 0));
    assert_eq!(complete(held.header).revision, pair.create_revision);
    let waiting = server.wait_for_lock(&name, second).await;
    assert!(!waiting.is_finished());
    let unlocked = server.unlock(&held.key).await.unwrap().into_inner();
    let released = complete(unlocked.header).revision;
    let next = within(waiting).await.unwrap().unwrap().into_inner();
    assert_eq!(next.key, claim(&name, second));
    assert!(complete(next.header).revision >= released);
    // What is not there is given back without an error.
    server.unlock(&held.key).await.unwrap();
    server.unlock(&next.key).await.unwrap();
}

#[tokio::test]
async fn the_same_lease_locks_once() {
    let server = Server::start().await;
    let name = server.key("lock");
    let lease = server.grant(100).await;
    let first = server.lock(&name, lease).await.unwrap().into_inner();
    let again = server.lock(&name, lease).await.unwrap().into_inner();
    assert_eq!(first.key, again.key);
    assert_eq!(server.get(&first.key).await.kvs[0].version, 1);
}

#[tokio::test]
async fn waiters_come_in_the_order_of_their_claims() {
    let server = Server::start().await;
    let name = server.key("lock");
    let mut held = server.lock(&name, server.grant(100).await).await.unwrap().into_inner();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let lease = server.grant(100).await;
        waiting.push((lease, server.wait_for_lock(&name, lease).await));
    }
    while !waiting.is_empty() {
        server.unlock(&held.key).await.unwrap();
        let (lease, turn) = waiting.remove(0);
        held = within(turn).await.unwrap().unwrap().into_inner();
        assert_eq!(held.key, claim(&name, lease));
        assert!(waiting.iter().all(|(_, other)| !other.is_finished()));
    }
}

#[tokio::test]
async fn a_waiter_that_goes_leaves_no_claim() {
    let server = Server::start().await;
    let name = server.key("lock");
    let held = server.lock(&name, server.grant(100).await).await.unwrap().into_inner();
    let (gone, stays) = (server.grant(100).await, server.grant(100).await);
    let cancelled = server.wait_for_lock(&name, gone).await;
    let waiting = server.wait_for_lock(&name, stays).await;
    cancelled.abort();
    server.until(&claim(&name, gone), false).await;
    // The one behind waits for the holder now.
    assert!(!waiting.is_finished() && server.get(&held.key).await.count == 1);
    server.unlock(&held.key).await.unwrap();
    assert_eq!(within(waiting).await.unwrap().unwrap().into_inner().key, claim(&name, stays));
}

#[tokio::test]
async fn the_end_of_a_lease_gives_the_lock_back() {
    let server = Server::start().await;
    let name = server.key("lock");
    server.lock(&name, server.grant(1).await).await.unwrap();
    let lease = server.grant(100).await;
    assert_eq!(server.lock(&name, lease).await.unwrap().into_inner().key, claim(&name, lease));
}

#[tokio::test]
async fn a_waiter_whose_lease_ends_is_told_at_its_turn() {
    let server = Server::start().await;
    let name = server.key("lock");
    let held = server.lock(&name, server.grant(100).await).await.unwrap().into_inner();
    let lease = server.grant(100).await;
    let waiting = server.wait_for_lock(&name, lease).await;
    server.revoke(lease).await;
    server.unlock(&held.key).await.unwrap();
    refused(within(waiting).await.unwrap(), Code::Unknown, "mutex: session is expired");
}

#[tokio::test]
async fn a_lock_without_a_lease_gets_one() {
    let server = Server::start().await;
    let name = server.key("lock");
    let held = server.lock(&name, 0).await.unwrap().into_inner();
    let lease = server.get(&held.key).await.kvs[0].lease;
    assert_eq!(held.key, claim(&name, lease));
    let request = LeaseTimeToLiveRequest { id: lease, keys: true };
    let left = server.lease().lease_time_to_live(request).await.unwrap().into_inner();
    assert_eq!((left.granted_ttl, left.keys), (60, vec![held.key]));
}

#[tokio::test]
async fn what_is_refused() {
    let server = Server::start().await;
    let name = server.key("lock");
    for lease in [424_242, -1, i64::MIN] {
        refused(server.lock(&name, lease).await, Code::Unknown, "etcdserver: requested lease not found");
    }
    refused(server.unlock(&Bytes::new()).await, Code::Unknown, "etcdserver: key is not provided");
    let large = vec![b'n'; 3 << 19].into();
    let lease = server.grant(100).await;
    refused(server.lock(&large, lease).await, Code::Unknown, "etcdserver: request is too large");
}

/// A name may be any bytes, none included.
#[tokio::test]
async fn odd_names() {
    let server = Server::start().await;
    for name in [Bytes::new(), Bytes::from_static(b"\xff\xff"), Bytes::from_static(b"\0"), "a/b".into()] {
        let lease = server.grant(100).await;
        let held = server.lock(&name, lease).await.unwrap().into_inner();
        assert_eq!(held.key, claim(&name, lease));
        server.unlock(&held.key).await.unwrap();
    }
}

#[tokio::test]
async fn a_learner_has_no_locks() {
    let store = OddStore::new();
    store.learner.store(true, Ordering::Relaxed);
    let (_shutdown, stopping) = watch::channel(false);
    let address = serve(store.clone(), store.inner.clone(), ApiConfig::default(), stopping).await;
    let mut locks = LockClient::new(connect(&address).await);
    let text = "etcdserver: rpc not supported for learner";
    refused(locks.lock(LockRequest::default()).await, Code::FailedPrecondition, text);
    refused(locks.unlock(UnlockRequest::default()).await, Code::FailedPrecondition, text);
}

/// A call in this process: no client library ends it before the server does.
async fn raw_lock(router: axum::Router, name: &str, lease: i64, timeout: Option<&str>) -> http::HeaderMap {
    let message = LockRequest { name: name.to_owned().into(), lease }.encode_to_vec();
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let mut request = http::Request::post("/v3lockpb.Lock/Lock").header("content-type", "application/grpc");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let response =
        within(router.oneshot(request.body(axum::body::Body::from(frame)).unwrap())).await.unwrap();
    response.headers().clone()
}

/// A router over a store in which "lock" is held by lease 1; 2 is another lease.
async fn held() -> (axum::Router, Arc<OddStore>, watch::Sender<bool>) {
    let store = OddStore::new();
    let (shutdown, stopping) = watch::channel(false);
    let router = router(store.clone(), store.inner.clone(), ApiConfig::default(), stopping);
    use skiff_store::StoreExt;
    for id in [1, 2] {
        store.lease_grant(LeaseGrantRequest { ttl: 100, id }).await.unwrap();
    }
    let first = raw_lock(router.clone(), "lock", 1, None).await;
    assert_eq!(first.get("grpc-status"), None, "the status comes after the message");
    (router, store, shutdown)
}

/// Waits until lease 2 has a claim, or has none.
async fn until_claimed(store: &OddStore, there: bool) {
    use skiff_store::StoreExt;
    let request = || RangeRequest { key: "lock/2".into(), ..Default::default() };
    within(async {
        let spec = skiff_store::watch::WatchSpec { key: "lock/2".into(), ..Default::default() };
        let mut watcher = skiff_store::Store::watch(store, spec);
        while (store.range(request()).await.unwrap().count == 1) != there {
            watcher.next().await.unwrap();
        }
    })
    .await;
}

fn status(headers: &http::HeaderMap) -> (&str, &str) {
    let text = |name| headers.get(name).map_or("", |value: &http::HeaderValue| value.to_str().unwrap());
    (text("grpc-status"), text("grpc-message"))
}

#[tokio::test]
async fn a_waiter_whose_time_is_over_leaves_no_claim() {
    let (router, store, _shutdown) = held().await;
    let headers = raw_lock(router, "lock", 2, Some("50m")).await;
    assert_eq!(status(&headers), ("4", "context%20deadline%20exceeded"));
    until_claimed(&store, false).await;
}

#[tokio::test]
async fn a_member_that_stops_lets_its_waiters_go() {
    let (router, store, shutdown) = held().await;
    let waiting = tokio::spawn(async move { raw_lock(router, "lock", 2, None).await });
    until_claimed(&store, true).await;
    shutdown.send_replace(true);
    let headers = within(waiting).await.unwrap();
    assert_eq!(status(&headers), ("14", "etcdserver:%20server%20stopped"));
    until_claimed(&store, false).await;
}
