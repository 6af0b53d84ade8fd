//! Starts a server over a store in memory and connects to it. With
//! `SKIFF_TEST_ENDPOINT` set, the same tests run against whatever listens
//! there, such as a real etcd: what they expect is what etcd does.

pub mod odd;
pub mod web;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use skiff_kine_api::services::auth_client::AuthClient;
use skiff_kine_api::services::cluster_client::ClusterClient;
use skiff_kine_api::services::kv_client::KvClient;
use skiff_kine_api::services::lease_client::LeaseClient;
use skiff_kine_api::services::maintenance_client::MaintenanceClient;
use skiff_kine_api::services::watch_client::WatchClient;
use skiff_kine_api::{ApiConfig, router};
use skiff_store::clock::SystemClock;
use skiff_store::engine::mem::MemEngine;
use skiff_store::local::{LocalConfig, LocalStore};
use skiff_store::pb::etcdserverpb::*;
use tokio::sync::{mpsc, watch};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running server, ended when dropped.
pub struct Server {
    pub address: String,
    pub channel: Channel,
    _shutdown: watch::Sender<bool>,
    prefix: String,
}

/// True where the tests run against a foreign server.
pub fn foreign() -> bool {
    std::env::var_os("SKIFF_TEST_ENDPOINT").is_some()
}

impl Server {
    pub async fn start() -> Self {
        Self::with(ApiConfig::default()).await
    }

    pub async fn with(config: ApiConfig) -> Self {
        let (shutdown, stopping) = watch::channel(false);
        let address = match std::env::var("SKIFF_TEST_ENDPOINT") {
            Ok(address) => address,
            Err(_) => {
                let clock = Arc::new(SystemClock::default());
                let store =
                    LocalStore::open(Arc::new(MemEngine::new()), LocalConfig::default(), clock).unwrap();
                serve(store.clone(), store, config, stopping).await
            }
        };
        let channel = connect(&address).await;
        Self { address, channel, _shutdown: shutdown, prefix: unique() }
    }

    /// A key that no other test uses.
    pub fn key(&self, name: &str) -> Bytes {
        format!("{}{name}", self.prefix).into()
    }

    /// The end of the range of all keys of this test.
    pub fn end(&self) -> Bytes {
        let mut end = self.prefix.clone().into_bytes();
        *end.last_mut().unwrap() += 1;
        end.into()
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub async fn put(&self, key: &Bytes, value: &str) -> PutResponse {
        let request = PutRequest { key: key.clone(), value: value.to_owned().into(), ..Default::default() };
        self.kv().put(request).await.unwrap().into_inner()
    }

    pub async fn get(&self, key: &Bytes) -> RangeResponse {
        self.kv().range(RangeRequest { key: key.clone(), ..Default::default() }).await.unwrap().into_inner()
    }

    pub async fn revision(&self) -> i64 {
        self.get(&"r".into()).await.header.unwrap().revision
    }

    /// A watch stream. etcd answers the call itself with the first response,
    /// so nothing waits for it before.
    pub async fn watch(&self) -> Watches {
        let (requests, receiver) = mpsc::channel(100);
        let call = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut client = WatchClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let call = tokio::spawn(async move { client.watch(call).await });
        Watches { requests, call: Some(call), responses: None }
    }
}

type Responses = Streaming<WatchResponse>;

/// A watch stream from the client's side.
pub struct Watches {
    requests: mpsc::Sender<WatchRequest>,
    call: Option<tokio::task::JoinHandle<Result<Response<Responses>, Status>>>,
    responses: Option<Responses>,
}

impl Watches {
    pub async fn send(&self, request: watch_request::RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    pub async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send(watch_request::RequestUnion::CreateRequest(request)).await;
        self.next().await
    }

    pub async fn cancel(&mut self, watch_id: i64) {
        self.send(watch_request::RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await;
    }

    pub async fn progress(&mut self) {
        self.send(watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    }

    pub async fn next(&mut self) -> WatchResponse {
        self.try_next().await.unwrap().expect("stream ended")
    }

    pub async fn try_next(&mut self) -> Result<Option<WatchResponse>, Status> {
        if let Some(call) = self.call.take() {
            self.responses = Some(within(call).await.unwrap()?.into_inner());
        }
        within(self.responses.as_mut().unwrap().message()).await
    }

    /// Ends the requests.
    pub fn finish(&mut self) {
        self.requests = mpsc::channel(1).0;
    }
}

/// Serves a store on a port of its own.
pub async fn serve(
    store: Arc<dyn skiff_store::Store>,
    cluster: Arc<dyn skiff_store::Cluster>,
    config: ApiConfig,
    stopping: watch::Receiver<bool>,
) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = router(store, cluster, config, stopping);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

pub async fn connect(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Awaits with a deadline, so that a fault fails a test instead of hanging it.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

pub fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("t{now}-{}/", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Checks the code and the text of an error.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.expect_err("should be refused");
    assert_eq!((status.code(), status.message()), (code, text));
}

/// A header that is filled in completely.
#[track_caller]
pub fn complete(header: Option<ResponseHeader>) -> ResponseHeader {
    let header = header.expect("no header");
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 0, "{header:?}");
    // etcd leaves the revision out of some answers; we never do.
    assert!(header.revision > 0 || foreign(), "{header:?}");
    header
}
