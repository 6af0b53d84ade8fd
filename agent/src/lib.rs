//! The agent's half of the connection between a node and a cluster's servers.
//!
//! ```text
//! join/       trusts a cluster by its token, gets the node's certificates, renews them
//! balancer/   a local port that leads to whichever server is well
//! directory   learns of the servers from the servers, and tells the balancer
//! tunnels/    a tunnel to every server, so that servers reach the node
//! ```
//!
//! They know each other through values only: the balancer tells the list of servers, the
//! tunnels tell the balancer which servers answer, the join hands both the TLS settings.
//! Nothing here parses flags, and listeners are given.

mod address;
mod backoff;
pub mod balancer;
mod directory;
mod files;
pub mod join;
mod reason;
pub mod tunnels;

pub use address::{AddressError, ServerAddress};
pub use directory::follow_servers;
