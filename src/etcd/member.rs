//! Puts a member together: node, transport and API, from the settings.

use std::sync::Arc;

use axum::Router;
use skiff_kine_api::{ApiConfig, TokenKind};
use skiff_raft::clock::SystemClock;
use skiff_raft::disk::RealDisk;
use skiff_raft::node::{End, InitialState, Node, NodeConfig, Parts};
use skiff_raft::peer::PeerClient;
use skiff_raft::transport::{self, PeerTls, Transport, TransportConfig, TransportOptions};
use skiff_store::engine::Engine;
use skiff_store::engine::rocks::{RocksEngine, RocksOptions};
use skiff_store::mvcc::MvccConfig;
use skiff_store::{Cluster, Store};

use crate::config::{Config, Endpoint};
use crate::tls::PeerClientTls;

/// A running member.
pub(super) struct Member {
    node: Arc<Node>,
}

/// Starts a member and waits until it has recovered its own state.
///
/// # Errors
/// A sentence: the data is damaged or of another version, or this member does
/// not belong to the cluster.
pub(super) async fn start(config: &Config, tls: Option<Arc<PeerClientTls>>) -> Result<Member, String> {
    let tls = tls.map(|tls| Arc::new(move || tls.config()) as Arc<dyn PeerTls>);
    let options = TransportOptions { local_address: config.local_address, ..TransportOptions::default() };
    let connect = move |cluster_id, member_id| {
        let transport = Transport::new(TransportConfig {
            cluster_id,
            member_id,
            tls: tls.clone(),
            options: options.clone(),
            ..TransportConfig::default()
        });
        (transport.clone(), transport as Arc<dyn PeerClient>)
    };
    let parts = Parts {
        engines: Arc::new(|dir| {
            Ok(Arc::new(RocksEngine::open(dir, &RocksOptions::default())?) as Arc<dyn Engine>)
        }),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
    };
    let node = Node::start(node_config(config), parts, connect).await.map_err(|error| error.to_string())?;
    Ok(Member { node })
}

impl Member {
    /// The member.
    pub(super) fn node(&self) -> Arc<Node> {
        self.node.clone()
    }

    /// The member as a store.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        self.node.clone()
    }

    /// The member as a part of its cluster.
    pub(super) fn cluster(&self) -> Arc<dyn Cluster> {
        self.node.clone()
    }

    /// What the peer port serves.
    pub(super) fn peer_router(&self) -> Router {
        transport::router(self.node.clone(), &TransportOptions::default())
    }

    /// Waits until the other members know this one's name and client URLs.
    pub(super) async fn published(&self) {
        self.node.published().await;
    }

    /// Waits until the member has ended by itself.
    pub(super) async fn ended(&self) -> Result<(), String> {
        let mut ended = self.node.ended();
        let end = ended.wait_for(Option::is_some).await.map(|end| end.clone());
        match end {
            Ok(Some(End::Removed)) => {
                Err("this member was removed from the cluster; its data directory is of no more use"
                    .to_owned())
            }
            Ok(Some(End::Failed(why))) => Err(why),
            _ => Ok(()),
        }
    }

    /// Lets another member lead, if this one does and there is another.
    pub(super) async fn hand_over(&self) {
        self.node.hand_over().await;
    }

    /// Stops replication and brings everything to the disk.
    pub(super) async fn close(&self) {
        self.node.stop().await;
    }
}

/// The API's settings.
pub(super) fn api_config(config: &Config, tokens: TokenKind) -> ApiConfig {
    ApiConfig {
        max_request_bytes: config.limits.max_request_bytes,
        max_txn_ops: config.limits.max_txn_ops,
        progress_interval: config.progress_interval,
        slow_request: config.warn_request,
        election_timeout: config.election,
        request_timeout: node_config(config).request_timeout(),
        extensive_metrics: config.extensive_metrics,
        serve_metrics: true,
        tokens,
        bcrypt_cost: config.auth.bcrypt_cost,
        client_cert_auth: config.auth.by_certificate,
        gateway: config.gateway,
        ..ApiConfig::default()
    }
}

/// The node's settings.
pub(crate) fn node_config(config: &Config) -> NodeConfig {
    let urls = |urls: &[Endpoint]| urls.iter().map(ToString::to_string).collect::<Vec<_>>();
    NodeConfig {
        name: config.name.clone(),
        data_dir: config.data_dir.clone(),
        wal_dir: config.wal_dir.clone(),
        initial_cluster: config
            .bootstrap
            .members
            .iter()
            .map(|(name, peers)| (name.clone(), urls(peers)))
            .collect(),
        initial_cluster_token: config.bootstrap.token.clone(),
        initial_state: if config.bootstrap.existing { InitialState::Existing } else { InitialState::New },
        force_new_cluster: config.bootstrap.force_new,
        advertise_peer_urls: urls(&config.advertise_peer),
        advertise_client_urls: urls(&config.advertise_client),
        version: skiff_kine_api::ETCD_VERSION.to_owned(),
        heartbeat_interval: config.heartbeat,
        election_timeout: config.election,
        pre_vote: config.pre_vote,
        catchup_entries: config.catchup_entries,
        flush_entries: config.snapshot_entries,
        quota_bytes: config.limits.quota_bytes,
        max_learners: config.limits.max_learners,
        strict_reconfig: config.strict_reconfig,
        slow_apply: config.warn_apply,
        initial_corrupt_check: config.corruption_checks.initial,
        corrupt_check_time: config.corruption_checks.interval,
        compact_hash_check: config.corruption_checks.at_compactions,
        compact_hash_check_time: config.corruption_checks.compaction_interval,
        compaction_pause: config.limits.compaction_sleep,
        token_ttl: config.auth.token_ttl,
        mvcc: MvccConfig {
            compaction_batch: config.limits.compaction_batch,
            index_file: Some(config.data_dir.join("member").join("index")),
            ..MvccConfig::default()
        },
        ..NodeConfig::default()
    }
}
