//! From the first lock to the last byte of a server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use skiff_control_plane::bootstrap::{EstablishError, Established, Given, establish};
use skiff_control_plane::files;
use skiff_control_plane::join::learners;
use skiff_control_plane::pki::{Ca, Names, Pki};
use skiff_control_plane::records::Records;
use skiff_control_plane::supervisor::{MemberRequest, Supervisor, announce, write_files};
use skiff_control_plane::token::SharedSecrets;
use skiff_raft::Node;
use skiff_store::{Cluster, Store};
use skiff_token::Token;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::config::{Config, password_of};
use super::datastore::Data;
use super::member::{self, Place};
use super::{address, etcdctl, joining, upkeep};
use crate::etcd::Running;
use crate::process;
use crate::serve::{Access, ConnectionOptions, Listener, Port, Stop, bind, serve};
use crate::tls::{KeyFiles, ServerTls, TlsOptions};

/// Requests under way have this long to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two attempts to reach the datastore at the start.
const ESTABLISH_PAUSE: Duration = Duration::from_millis(250);
/// While it is not reached, one attempt in so many is logged.
const ESTABLISH_LOGGED: u32 = 40;

/// Who this server is.
struct Identity {
    node: String,
    address: IpAddr,
    /// Where its supervisor is reached: host and port.
    supervisor: String,
}

/// Runs a server until a signal, or until it cannot go on.
pub(super) async fn run(config: Config) -> Result<(), String> {
    let mut signals = process::Signals::new().map_err(|e| format!("cannot handle signals: {e}"))?;
    let _lock = process::lock_dir("server's folder", config.layout.server())?;
    let listener = bind(&config.listen, false)?;
    let identity = identity(&config)?;
    let pki = Arc::new(Pki::new(config.layout.tls(), names(&config, &identity)));
    tracing::info!(
        node = identity.node,
        address = %identity.address,
        folder = %config.layout.server().display(),
        skiff_version = env!("CARGO_PKG_VERSION"),
        "starting a server"
    );
    let mut data = tokio::select! {
        opened = open(&config, &identity, &pki) => opened?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before the datastore was open");
            return Ok(());
        }
    };
    let (stop_ports, stop) = Stop::new();
    let mut ports = JoinSet::new();
    let mut background = JoinSet::new();
    if let Some(node) = data.node() {
        background.spawn(learners::run(node));
    }
    let ended = {
        let work = async {
            serve_cluster(&config, &identity, &pki, &data, listener, &stop, &mut ports).await?;
            std::future::pending().await
        };
        tokio::select! {
            ended = work => ended,
            ended = data.ended() => ended.map_err(with_remedy),
            name = signals.next() => {
                tracing::info!(signal = name, "received signal; shutting down");
                process::notify("STOPPING=1");
                Ok(())
            }
        }
    };
    let ending = async {
        stop_ports.send_replace(true);
        if tokio::time::timeout(DRAIN_TIMEOUT, process::all(&mut ports)).await.is_err() {
            tracing::warn!("some requests did not end in time and are cut");
            ports.shutdown().await;
        }
        background.shutdown().await;
        data.stop().await;
    };
    tokio::select! {
        () = ending => {}
        name = signals.next() => tracing::warn!(signal = name, "stopping at once: signalled again"),
    }
    ended
}

fn with_remedy(problem: String) -> String {
    match problem.contains("removed from the cluster") {
        true => removed(&problem),
        false => problem,
    }
}

/// What to do with a server whose store was removed.
fn removed(problem: &str) -> String {
    format!(
        "{problem}; to join again as a new member, delete server/db/etcd in the data folder and start with --server \
         and --token"
    )
}

fn identity(config: &Config) -> Result<Identity, String> {
    let node = match config.with_node_id {
        true => address::with_node_id(&config.node, &config.layout)?,
        false => config.node.clone(),
    };
    let address = match config.node_ips.first() {
        Some(address) => *address,
        None => address::own_address(config.server.as_ref())?,
    };
    let reached = config.advertise.unwrap_or(address);
    let supervisor = std::net::SocketAddr::new(reached, config.advertise_port).to_string();
    Ok(Identity { node, address, supervisor })
}

