//! Raft replication of the store.
//!
//! * [`disk`]: the disk, behind a seam.
//! * [`wal`]: the write-ahead log of votes and entries.
//! * [`log_store`]: the log as openraft wants it.
//! * [`types`]: openraft's type parameters.
//! * [`codec`]: log entries, votes and positions as bytes.
//! * [`peer`]: what members ask of each other, and who answers.
//! * [`snapshot`]: a copy of the state in a directory.
//! * [`transport`]: members talk to each other over gRPC.

pub mod codec;
pub mod disk;
pub mod log_store;
pub mod peer;
pub mod responder;
pub mod snapshot;
pub mod transport;
pub mod types;
pub mod wal;

/// Generated messages: `skiff::raft::v1`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}
