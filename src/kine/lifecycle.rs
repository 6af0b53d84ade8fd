//! From the first connection to the database to the last reply.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use skiff_kine_api::ApiConfig;
use skiff_sql::db::{self, Database, DbErrorKind, PoolOptions};
use skiff_sql::endpoint::Endpoint as Datastore;
use skiff_sql::{SqlConfig, SqlStore};
use skiff_store::clock::SystemClock;
use skiff_store::{Cluster, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::config::Config;
use super::{compaction, upstream};
use crate::config::Endpoint;
use crate::serve::{Access, ConnectionOptions, Listener, Port, Stop, bind, bind_private, serve};
use crate::tls::ServerTls;
use crate::{process, profiling};

/// Requests under way have this long to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The store has this long to end its work.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two attempts to reach the database at the start.
const CONNECT_PAUSE: Duration = Duration::from_secs(1);

/// What is opened before the database is touched, so that a used port or a bad
/// certificate is reported first.
struct Opened {
    client: Listener,
    metrics: Option<(Endpoint, Listener)>,
    tls: Option<Arc<ServerTls>>,
}

/// Serves until a signal, or until it cannot go on.
pub(super) async fn run(config: Config) -> Result<(), String> {
    let mut signals = process::Signals::new().map_err(|e| format!("cannot handle signals: {e}"))?;
    let replica = config.replica_dir.as_ref();
    let _lock = replica.map(|dir| process::lock_dir("replica directory", dir)).transpose()?;
    let opened = Opened {
        client: bind_private(&config.listen)?,
        metrics: match &config.metrics {
            Some(url) => Some((url.clone(), bind(url, false)?)),
            None => None,
        },
        tls: ServerTls::new(&config.tls)?,
    };
    tracing::info!(
        datastore = %config.datastore,
        etcd_version = skiff_kine_api::ETCD_VERSION,
        skiff_version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    let (stop_clients, stop) = Stop::new();
    let served = tokio::select! {
        served = open(&config, &stop) => served?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the database was open");
            return Ok(());
        }
    };
    let mut clients = spawn(&config, opened, &served, &stop);
    tracing::info!(url = %config.listen, "ready to serve client requests");
    process::notify("READY=1");
    let name = signals.next().await;
    tracing::info!(signal = name, "received signal; shutting down");
    process::notify("STOPPING=1");
    let ending = async {
        stop_clients.send_replace(true);
        if tokio::time::timeout(DRAIN_TIMEOUT, process::all(&mut clients)).await.is_err() {
            tracing::warn!("some requests did not end in time and are cut");
            clients.shutdown().await;
        }
        if let Some(store) = &served.store
            && tokio::time::timeout(CLOSE_TIMEOUT, store.stop()).await.is_err()
        {
            tracing::warn!("the store did not end its work in time");
        }
        tracing::info!("stopped");
    };
    tokio::select! {
        () = ending => {}
        name = signals.next() => tracing::warn!(signal = name, "stopping at once: signalled again"),
    }
    Ok(())
}

/// What the ports serve.
struct Served {
    client: Router,
    metrics: Router,
    /// The store, where it is in this process.
    store: Option<Arc<SqlStore>>,
}

/// Puts together what is served: a store in a database, or an etcd elsewhere.
async fn open(config: &Config, stop: &Stop) -> Result<Served, String> {
    if let Datastore::Etcd(etcd) = &config.datastore {
        let client = upstream::router(etcd, stop)?;
        return Ok(Served { metrics: upstream::metrics(&client), client, store: None });
    }
    let sql = open_store(config).await?;
    let (cluster, store): (Arc<dyn Cluster>, Arc<dyn Store>) = (sql.clone(), sql.clone());
    let api = ApiConfig { progress_interval: config.progress_interval, ..ApiConfig::default() };
    Ok(Served {
        client: skiff_kine_api::router(store.clone(), cluster.clone(), api.clone(), stop.receiver()),
        metrics: skiff_kine_api::metrics_router(store, cluster, api),
        store: Some(sql),
    })
}

/// Opens the database, for which it waits, and the store in it.
async fn open_store(config: &Config) -> Result<Arc<SqlStore>, String> {
    let db = connect(&config.datastore, &config.pool).await?;
    let mut sql = SqlConfig {
        replica_dir: config.replica_dir.clone(),
        migrate_schema: config.migrate_schema,
        compaction_batch: config.compaction_batch,
        ..SqlConfig::default()
    };
    // As kine tells it: there are no peers, and clients expect some address.
    sql.member.client_ur_ls = vec![config.listen.to_string()];
    sql.member.peer_ur_ls = sql.member.client_ur_ls.clone();
    SqlStore::open(db, sql, Arc::new(SystemClock::default())).await.map_err(|error| error.to_string())
}

/// A database that starts at the same time as this server may need a while.
pub(crate) async fn connect(datastore: &Datastore, pool: &PoolOptions) -> Result<Arc<dyn Database>, String> {
    loop {
        match db::connect(datastore, pool).await {
            Ok(db) => return Ok(db),
            Err(error) if error.kind() == DbErrorKind::Unreachable => {
                tracing::warn!(%error, "the database is not there yet; it is tried again");
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Starts what serves and what works in the background.
fn spawn(config: &Config, opened: Opened, served: &Served, stop: &Stop) -> JoinSet<()> {
    let slots = Arc::new(Semaphore::new(process::connection_slots()));
    let options = ConnectionOptions::for_kine();
    let mut tasks = JoinSet::new();
    let (whole, mut metrics) = (served.client.clone(), served.metrics.clone());
    if config.profiling {
        metrics = metrics.merge(profiling::routes());
    }
    let ports = std::iter::once(("client", whole, config.listen.clone(), opened.client))
        .chain(opened.metrics.map(|(url, listener)| ("metrics", metrics, url, listener)));
    for (name, router, url, listener) in ports {
        let tls = opened.tls.clone().filter(|_| url.scheme.tls());
        let router = Access::new(&[], tls.is_some()).guard(router);
        let port =
            Port { name, router, tls, certificates: false, options: options.clone(), slots: slots.clone() };
        tracing::info!(%url, "serving {name} traffic");
        tasks.spawn(serve(listener, port, stop.clone()));
    }
    if let (Some(plan), Some(store)) = (config.compaction, &served.store) {
        tasks.spawn(compaction::run(store.clone(), plan, stop.clone()));
    }
    tasks
}
