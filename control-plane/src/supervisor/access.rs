//! Who asks, and whether he may. A handler says what it needs by the type of its
//! argument: one that asks for [`ServerAccess`] is never called for others.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use rustls::pki_types::CertificateDer;
use skiff_token::Credentials;
use skiff_token::wire::Refused;
use tokio::sync::OwnedSemaphorePermit;

use super::{Refusal, Supervisor};
use crate::pki::Facts;
use crate::token::secrets::{Denied, Right};

/// Whoever is in it may everything.
const MASTERS: &str = "system:masters";
/// Nodes are in it.
const NODES: &str = "system:nodes";
/// What begins the name of a node's user.
const NODE_USER: &str = "system:node:";

/// The certificate a client showed; the port has verified that it is by the
/// cluster's authority for clients. Whoever serves the router puts it among the
/// extensions of a request.
#[derive(Debug, Clone)]
pub struct ClientCertificate(pub CertificateDer<'static>);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// A server, or an administrator.
    Server,
    /// A node, by its certificate: its name.
    Node(String),
    /// An agent, by the agents' secret.
    Agent,
    /// The holder of a bootstrap token.
    Bootstrapper(String),
}

/// A request of somebody who may what agents may.
pub(super) struct AgentAccess {
    pub(super) who: Who,
    pub(super) supervisor: Arc<Supervisor>,
    _turn: OwnedSemaphorePermit,
}

impl AgentAccess {
    /// Servers may see more.
    pub(super) fn is_server(&self) -> bool {
        self.who == Who::Server
    }
}

/// A request of somebody who may what servers may.
pub(super) struct ServerAccess {
    pub(super) supervisor: Arc<Supervisor>,
    _turn: OwnedSemaphorePermit,
}

impl FromRequestParts<Arc<Supervisor>> for AgentAccess {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Supervisor>) -> Result<Self, Refusal> {
        let turn = state.throttle.enter().await?;
        let who = identify(parts, state).await?;
        Ok(AgentAccess { who, supervisor: state.clone(), _turn: turn })
    }
}

impl FromRequestParts<Arc<Supervisor>> for ServerAccess {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Supervisor>) -> Result<Self, Refusal> {
        let turn = state.throttle.enter().await?;
        match identify(parts, state).await? {
            Who::Server => Ok(ServerAccess { supervisor: state.clone(), _turn: turn }),
            _ => Err(Refusal::forbidden(
                "this needs the servers' token (server/token of a server) or an administrator's certificate",
            )),
        }
    }
}

/// Finds out who asks: by what he says of himself, else by his certificate.
async fn identify(parts: &Parts, supervisor: &Supervisor) -> Result<Who, Refusal> {
    if let Some(header) = parts.headers.get(AUTHORIZATION) {
        let credentials = header.to_str().ok().and_then(Credentials::from_authorization);
        let Some(credentials) = credentials else {
            return Err(Refusal::unauthorized(
                Refused::Token,
                "the header Authorization is neither a password nor a \
                                                              bootstrap token",
            ));
        };
        return match supervisor.secrets.right(&credentials).await {
            Ok(Right::Server) => Ok(Who::Server),
            Ok(Right::Agent) => Ok(Who::Agent),
            Ok(Right::Bootstrapper(id)) => Ok(Who::Bootstrapper(id)),
            Err(Denied::Wrong) => {
                Err(Refusal::unauthorized(Refused::Token, "the token is not one of this cluster's"))
            }
            Err(Denied::Expired) => {
                Err(Refusal::unauthorized(Refused::TokenExpired, "the token has ended; create a new one"))
            }
            Err(Denied::Unknown(problem)) => {
                tracing::debug!(problem, "cannot tell who asks");
                Err(Refusal::unavailable("the datastore does not answer"))
            }
        };
    }
    let shown = parts.extensions.get::<ClientCertificate>();
    match shown.map(|ClientCertificate(der)| Facts::of(der)) {
        Some(Ok(facts)) => by_certificate(&facts),
        Some(Err(_)) | None => {
            Err(Refusal::unauthorized(Refused::Token, "this needs a token or a certificate of this cluster"))
        }
    }
}

fn by_certificate(facts: &Facts) -> Result<Who, Refusal> {
    let is_in = |group: &str| facts.organizations.iter().any(|organization| organization == group);
    if is_in(MASTERS) {
        return Ok(Who::Server);
    }
    match facts.common_name.as_deref().and_then(|name| name.strip_prefix(NODE_USER)) {
        Some(node) if is_in(NODES) => Ok(Who::Node(node.to_owned())),
        _ => Err(Refusal::forbidden("the certificate shown gives no right here")),
    }
}
