//! Harness of the black-box tests.
//!
//! * [`member`] and [`cluster`]: real server processes on free ports with temporary data folders.
//! * [`network`]: relays between peers that can be cut, per direction, and healed.
//! * [`rpc`]: raw gRPC calls with etcd's messages, so that no client library hides anything.
//! * [`http`] and [`gateway`]: plain HTTP, and the same calls through the JSON gateway.
//! * [`locks`]: calls of the lock and election services.
//! * [`certificates`]: an authority and certificates for tests with TLS.
//! * [`tools`]: the real etcd and etcdctl the tests compare with.
//! * [`load`] and [`history`]: clients that record what they were told, and the checks of it.
//! * [`rng`]: the seeded generator behind every random choice.
//!
//! The crate links nothing of the product: what it knows of it is a path to the binary.

pub mod certificates;
pub mod cluster;
pub mod gateway;
mod get;
pub mod history;
pub mod http;
pub mod load;
pub mod locks;
pub mod member;
pub mod network;
pub mod ports;
pub mod rng;
pub mod rpc;
pub mod scratch;
pub mod tools;
pub mod verify;

/// Generated messages: `etcdserverpb`, `mvccpb`, `authpb`, `v3lockpb`, `v3electionpb`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/pb.rs"));
}

/// Descriptors of the same messages, and of etcd's services.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use cluster::{Cluster, ClusterOptions};
pub use member::{Member, MemberOptions, Program};
pub use network::{LinkState, Network};
pub use rng::Rng;
pub use rpc::{Client, Duplex};
pub use scratch::Scratch;

/// What a helper of the harness can fail with; a test prints it and fails.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;
