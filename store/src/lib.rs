//! The multi-version store of Skiff: etcd's data model and semantics.
//!
//! * [`api`]: the seam, [`Store`] and [`Cluster`], with its contract.
//! * [`pb`]: etcd's public messages and our persisted formats.
//! * [`mvcc`]: the state machine: evaluates commands, answers reads.
//! * [`engine`]: ordered byte maps that hold the state: RocksDB, or memory for
//!   tests and simulation.
//! * [`index`]: the copy-on-write B+tree behind the index and the memory engine.
//! * [`auth`]: users, roles, permissions and tokens.
//! * [`watch`]: reports changes to watchers, with bounded memory.
//! * [`clock`]: the seam to time.
//! * [`archive`]: snapshots as files.
//! * [`bbolt`]: the file format that etcd keeps its state in.
//! * [`etcd_snapshot`]: etcd's own snapshots, read and written.
//! * [`sole`]: the membership of a store without members.
//! * [`local`]: a store without consensus, for tests and as a model.
//! * `conformance` (with the feature of that name): what every store must do.
//!
//! What is not here: consensus and time (the `raft` crate), gRPC (`kine-api`).

pub mod api;
pub mod archive;
pub mod auth;
pub mod bbolt;
pub mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod engine;
pub mod error;
pub mod etcd_snapshot;
pub mod index;
pub mod local;
mod metrics;
pub mod mvcc;
mod secretive;
pub mod sole;
pub mod watch;

/// Generated messages: `etcdserverpb`, `mvccpb`, `authpb`, `skiff::v1`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}

impl From<pb::skiff::v1::command::Op> for pb::skiff::v1::Command {
    /// A command of the members themselves: nobody's permission is asked.
    fn from(op: pb::skiff::v1::command::Op) -> Self {
        Self { op: Some(op), caller: None }
    }
}

pub use api::{
    By, Cluster, RangeStream, Read, ReadReply, SnapshotStream, Status, Store, StoreExt, Vitals, Write,
    WriteReply,
};
pub use auth::{Access, Caller};
pub use error::{ApiError, Code, Error, NodeError, Result};
