//! A member: the log, its state, and everything that serves them.
//!
//! [`Node`] is the replicated [`Store`](skiff_store::Store) and
//! [`Cluster`](skiff_store::Cluster), and answers peers as a
//! [`PeerHandler`](crate::peer::PeerHandler).
//!
//! Must never: retry a write whose outcome is unknown; serve a linearizable
//! read without a confirmation that began after it; renew a lease without
//! having confirmed to lead.

pub(crate) mod bootstrap;
mod cluster;
mod config;
mod core;
mod corruption;
mod force;
mod handler;
mod leases;
mod log_place;
mod membership;
mod proposer;
mod quota;
mod read_index;
pub(crate) mod start;
mod store;
mod tasks;
mod version;
mod wire;

use std::sync::Arc;

use tokio::sync::watch;

pub use self::config::{InitialState, NodeConfig};
pub use self::core::End;
pub use self::start::Parts;

use self::core::Core;
use crate::snapshot::WeakSnapshotDir;

/// A running member.
pub struct Node {
    core: Arc<Core>,
    heavy_reads: store::HeavyReads,
    /// The last entry of the log when this member started.
    tail: Option<crate::types::LogId>,
    /// Set once the state is as new as it was before the start.
    recovered: tokio::sync::OnceCell<()>,
    /// The snapshot being received, if any.
    receiving: parking_lot::Mutex<WeakSnapshotDir>,
}

impl Node {
    /// This member's id.
    pub fn id(&self) -> u64 {
        self.core.member_id
    }

    /// The cluster's id.
    pub fn cluster(&self) -> u64 {
        self.core.cluster_id
    }

    /// URLs this member's peers reach it by.
    pub fn advertised(&self) -> &[String] {
        &self.core.config.advertise_peer_urls
    }

    /// True while this member leads.
    pub fn leads(&self) -> bool {
        self.core.is_leader()
    }

    /// The last entry of the leader's log that another member has, as far as this
    /// one knows, which must lead for that.
    pub fn replicated(&self, id: u64) -> Option<u64> {
        membership::matched(&self.core, id)
    }

    /// Waits until this member's name and client URLs are in the replicated
    /// state: a leader is known and has taken a write. Also ends when the node
    /// does.
    pub async fn published(&self) {
        let mut published = self.core.published.subscribe();
        let _ = self.core.until_stop(published.wait_for(|published| *published)).await;
    }

    /// Tells when and why the node has ended.
    pub fn ended(&self) -> watch::Receiver<Option<End>> {
        self.core.ended.subscribe()
    }
}