/// The names and addresses in this server's certificates.
fn names(config: &Config, identity: &Identity) -> Names {
    let mut own =
        vec!["127.0.0.1".to_owned(), "::1".to_owned(), "localhost".to_owned(), identity.node.clone()];
    own.push(identity.address.to_string());
    own.extend(config.node_ips.iter().chain(&config.external_ips).map(ToString::to_string));
    let mut public: Vec<String> =
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).into();
    public.extend(config.advertise.iter().map(ToString::to_string));
    public.extend(config.names.iter().cloned());
    Names { own, public }
}

/// Opens the datastore, with the certificates that it needs: own ones, or those of
/// the cluster that is joined.
async fn open(config: &Config, identity: &Identity, pki: &Arc<Pki>) -> Result<Data, String> {
    if let Some(datastore) = &config.datastore {
        return Data::sql(datastore).await;
    }
    let has_member = config.layout.has_member();
    let place = Place { name: member::name(&config.layout, &identity.node)?, address: identity.address };
    let mut members = None;
    let joins = match (&config.server, join_token(config)?) {
        (Some(server), Some(token)) => Some((server, token)),
        _ => None,
    };
    match joins {
        Some(_) if has_member && pki.has_authorities() => {
            tracing::info!("--server has no effect: this server's store is there already");
        }
        Some((server, token)) if has_member => joining::restore(server, &token, pki.dir()).await?,
        Some((server, token)) => {
            let member = MemberRequest {
                node: identity.node.clone(),
                instance: place.name.clone(),
                peer_urls: vec![place.peer_url()],
                address: identity.supervisor.clone(),
            };
            let joined = joining::run(config, server, &token, member).await?;
            let replaced = joined.bundle.write(pki.dir())?;
            warn_replaced(&replaced);
            members = Some(joined.members);
        }
        None if has_member && !pki.has_authorities() => tracing::warn!(
            "the authorities are missing beside the store's data: a server that is the only one gets them back from \
             there; among several give --server and --token to fetch them from another"
        ),
        None => {}
    }
    make_certificates(pki).await?;
    let settings = member::settings(
        &config.layout,
        pki,
        &place,
        members.as_deref(),
        config.expose_metrics,
        &config.etcd_args,
    )?;
    let running = Running::start(settings).await.map_err(with_remedy)?;
    Ok(Data::Own(Box::new(running)))
}

/// The token to join with: as given, or as kept.
fn join_token(config: &Config) -> Result<Option<Token>, String> {
    if let Some(token) = &config.token {
        return Ok(Some(token.clone()));
    }
    kept_token(config)
}

fn kept_token(config: &Config) -> Result<Option<Token>, String> {
    let path = config.layout.token();
    let Some(text) = files::read_line(&path)? else { return Ok(None) };
    text.parse().map(Some).map_err(|e| format!("{}: {e}", path.display()))
}

async fn make_certificates(pki: &Arc<Pki>) -> Result<(), String> {
    let pki = pki.clone();
    let made = tokio::task::spawn_blocking(move || {
        pki.ensure_authorities()?;
        pki.ensure_leaves(SystemTime::now())
    });
    let made = made.await.map_err(|e| e.to_string())??;
    if !made.is_empty() {
        tracing::info!(made = made.join(","), "certificates were made");
    }
    Ok(())
}

fn warn_replaced(replaced: &[String]) {
    if !replaced.is_empty() {
        tracing::warn!(
            files = replaced.join(","),
            "these files were not the cluster's; they were moved aside, below server/tls/replaced-*"
        );
    }
}

