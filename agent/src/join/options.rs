//! What a join needs.

use std::path::PathBuf;
use std::time::Duration;

use skiff_token::Token;

use super::Node;
use crate::address::ServerAddress;

/// What a join needs.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Where to ask: a server, or the local balancer's port. Its certificate must be good
    /// for this host.
    pub server: ServerAddress,
    /// The right to join.
    pub token: Token,
    /// Who joins.
    pub node: Node,
    /// Where authorities, certificates and keys are kept.
    pub dir: PathBuf,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// The pause after the first failure, where it is worth trying again.
    pub retry_first: Duration,
    /// What pauses grow to.
    pub retry_most: Duration,
}

impl JoinOptions {
    /// The defaults, for these.
    #[must_use]
    pub fn new(server: ServerAddress, token: Token, node: Node, dir: PathBuf) -> Self {
        JoinOptions {
            server,
            token,
            node,
            dir,
            request_timeout: Duration::from_secs(20),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(30),
        }
    }
}
