//! From the first lock to the last byte: starts a member, reports it ready,
//! waits for the word to stop, and stops it.

use std::sync::Arc;
use std::time::Duration;

use skiff_kine_api::{TokenKind, Tracing};
use skiff_raft::Node;
use skiff_store::pb::etcdserverpb::RangeRequest;
use skiff_store::{Error, NodeError, Store, StoreExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::member::{self, Member};
use crate::config::{Config, Endpoint};
use crate::serve::{Access, ConnectionOptions, Listener, Port, Serves, Stop, bind, serve};
use crate::tls::{PeerClientTls, ServerTls};
use crate::{compactor, otlp, process, profiling};

/// Requests under way have this long to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Handing over leadership may take this long.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(3);
/// The log and the state have this long to reach the disk.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two looks whether requests can be answered.
const READY_PAUSE: Duration = Duration::from_millis(20);

/// Everything that is opened before the member starts, so that a used port or
/// a bad certificate is reported before anything is written.
struct Opened {
    client: Vec<(Endpoint, Listener)>,
    client_http: Vec<(Endpoint, Listener)>,
    metrics: Vec<(Endpoint, Listener)>,
    peer: Vec<(Endpoint, Listener)>,
    client_tls: Option<Arc<ServerTls>>,
    peer_tls: Option<Arc<ServerTls>>,
    peer_client_tls: Option<Arc<PeerClientTls>>,
    tokens: TokenKind,
    tracing: Option<(Tracing, otlp::Exporter)>,
}

/// Runs a member until a signal, or until it cannot go on.
pub(super) async fn run(config: Config) -> Result<(), String> {
    if config.enable_pprof {
        profiling::start();
    }
    let mut signals = process::Signals::new().map_err(|e| format!("cannot handle signals: {e}"))?;
    let mut running = tokio::select! {
        started = Running::start(config) => started?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the member was up");
            return Ok(());
        }
    };
    let ended = {
        let watch = watch_over(&running.config, &running.member, &mut signals);
        tokio::pin!(watch);
        watch.await
    };
    tokio::select! {
        () = running.stop() => {}
        name = signals.next() => tracing::warn!(signal = name, "stopping at once: signalled again"),
    }
    ended
}

/// A running member with its ports: of `skiff etcd`, or a part of a server.
pub(crate) struct Running {
    config: Config,
    member: Member,
    ports: Ports,
    _locks: (process::DirLock, Option<process::DirLock>),
}

impl Running {
    /// Locks, opens and starts everything; a leader may not be known yet.
    ///
    /// # Errors
    /// A sentence: a folder is in use, a port taken, a certificate unusable, the
    /// data damaged, or this member does not belong to the cluster.
    pub(crate) async fn start(mut config: Config) -> Result<Running, String> {
        let lock = process::lock_dir("data directory", &config.data_dir)?;
        let log_lock =
            config.wal_dir.as_ref().map(|dir| process::lock_dir("log directory", dir)).transpose()?;
        let opened = open(&mut config)?;
        tracing::info!(
            name = config.name,
            data_dir = %config.data_dir.display(),
            etcd_version = skiff_kine_api::ETCD_VERSION,
            skiff_version = env!("CARGO_PKG_VERSION"),
            "starting"
        );
        let member = member::start(&config, opened.peer_client_tls.clone()).await?;
        let ports = Ports::start(&config, opened, &member);
        Ok(Running { config, member, ports, _locks: (lock, log_lock) })
    }

    /// The member.
    pub(crate) fn node(&self) -> Arc<Node> {
        self.member.node()
    }

    /// Waits until the member has ended by itself.
    ///
    /// # Errors
    /// Why, unless it was stopped.
    pub(crate) async fn ended(&self) -> Result<(), String> {
        self.member.ended().await
    }

    /// Hands over, lets requests end, closes.
    pub(crate) async fn stop(&mut self) {
        stop(&mut self.ports, &self.member).await;
    }
}

fn open(config: &mut Config) -> Result<Opened, String> {
    let hosts = |urls: &[Endpoint]| {
        urls.iter().map(Endpoint::tls_name).filter(|host| !host.is_empty()).collect::<Vec<_>>()
    };
    let fixtures = config.data_dir.join("fixtures");
    config.client_tls.prepare(&fixtures.join("client"), &hosts(&config.listen.client))?;
    config.peer_tls.prepare(&fixtures.join("peer"), &hosts(&config.listen.peer))?;
    if config.peer_tls.auto {
        tracing::warn!("--peer-auto-tls encrypts, but does not check who the peers are");
    }
    let bind_all = |urls: &[Endpoint]| {
        urls.iter()
            .map(|url| Ok((url.clone(), bind(url, config.listen.reuse_port)?)))
            .collect::<Result<Vec<_>, String>>()
    };
    Ok(Opened {
        client: bind_all(&config.listen.client)?,
        client_http: bind_all(&config.listen.client_http)?,
        metrics: bind_all(&config.listen.metrics)?,
        peer: bind_all(&config.listen.peer)?,
        client_tls: ServerTls::new(&config.client_tls)?,
        peer_tls: ServerTls::new(&config.peer_tls)?,
        peer_client_tls: PeerClientTls::new(&config.peer_tls)?,
        tokens: config.auth.tokens.load()?,
        tracing: config.tracing.as_ref().map(otlp::start).transpose()?,
    })
}