/// From an open datastore to a server that takes part: what servers share is
/// brought together, then the port is served.
async fn serve_cluster(
    config: &Config,
    identity: &Identity,
    pki: &Arc<Pki>,
    data: &Data,
    listener: Listener,
    stop: &Stop,
    ports: &mut JoinSet<()>,
) -> Result<(), String> {
    let store: Arc<dyn Store> = data.store();
    let records = Records::new(store);
    let established = established(config, pki, &records).await?;
    warn_replaced(&established.replaced);
    for warning in &established.warnings {
        tracing::warn!("{warning}");
    }
    make_certificates(pki).await?;
    write_files(&config.layout, pki, &established.secrets)?;
    let node = data.node();
    let cluster = node.clone().map(|node| node as Arc<dyn Cluster>);
    let secrets = Arc::new(SharedSecrets::new(records.clone(), established.key, established.secrets));
    let supervisor = Supervisor::new(
        config.layout.clone(),
        pki.clone(),
        records.clone(),
        secrets,
        cluster,
        config.settings.clone(),
        env!("CARGO_PKG_VERSION"),
        config.metrics,
    );
    let tls = TlsOptions {
        server: Some(KeyFiles {
            cert: pki.file("serving-kube-apiserver", "crt"),
            key: pki.file("serving-kube-apiserver", "key"),
        }),
        ca: Some(pki.file(Ca::Client.path(), "crt")),
        ca_optional: true,
        ..TlsOptions::none()
    };
    let port = Port {
        name: "supervisor",
        router: Access::new(&[], true).guard(supervisor.router()),
        tls: ServerTls::new(&tls)?,
        certificates: true,
        options: ConnectionOptions::for_supervisor(),
        slots: Arc::new(Semaphore::new(process::connection_slots())),
    };
    let instance = match &node {
        Some(_) => member::name(&config.layout, &identity.node)?,
        None => identity.node.clone(),
    };
    let place = Place { name: instance.clone(), address: identity.address };
    if let Some(node) = &node {
        follow_address(node, &place).await?;
    }
    let id = node.as_ref().map_or(0, |node| node.id());
    announce(&records, &identity.node, &instance, id, &identity.supervisor)
        .await
        .map_err(|e| format!("cannot write down that this server is there: {e}"))?;
    ports.spawn(serve(listener, port, stop.clone()));
    ports.spawn(upkeep::secrets(supervisor.clone(), stop.clone()));
    ports.spawn(upkeep::renewal(supervisor, stop.clone()));
    if node.is_some() {
        etcdctl::write(&config.layout, pki, &place.client_url())?;
    }
    tracing::info!(
        url = %config.listen,
        address = identity.supervisor,
        token = %config.layout.token().display(),
        "ready: other servers join with --server https://{} and this token",
        identity.supervisor
    );
    process::notify("READY=1");
    Ok(())
}

/// Tells the others where this server's store is, if it has moved since.
async fn follow_address(node: &Node, place: &Place) -> Result<(), String> {
    let failed = |e: skiff_store::Error| format!("cannot tell the others this server's address: {e}");
    let members = node.members(true).await.map_err(failed)?;
    let Some(own) = members.iter().find(|member| member.id == node.id()) else { return Ok(()) };
    let urls = vec![place.peer_url()];
    if own.peer_ur_ls != urls {
        tracing::warn!(
            before = own.peer_ur_ls.join(","),
            now = urls.join(","),
            "this server's address has changed"
        );
        node.update(node.id(), urls).await.map_err(failed)?;
    }
    Ok(())
}

/// Brings together what servers share, as soon as the datastore answers.
async fn established(config: &Config, pki: &Pki, records: &Records) -> Result<Established, String> {
    let kept = kept_token(config)?;
    let given = Given {
        passwords: config.token.iter().chain(&kept).map(password_of).collect(),
        agent: config.agent_token.clone(),
    };
    let mut attempts = 0_u32;
    loop {
        match establish(records, pki, &given).await {
            Ok(established) => return Ok(established),
            Err(EstablishError::Refused(problem)) => return Err(problem),
            Err(EstablishError::Later(problem))
                if attempts.is_multiple_of(ESTABLISH_LOGGED) && attempts > 0 =>
            {
                tracing::warn!(problem, "waiting for the datastore: a majority of the servers must be up");
            }
            Err(EstablishError::Later(problem)) => tracing::debug!(problem, "waiting for the datastore"),
        }
        attempts = attempts.saturating_add(1);
        tokio::time::sleep(ESTABLISH_PAUSE).await;
    }
}
