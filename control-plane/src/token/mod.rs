//! The secrets that servers and nodes join with.
//!
//! * [`secrets`]: the two that last: the servers' and, if it is another one, the
//!   agents'. The servers share them through the datastore.
//! * [`bootstrap`]: those that are given out for a while.
//! * [`random`]: makes them.

pub mod bootstrap;
pub mod random;
pub mod secrets;

pub use bootstrap::BootstrapToken;
pub use secrets::{Secrets, SharedSecrets};

use skiff_token::CaHash;

/// The user whose password lets a server join.
pub const SERVER_USER: &str = "server";
/// The user whose password lets an agent join.
pub const NODE_USER: &str = "node";

/// The full form of a token: whoever holds it talks to the servers of these
/// authorities only.
#[must_use]
pub fn full(hash: &CaHash, user: &str, password: &str) -> String {
    format!("K10{hash}::{user}:{password}")
}

/// The same of a bootstrap token.
#[must_use]
pub fn full_bootstrap(hash: &CaHash, token: &str) -> String {
    format!("K10{hash}::{token}")
}
