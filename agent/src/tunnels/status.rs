//! How a link fares.

use crate::address::ServerAddress;

/// How the link to one server fares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkStatus {
    /// The server.
    pub server: ServerAddress,
    /// What it does at the moment.
    pub state: LinkState,
    /// How often a tunnel came up.
    pub connected: u64,
    /// Why the last attempt or the last tunnel ended.
    pub last_error: Option<String>,
}

/// What a link does at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// It connects.
    Connecting,
    /// Its tunnel is up.
    Connected,
    /// It waits before the next attempt.
    Waiting,
}
