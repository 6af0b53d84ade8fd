//! What a balancer does at the moment.

use std::sync::atomic::Ordering;

use super::Shared;
use super::servers::{Health, Server};
use crate::address::ServerAddress;

/// What a balancer does at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BalancerStatus {
    /// Where connections go.
    pub active: Option<ServerAddress>,
    /// The servers, the seed first.
    pub servers: Vec<ServerStatus>,
    /// Connections ever accepted.
    pub accepted: u64,
    /// Connections closed since no server answered in time.
    pub given_up: u64,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerStatus {
    /// Where it is.
    pub address: ServerAddress,
    /// False for a seed that is not in the list.
    pub listed: bool,
    /// Its health.
    pub health: Health,
    /// Connections that lead to it, or are being made.
    pub connections: usize,
    /// How often it did not answer.
    pub failures: u64,
    /// Why it did not at last.
    pub last_error: Option<String>,
}

impl Shared {
    pub(super) fn status(&self) -> BalancerStatus {
        let servers = self.servers.lock();
        BalancerStatus {
            active: servers.active().map(|server| server.address.clone()),
            servers: servers.iter().map(of).collect(),
            accepted: self.accepted.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
        }
    }
}

fn of(server: &Server) -> ServerStatus {
    ServerStatus {
        address: server.address.clone(),
        listed: server.listed,
        health: server.health,
        connections: server.connections(),
        failures: server.failures,
        last_error: server.last_error.clone(),
    }
}
