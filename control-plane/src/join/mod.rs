//! How a server becomes part of a running cluster.
//!
//! 1. The authorities of the server named are fetched without trust; the token's
//!    hash vouches for them. From here on every call is checked by them.
//! 2. The settings that must be the same everywhere are compared.
//! 3. The bundle with the authorities' keys is fetched.
//! 4. The cluster is asked to add this server's store as a learner.
//!
//! Only then anything is written. Whatever fails before leaves both sides as they
//! were; what may go later is tried again by the caller.

pub mod client;
pub mod critical;
pub mod learners;

use hyper::{Method, StatusCode};
use skiff_token::wire::PREFIX;
use skiff_token::{CaBundle, Credentials, Password, Token};

pub use client::{CallError, Client, ServerUrl};

use crate::bootstrap::Bundle;
use crate::join::critical::Settings;
use crate::supervisor::{Config, JoinedMember, MemberReply, MemberRequest};
use crate::token::SERVER_USER;

/// Longest name of a node: DNS's limit.
const MAX_NODE_NAME: usize = 253;

/// Who wants to join, and how.
pub struct Join<'a> {
    /// A server of the cluster.
    pub server: &'a ServerUrl,
    /// The token.
    pub token: &'a Token,
    /// This server's settings.
    pub settings: &'a Settings,
    /// What the cluster shall know of it.
    pub member: MemberRequest,
}

/// What came of it.
pub struct Joined {
    /// What servers share.
    pub bundle: Bundle,
    /// The members of the store, this one among them.
    pub members: Vec<JoinedMember>,
}

/// Why this server has not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It may go later.
    #[error("{0}")]
    Later(String),
    /// It cannot, as things are.
    #[error("{0}")]
    Refused(String),
}

impl From<CallError> for JoinError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable(text) => JoinError::Later(text),
            CallError::Untrusted(text) => JoinError::Refused(text),
        }
    }
}

/// Tries to join, once.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(wanted: &Join<'_>) -> Result<Joined, JoinError> {
    let client = trusted(wanted.server, wanted.token).await?;
    compare(wanted, &client).await?;
    let bundle = fetch(&client).await?;
    let text = serde_json::to_vec(&wanted.member).map_err(|e| JoinError::Refused(e.to_string()))?;
    let reply = asked(&client, Method::POST, "/members", Some(text)).await?;
    let reply: MemberReply = serde_json::from_slice(&reply).map_err(|e| {
        JoinError::Refused(format!("{} answers what is no list of members: {e}", wanted.server))
    })?;
    Ok(Joined { bundle, members: reply.members })
}

/// Fetches what servers share, for one whose store is there but whose files are
/// not.
///
/// # Errors
/// See [`JoinError`].
pub async fn fetch_bundle(server: &ServerUrl, token: &Token) -> Result<Bundle, JoinError> {
    fetch(&trusted(server, token).await?).await
}

/// A client that trusts what the token vouches for.
///
/// # Errors
/// See [`JoinError`].
pub async fn trusted(server: &ServerUrl, token: &Token) -> Result<Client, JoinError> {
    let bundle: CaBundle = client::authorities(server).await?;
    match token.ca_hash {
        Some(hash) if hash != bundle.hash() => {
            return Err(JoinError::Refused(format!(
                "{server} is not of the cluster that the token is for: the hash of its authorities is {} and not {hash}; \
                 check the address, or take the token from server/token of a server of that cluster",
                bundle.hash()
            )));
        }
        Some(_) => {}
        None => tracing::warn!(
            %server,
            "the token is a password alone: the server is believed without proof; use the full token, K10...::"
        ),
    }
    let credentials = match token.credentials.clone() {
        Credentials::Password(Password { password, .. }) => {
            Credentials::Password(Password { user: SERVER_USER.to_owned(), password })
        }
        Credentials::Bootstrap(_) => {
            return Err(JoinError::Refused(
                "a bootstrap token lets agents join, not servers: take the token from server/token of a server".to_owned(),
            ));
        }
    };
    Client::trusting(server, &bundle, &credentials).map_err(JoinError::Refused)
}

async fn compare(wanted: &Join<'_>, client: &Client) -> Result<(), JoinError> {
    let config = asked(client, Method::GET, "/config", None).await?;
    let config: Config = serde_json::from_slice(&config)
        .map_err(|e| JoinError::Refused(format!("{} answers what are no settings: {e}", wanted.server)))?;
    let differences = wanted.settings.differences(&config.settings);
    if differences.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = differences.iter().map(ToString::to_string).collect();
    Err(JoinError::Refused(format!(
        "this server's settings are not the cluster's: {}; make them the same and start again",
        listed.join("; ")
    )))
}

async fn fetch(client: &Client) -> Result<Bundle, JoinError> {
    let text = asked(client, Method::GET, "/server-bootstrap", None).await?;
    Bundle::read(&text)
        .map_err(|e| JoinError::Refused(format!("the server's bootstrap data cannot be read: {e}")))
}

/// Makes a call that must succeed.
async fn asked(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
) -> Result<bytes::Bytes, JoinError> {
    let reply = client.call(method, &format!("{PREFIX}{path}"), body).await?;
    match reply.status {
        StatusCode::OK => Ok(reply.body),
        StatusCode::UNAUTHORIZED => Err(JoinError::Refused(format!(
            "{}: take it from server/token of a server of the cluster",
            reply.message()
        ))),
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::INTERNAL_SERVER_ERROR => Err(JoinError::Later(reply.message())),
        _ => Err(JoinError::Refused(reply.message())),
    }
}

/// Checks that a node's name is a DNS name in lower case, as Kubernetes has it.
///
/// # Errors
/// A sentence.
pub fn check_node_name(name: &str) -> Result<(), String> {
    let good = |label: &str| {
        let bytes = label.as_bytes();
        let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
            && bytes.len() <= 63
    };
    match name.len() <= MAX_NODE_NAME && name.split('.').all(good) {
        true => Ok(()),
        false => Err(format!("{name:?} is no name for a node: lower-case letters, digits, '-' and '.' only")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_dns_names() {
        for good in ["a", "node-1", "10-0-0-1.example.com"] {
            check_node_name(good).unwrap();
        }
        for wrong in ["", "A", "a_b", "-a", "a-", "a..b", "../x", "a/b", &"a".repeat(64), &"a.".repeat(140)] {
            assert!(check_node_name(wrong).is_err(), "{wrong}");
        }
    }
}
