//! Raft replication of the store.
//!
//! * [`node`]: a member: the replicated store and cluster.
//! * [`types`]: openraft's type parameters.
//! * [`codec`]: log entries, votes and positions as bytes.
//! * [`state`]: entries in, answers out; snapshots.
//! * [`lessor`], `tokens`: keep time for leases and simple tokens.
//! * [`peer`]: what members ask of each other, and who answers.
//! * [`transport`]: members talk to each other over gRPC.
//! * [`wal`], [`log_store`]: the log on disk.
//! * [`offline`]: a member that does not run: looked at, and made from a snapshot.
//! * [`disk`], [`clock`]: the outside world, behind seams.

pub mod clock;
pub mod codec;
pub mod disk;
pub mod identity;
pub mod lessor;
pub mod log_store;
pub mod metadata;
pub mod metrics;
pub mod node;
pub mod offline;
pub mod peer;
pub mod responder;
pub mod snapshot;
pub mod state;
mod tokens;
pub mod transport;
pub mod types;
pub mod wal;

pub use node::{InitialState, Node, NodeConfig, Parts};

/// Generated messages: `skiff::raft::v1`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}
