//! What a balancer is to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::address::ServerAddress;

/// What a balancer is to do.
#[derive(Clone, Debug)]
pub struct BalancerOptions {
    /// The server of `--server`.
    pub seed: ServerAddress,
    /// Where the list is kept for the next start.
    pub file: Option<PathBuf>,
    /// Connections beyond these wait to be accepted.
    pub max_connections: usize,
    /// How long a server may take to answer a connection.
    pub dial_timeout: Duration,
    /// How long a connection may wait for a server while none answers.
    pub give_up_after: Duration,
    /// How long the one way of a connection may go on after the other one ended.
    pub half_closed_timeout: Duration,
    /// How often it is looked whether a failed server answers again.
    pub probe_interval: Duration,
    /// How often in a row a failed server must answer to be healthy.
    pub recover_after: u32,
}

impl BalancerOptions {
    /// The defaults, for this seed.
    #[must_use]
    pub fn new(seed: ServerAddress) -> Self {
        BalancerOptions {
            seed,
            file: None,
            max_connections: 4096,
            dial_timeout: Duration::from_secs(5),
            give_up_after: Duration::from_secs(30),
            half_closed_timeout: Duration::from_secs(10 * 60),
            probe_interval: Duration::from_secs(5),
            recover_after: 3,
        }
    }
}
