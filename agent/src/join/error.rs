//! Why a node cannot join.

use std::io;

use skiff_token::wire::Refused;
use skiff_token::{BundleError, CaHash};

/// Why a node cannot join, or cannot renew a certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answers, or the connection broke.
    #[error("the server {server} does not answer: {error}")]
    Unreachable {
        /// Where it was asked.
        server: String,
        /// What happened.
        error: io::Error,
    },
    /// The server is not one of the authorities'.
    #[error(
        "the server {server} is not one of this cluster: {error}; check --server, and that the server's certificate is for this host name"
    )]
    Untrusted {
        /// Where it was asked.
        server: String,
        /// What is wrong with its certificate.
        error: rustls::Error,
    },
    /// The authorities are not those of the token.
    #[error(
        "the token is for other authorities than those of the server (the token's hash is {token}, the server's {server}): check --server, take the token anew from a server, and if the server is right somebody is between you and it"
    )]
    CaHash {
        /// What the token says.
        token: CaHash,
        /// What the server serves.
        server: CaHash,
    },
    /// The server's authorities cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The token is no good.
    #[error(
        "the server does not know the token; take the one in server/token or server/agent-token of a server"
    )]
    WrongToken,
    /// The token was good once.
    #[error("the token has expired; make a new one on a server with: skiff token create")]
    TokenExpired,
    /// Another node has the name.
    #[error(
        "there is a node {node} with another password: choose another --node-name or use --with-node-id; if this is that node, restore {file}, or delete the node on a server (kubectl delete node {node}) and try again"
    )]
    NameTaken {
        /// The name.
        node: String,
        /// Where this node's password is.
        file: String,
    },
    /// Another answer than asked for.
    #[error("the server answers {path} with status {status}: {text}")]
    Status {
        /// What was asked for.
        path: String,
        /// The status.
        status: u16,
        /// What the answer says.
        text: String,
    },
    /// The answer is of no use.
    #[error("what the server answers to {path} is of no use: {problem}")]
    Answer {
        /// What was asked for.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something on this node.
    #[error(transparent)]
    File(#[from] io::Error),
    /// A key or a request cannot be made.
    #[error("cannot make a key or a request for a certificate: {0}")]
    Key(#[from] rcgen::Error),
}

impl JoinError {
    /// True if it may go well later without anybody changing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            JoinError::Unreachable { .. } => true,
            JoinError::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    pub(super) fn refused(reason: Refused, node: &str, file: String) -> Self {
        match reason {
            Refused::Token => JoinError::WrongToken,
            Refused::TokenExpired => JoinError::TokenExpired,
            Refused::NodePassword => JoinError::NameTaken { node: node.to_owned(), file },
        }
    }
}
