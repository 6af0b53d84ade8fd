//! What others ask of a server over HTTPS: K3s's routes, below `/v1-skiff` and
//! below `/v1-k3s`.
//!
//! | who | what |
//! |---|---|
//! | anybody | `/ping`, `/cacerts`, `/readyz`, `/livez` |
//! | an agent, a node, the holder of a bootstrap token | certificates by request, `config`, `apiservers`, `readyz` |
//! | a server, an administrator | `server-bootstrap`, `members`, `token`, `tokens`, `cert/cacerts`, `/metrics`, `/db/info` |
//!
//! An agent shows a password (basic authentication) or a bootstrap token (bearer);
//! whoever has a certificate by the cluster's authority for clients may show that.
//! Few requests are worked on at a time, few wait, and the rest are told to come
//! back.
//!
//! Not here: the tunnel, secrets encryption, replacing authorities.

mod access;
mod body;
mod certificates;
mod members;
mod node_password;
mod refusal;
mod throttle;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use prometheus::TextEncoder;
use serde::{Deserialize, Serialize};
use skiff_store::{Cluster, Error};
use skiff_token::wire;

pub use access::ClientCertificate;
pub use members::{JoinedMember, Member, MemberReply, MemberRequest, announce};
pub use refusal::Refusal;
pub use tokens::{Rotation, write_files};

use self::access::{AgentAccess, ServerAccess};
use self::body::Json;
use self::throttle::Throttle;
use crate::join::critical::Settings;
use crate::layout::Layout;
use crate::pki::{Ca, Pki};
use crate::records::Records;
use crate::token::SharedSecrets;

/// What a supervisor stands on.
pub struct Supervisor {
    /// Where the server's files are.
    pub layout: Layout,
    /// Its certificates.
    pub pki: Arc<Pki>,
    /// What servers share.
    pub records: Records,
    /// The secrets to join with.
    pub secrets: Arc<SharedSecrets>,
    /// The store's members; none where it is a database.
    pub cluster: Option<Arc<dyn Cluster>>,
    /// The settings that must be the same on every server.
    pub settings: Settings,
    /// What this server is.
    pub version: String,
    /// Serve `/metrics`.
    pub metrics: bool,
    throttle: Throttle,
}

/// What `config` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The server's version.
    pub version: String,
    /// The settings that must be the same on every server.
    pub settings: Settings,
}

impl Supervisor {
    /// Puts one together.
    #[must_use]
    #[allow(clippy::too_many_arguments)] // each is named by its type, and given once
    pub fn new(
        layout: Layout,
        pki: Arc<Pki>,
        records: Records,
        secrets: Arc<SharedSecrets>,
        cluster: Option<Arc<dyn Cluster>>,
        settings: Settings,
        version: &str,
        metrics: bool,
    ) -> Arc<Supervisor> {
        let version = version.to_owned();
        let throttle = Throttle::default();
        Arc::new(Supervisor { layout, pki, records, secrets, cluster, settings, version, metrics, throttle })
    }

    /// Everything it serves.
    pub fn router(self: &Arc<Self>) -> Router {
        let mut versioned: Router<Arc<Supervisor>> = Router::new()
            .route("/readyz", get(ready_for_nodes))
            .route("/config", get(config))
            .route(wire::API_SERVERS, get(api_servers))
            .route("/client-ca.crt", get(client_authority))
            .route("/server-ca.crt", get(server_authority))
            .route("/server-bootstrap", get(members::bootstrap))
            .route("/members", post(members::join))
            .route("/cert/cacerts", get(authorities_of_servers))
            .route("/token", put(tokens::rotate))
            .route("/tokens", get(tokens::list).post(tokens::create))
            .route("/tokens/{id}", delete(tokens::remove));
        for (path, kind) in certificates::ROUTES {
            let sign = |access: AgentAccess, headers: HeaderMap, body: Bytes| {
                certificates::sign(*kind, access, headers, body)
            };
            versioned = versioned.route(path, post(sign));
        }
        let mut router = Router::new()
            .nest(wire::PREFIX, versioned.clone())
            .nest(wire::K3S_PREFIX, versioned)
            .route(wire::PING, get(async || "pong"))
            .route(wire::CA_CERTS, get(authorities))
            .route("/livez", get(async || "ok"))
            .route("/readyz", get(ready))
            .route("/db/info", get(members::list));
        if self.metrics {
            router = router.route("/metrics", get(metrics));
        }
        router
            .fallback(async || {
                Refusal::not_found("there is nothing at this path (the API server is not built in yet)")
            })
            .layer(DefaultBodyLimit::max(wire::MAX_BODY))
            .with_state(self.clone())
    }
}

const PEM: &str = "application/x-pem-file";

fn pem(supervisor: &Supervisor, ca: Ca) -> Result<Response, Refusal> {
    let bundle = supervisor.pki.bundle(ca).map_err(Refusal::internal)?;
    Ok(([(CONTENT_TYPE, PEM)], bundle).into_response())
}

async fn authorities(State(supervisor): State<Arc<Supervisor>>) -> Result<Response, Refusal> {
    pem(&supervisor, Ca::Server)
}

async fn authorities_of_servers(access: ServerAccess) -> Result<Response, Refusal> {
    pem(&access.supervisor, Ca::Server)
}

async fn client_authority(access: AgentAccess) -> Result<Response, Refusal> {
    pem(&access.supervisor, Ca::Client)
}

async fn server_authority(access: AgentAccess) -> Result<Response, Refusal> {
    pem(&access.supervisor, Ca::Server)
}

/// Whether the datastore answers.
async fn ready(State(supervisor): State<Arc<Supervisor>>) -> Result<&'static str, Refusal> {
    // Anybody may ask: not more often than the throttle lets pass.
    let _permit = supervisor.throttle.enter().await?;
    match supervisor.records.get("/skiff/ready").await {
        Ok(_) => Ok("ok"),
        Err(error) => {
            tracing::debug!(%error, "not ready");
            Err(Refusal::unavailable("the datastore does not answer"))
        }
    }
}

async fn ready_for_nodes(access: AgentAccess) -> Result<&'static str, Refusal> {
    access.supervisor.records.get("/skiff/ready").await.map_err(|e| Refusal::of_store(&e))?;
    Ok("ok")
}

async fn config(access: AgentAccess) -> Json<Config> {
    let supervisor = &access.supervisor;
    let mut settings = supervisor.settings.clone();
    // Its hash tells servers whether theirs is the same. It is none of a node's business.
    settings.set_agent_token(
        access.is_server().then(|| supervisor.secrets.current().agent().to_owned()).as_deref(),
    );
    Json(Config { version: supervisor.version.clone(), settings })
}

/// Where the API servers are: the servers that take part.
async fn api_servers(access: AgentAccess) -> Result<Json<Vec<String>>, Refusal> {
    let supervisor = &access.supervisor;
    let addresses: BTreeMap<String, Member> = members::registered(supervisor).await?;
    Ok(Json(addresses.into_values().map(|member| member.address).filter(|text| !text.is_empty()).collect()))
}

async fn metrics(_access: ServerAccess) -> Result<String, Refusal> {
    TextEncoder::new().encode_to_string(&prometheus::gather()).map_err(|e| Refusal::internal(e.to_string()))
}

impl Refusal {
    /// What the store's error means to who asked.
    fn of_store(error: &Error) -> Refusal {
        Refusal::unavailable(format!("the datastore does not answer: {error}"))
    }
}

#[cfg(test)]
mod tests;
