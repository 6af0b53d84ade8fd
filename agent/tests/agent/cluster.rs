//! A cluster of the tests' own: authorities, and servers that certify nodes and take tunnels.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::crypto::ring;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use skiff_agent::ServerAddress;
use skiff_token::wire::{self, Refused};
use skiff_token::{CaBundle, Credentials, Token};
use skiff_tunnel::{End, RefuseAll, Tunnel, upgrade};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::own_address;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A cluster. Its servers share it.
pub(crate) struct Cluster {
    authority: Authority,
    state: Mutex<ClusterState>,
}

/// What tests look at and change.
pub(crate) struct ClusterState {
    pub(crate) password: String,
    /// Answer to every token, if not the right one.
    pub(crate) refuse: Option<Refused>,
    /// Answer to every request for a certificate, if not a certificate.
    pub(crate) status: Option<StatusCode>,
    /// How long certificates are good from now on, and how long they were before.
    pub(crate) lifetime: Duration,
    pub(crate) age: Duration,
    pub(crate) servers: Vec<ServerAddress>,
    pub(crate) node_passwords: HashMap<String, String>,
    /// Path, and whether a certificate stood for the token.
    pub(crate) asked: Vec<(String, bool)>,
    /// What `/cacerts` serves instead of the authority.
    pub(crate) served: Option<String>,
    pub(crate) tunnels: Vec<Tunnel>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Cluster {
    pub(crate) fn new() -> Arc<Self> {
        let state = ClusterState {
            password: "right".to_owned(),
            refuse: None,
            status: None,
            lifetime: Duration::from_secs(24 * 60 * 60),
            age: Duration::ZERO,
            servers: Vec::new(),
            node_passwords: HashMap::new(),
            asked: Vec::new(),
            served: None,
            tunnels: Vec::new(),
        };
        Arc::new(Cluster { authority: authority("cluster"), state: Mutex::new(state) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, ClusterState> {
        self.state.lock().unwrap()
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// The whole token of agents.
    pub(crate) fn token(&self) -> Token {
        let hash = CaBundle::from_pem(self.ca_pem().into_bytes()).unwrap().hash();
        format!("K10{hash}::node:right").parse().unwrap()
    }

    /// Somebody else's authority, in the same form.
    pub(crate) fn stranger() -> String {
        authority("stranger").pem()
    }

    fn sign(&self, csr: &[u8], name: &str) -> Result<String, rcgen::Error> {
        let der = CertificateSigningRequestDer::from(csr.to_vec());
        let mut request = CertificateSigningRequestParams::from_der(&der)?;
        let (lifetime, age) = {
            let state = self.state();
            (state.lifetime, state.age)
        };
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let now = epoch + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        request.params.not_before = now - age;
        request.params.not_after = now + lifetime;
        request.params.distinguished_name = DistinguishedName::new();
        request.params.distinguished_name.push(DnType::CommonName, name);
        request.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        Ok(request.signed_by(&self.authority)?.pem())
    }

    fn tls(&self, host: String) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap()
    }
}

/// A server of a cluster, until it is dropped.
pub(crate) struct Server {
    cluster: Arc<Cluster>,
    pub(crate) address: ServerAddress,
    running: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(cluster: &Arc<Cluster>) -> Self {
        Self::start_at(cluster, &format!("{}:0", own_address())).await
    }

    async fn start_at(cluster: &Arc<Cluster>, at: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address: ServerAddress = listener.local_addr().unwrap().to_string().parse().unwrap();
        let mut running = JoinSet::new();
        running.spawn(serve(listener, address.host().to_owned(), cluster.clone()));
        Server { cluster: cluster.clone(), address, running }
    }

    /// Closes the port and every connection.
    pub(crate) async fn kill(&mut self) {
        self.running.shutdown().await;
    }

    pub(crate) async fn restart(&mut self) {
        *self = Self::start_at(&self.cluster, &self.address.to_string()).await;
    }
}

/// True if the client showed a certificate.
#[derive(Clone, Copy)]
struct Shown(bool);

async fn serve(listener: TcpListener, host: String, cluster: Arc<Cluster>) {
    let acceptor = TlsAcceptor::from(Arc::new(cluster.tls(host)));
    let router = router(cluster);
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, router) = (acceptor.clone(), router.clone());
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let shown = Shown(tls.get_ref().1.peer_certificates().is_some());
            let service = TowerToHyperService::new(router.layer(axum::Extension(shown)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service).with_upgrades().await;
        });
    }
}

fn router(cluster: Arc<Cluster>) -> Router {
    let routes = Router::new()
        .route(wire::CONNECT, get(connect))
        .route(wire::CLIENT_CA, get(client_ca))
        .route(wire::API_SERVERS, get(api_servers))
        .route("/{certificate}", post(certify));
    Router::new().nest(wire::PREFIX, routes).route(wire::CA_CERTS, get(ca_certs)).with_state(cluster)
}

async fn ca_certs(State(cluster): State<Arc<Cluster>>) -> String {
    let served = cluster.state().served.clone();
    served.unwrap_or_else(|| cluster.ca_pem())
}

async fn api_servers(
    State(cluster): State<Arc<Cluster>>,
    axum::Extension(shown): axum::Extension<Shown>,
    headers: HeaderMap,
) -> Response {
    match cluster.admit(&headers, shown) {
        Ok(()) => {
            let servers: Vec<String> = cluster.state().servers.iter().map(ToString::to_string).collect();
            serde_json::to_string(&servers).unwrap().into_response()
        }
        Err(refused) => refuse(refused),
    }
}

async fn client_ca(State(cluster): State<Arc<Cluster>>, headers: HeaderMap) -> Response {
    match cluster.admit(&headers, Shown(false)) {
        Ok(()) => cluster.ca_pem().into_response(),
        Err(refused) => refuse(refused),
    }
}

async fn certify(
    State(cluster): State<Arc<Cluster>>,
    Path(path): Path<String>,
    axum::Extension(shown): axum::Extension<Shown>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    cluster.state().asked.push((path.clone(), !headers.contains_key(header::AUTHORIZATION)));
    if let Err(refused) = cluster.admit(&headers, shown) {
        return refuse(refused);
    }
    if let Some(status) = cluster.state().status {
        return (status, "not now").into_response();
    }
    let name = headers[wire::NODE_NAME].to_str().unwrap().to_owned();
    let password = headers[wire::NODE_PASSWORD].to_str().unwrap().to_owned();
    let known = cluster.state().node_passwords.entry(name.clone()).or_insert(password.clone()).clone();
    if known != password {
        return refuse(Refused::NodePassword);
    }
    assert_eq!(headers[header::CONTENT_TYPE], wire::CSR_TYPE);
    cluster.sign(&body, &format!("{path} of {name}")).unwrap().into_response()
}

impl Cluster {
    fn admit(&self, headers: &HeaderMap, shown: Shown) -> Result<(), Refused> {
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            return if shown.0 { Ok(()) } else { Err(Refused::Token) };
        };
        let state = self.state();
        if let Some(refused) = state.refuse {
            return Err(refused);
        }
        match Credentials::from_authorization(header.to_str().unwrap()) {
            Some(Credentials::Password(password))
                if password.user == "node" && password.is(&state.password) =>
            {
                Ok(())
            }
            Some(Credentials::Bootstrap(bootstrap)) if bootstrap.id == "abcdef" => Ok(()),
            _ => Err(Refused::Token),
        }
    }
}

fn refuse(refused: Refused) -> Response {
    (StatusCode::from_u16(refused.status()).unwrap(), [(wire::REFUSED, refused.name())], "refused")
        .into_response()
}

async fn connect(
    State(cluster): State<Arc<Cluster>>,
    axum::Extension(shown): axum::Extension<Shown>,
    mut request: Request,
) -> Response {
    if !shown.0 {
        return (StatusCode::FORBIDDEN, "a certificate is needed").into_response();
    }
    let response = match upgrade::respond(request.headers()) {
        Ok(response) => response,
        Err(error) => return error.into_response(),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let io = TokioIo::new(upgraded);
        let tunnel =
            Tunnel::start(io, End::Server, skiff_tunnel::Options::default(), Arc::new(RefuseAll)).await;
        cluster.state().tunnels.push(tunnel.unwrap());
    });
    response.map(|()| axum::body::Body::empty())
}