/// The ports of a running member and what ends them.
struct Ports {
    clients: JoinSet<()>,
    stop_clients: tokio::sync::watch::Sender<bool>,
    peers: JoinSet<()>,
    stop_peers: tokio::sync::watch::Sender<bool>,
}

impl Ports {
    fn start(config: &Config, mut opened: Opened, member: &Member) -> Ports {
        let (stop_clients, stop) = Stop::new();
        let (stop_peers, peers_stop) = Stop::new();
        let mut clients = JoinSet::new();
        let slots = Arc::new(Semaphore::new(process::connection_slots()));
        let options = ConnectionOptions::for_clients(&config.listen);
        let mut api = member::api_config(config, opened.tokens);
        api.tracing = opened.tracing.take().map(|(tracing, exporter)| {
            clients.spawn(exporter.run(stop.clone()));
            tracing
        });
        let mut whole =
            skiff_kine_api::router(member.store(), member.cluster(), api.clone(), stop.receiver());
        if config.enable_pprof {
            whole = whole.merge(profiling::routes());
        }
        let metrics = skiff_kine_api::metrics_router(member.store(), member.cluster(), api);
        let at_client = if opened.client_http.is_empty() { Serves::All } else { Serves::Grpc };
        let each = [
            ("client", &whole, opened.client, Some(at_client)),
            ("client", &whole, opened.client_http, Some(Serves::Http)),
            ("metrics", &metrics, opened.metrics, None),
        ];
        for (name, router, listeners, serves) in each {
            for (url, listener) in listeners {
                let tls = opened.client_tls.clone().filter(|_| url.scheme.tls());
                let access = Access::new(&config.host_whitelist, tls.is_some());
                let access = match serves {
                    Some(serves) => access.with_origins(&config.cors).serving(serves),
                    None => access,
                };
                let router = access.guard(router.clone());
                let port = Port {
                    name,
                    router,
                    tls,
                    certificates: false,
                    options: options.clone(),
                    slots: slots.clone(),
                };
                tracing::info!(%url, "serving {name} traffic");
                clients.spawn(serve(listener, port, stop.clone()));
            }
        }
        clients.spawn(compactor::run(member.store(), config.auto_compaction, stop));
        let mut peers = JoinSet::new();
        for (url, listener) in opened.peer {
            let tls = opened.peer_tls.clone().filter(|_| url.scheme.tls());
            let options = ConnectionOptions::for_peers();
            let port = Port {
                name: "peer",
                router: member.peer_router(),
                tls,
                certificates: false,
                options,
                slots: slots.clone(),
            };
            tracing::info!(%url, "serving peer traffic");
            peers.spawn(serve(listener, port, peers_stop.clone()));
        }
        Ports { clients, stop_clients, peers, stop_peers }
    }
}

/// Reports the member ready, then waits for a signal or its end.
async fn watch_over(config: &Config, member: &Member, signals: &mut process::Signals) -> Result<(), String> {
    let ready = async {
        member.published().await;
        ready(member.store()).await;
    };
    tokio::pin!(ready);
    let mut reported = false;
    loop {
        tokio::select! {
            () = &mut ready, if !reported => {
                reported = true;
                let urls: Vec<String> = config.listen.client.iter().map(ToString::to_string).collect();
                tracing::info!(urls = urls.join(","), "ready to serve client requests");
                process::notify("READY=1");
            }
            name = signals.next() => {
                tracing::info!(signal = name, "received signal; shutting down");
                process::notify("STOPPING=1");
                return Ok(());
            }
            ended = member.ended() => return ended,
        }
    }
}

/// Waits until a leader is known and a read through it is answered.
async fn ready(store: Arc<dyn Store>) {
    let mut leader = store.leader();
    loop {
        if leader.wait_for(|leader| *leader != 0).await.is_err() {
            return std::future::pending().await; // the member has ended
        }
        let probe = RangeRequest {
            key: bytes::Bytes::from_static(b"\0"),
            limit: 1,
            keys_only: true,
            ..Default::default()
        };
        match store.range(probe).await {
            // A learner answers no reads, and is as ready as it can be.
            Ok(_) | Err(Error::Node(NodeError::NotSupportedForLearner)) => return,
            Err(error) => tracing::debug!(%error, "not ready yet"),
        }
        tokio::time::sleep(READY_PAUSE).await;
    }
}

/// Stops in the order that hurts least: another leads first, then clients are
/// let go, then the log is closed, and peers hear of it until the end.
async fn stop(ports: &mut Ports, member: &Member) {
    if tokio::time::timeout(HANDOVER_TIMEOUT, member.hand_over()).await.is_err() {
        tracing::warn!("handing over leadership took too long; the others will elect");
    }
    ports.stop_clients.send_replace(true);
    if tokio::time::timeout(DRAIN_TIMEOUT, process::all(&mut ports.clients)).await.is_err() {
        tracing::warn!("some requests did not end in time and are cut");
        ports.clients.shutdown().await;
    }
    if tokio::time::timeout(CLOSE_TIMEOUT, member.close()).await.is_err() {
        tracing::warn!("closing the log took too long; the next start replays it");
    }
    ports.stop_peers.send_replace(true);
    if tokio::time::timeout(Duration::from_secs(1), process::all(&mut ports.peers)).await.is_err() {
        ports.peers.shutdown().await;
    }
    tracing::info!("stopped");
}
