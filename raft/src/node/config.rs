//! Settings of a node. Every default stands here.

use std::path::PathBuf;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use skiff_store::error::{Error, Result};
use skiff_store::mvcc::MvccConfig;
use skiff_store::pb::etcdserverpb as pb;

/// Whether the cluster is new or has members already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InitialState {
    /// All members of the initial cluster start together.
    #[default]
    New,
    /// This member was added to a running cluster.
    Existing,
}

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Name of this member, published to the others.
    pub name: String,
    /// Directory of all data; `member/` below it is this node's.
    pub data_dir: PathBuf,
    /// Directory of the log, if it is not to lie in the data directory. Absolute.
    pub wal_dir: Option<PathBuf>,
    /// Name and peer URLs of the initial members. Only read at the first start.
    pub initial_cluster: Vec<(String, Vec<String>)>,
    /// Distinguishes clusters of equal members.
    pub initial_cluster_token: String,
    /// New or existing. Only read at the first start.
    pub initial_state: InitialState,
    /// Make a cluster of this member alone, of its data.
    pub force_new_cluster: bool,
    /// URLs this member's peers reach it by.
    pub advertise_peer_urls: Vec<String>,
    /// URLs clients reach this member by.
    pub advertise_client_urls: Vec<String>,
    /// etcd release served, as "3.6.0".
    pub version: String,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Time without a leader after which one is elected, at most.
    pub election_timeout: Duration,
    /// Ask before electing, so that a member that cannot win disturbs nobody.
    pub pre_vote: bool,
    /// Entries kept below a flush for peers that lag.
    pub catchup_entries: u64,
    /// Bytes of commands between two flushes of the state: bounds a restart.
    pub flush_bytes: u64,
    /// Entries between two flushes of the state, where that comes first; 0 for
    /// any number.
    pub flush_entries: u64,
    /// Time between two flushes while anything changes.
    pub flush_interval: Duration,
    /// Size of a file of the log, which is written with zeros before its use.
    pub log_segment_bytes: u64,
    /// Bytes of recent log entries kept in memory for peers.
    pub log_cache_bytes: usize,
    /// Bytes the log may occupy on disk because of a lagging peer. openraft
    /// keeps a leader's log while entries are under way to one, and cuts it
    /// when such an attempt fails: a peer that is down holds back nothing, not
    /// even the log of a sole voter, and gets a snapshot when it is back. Beyond
    /// this limit, as where a peer takes entries too slowly, another member
    /// leads, which has cut its own.
    pub log_limit_bytes: u64,
    /// Bytes the state may occupy; 0 for 2 GiB, negative for no limit.
    pub quota_bytes: i64,
    /// Members without a vote, at most.
    pub max_learners: usize,
    /// Refuse membership changes that would endanger the quorum.
    pub strict_reconfig: bool,
    /// An apply slower than this is logged.
    pub slow_apply: Duration,
    /// Pause between two steps of compaction.
    pub compaction_pause: Duration,
    /// Commands, and bytes of commands, in one proposal.
    pub proposal_limit: (usize, usize),
    /// Proposals under way.
    pub proposals_in_flight: usize,
    /// Commands, and bytes of commands, that may wait.
    pub pending_limit: (usize, usize),
    /// Free bytes on the disk below which NOSPACE is raised; 0 for never.
    pub disk_reserve: u64,
    /// Time a simple token lives after its last use.
    pub token_ttl: Duration,
    /// Compare hashes with the peers before serving.
    pub initial_corrupt_check: bool,
    /// Time between comparisons of the members' newest states; zero for never.
    pub corrupt_check_time: Duration,
    /// Compare hashes that members keep at compactions.
    pub compact_hash_check: bool,
    /// Time between comparisons of hashes kept at compactions.
    pub compact_hash_check_time: Duration,
    /// Settings of the state machine.
    pub mvcc: MvccConfig,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: "default".into(),
            data_dir: "default.etcd".into(),
            wal_dir: None,
            initial_cluster: vec![("default".into(), vec!["http://localhost:2380".into()])],
            initial_cluster_token: "etcd-cluster".into(),
            initial_state: InitialState::New,
            force_new_cluster: false,
            advertise_peer_urls: vec!["http://localhost:2380".into()],
            advertise_client_urls: vec!["http://localhost:2379".into()],
            version: "3.6.0".into(),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            pre_vote: true,
            catchup_entries: 5000,
            flush_bytes: 64 << 20,
            flush_entries: 0,
            flush_interval: Duration::from_secs(300),
            log_segment_bytes: 64 << 20,
            log_cache_bytes: 64 << 20,
            log_limit_bytes: 2 << 30,
            quota_bytes: 0,
            max_learners: 1,
            strict_reconfig: true,
            slow_apply: Duration::from_millis(100),
            compaction_pause: Duration::from_millis(10),
            proposal_limit: (1024, 1 << 20),
            proposals_in_flight: 16,
            pending_limit: (65_536, 256 << 20),
            disk_reserve: 64 << 20,
            token_ttl: Duration::from_secs(300),
            initial_corrupt_check: false,
            corrupt_check_time: Duration::ZERO,
            compact_hash_check: false,
            compact_hash_check_time: Duration::from_secs(60),
            mvcc: MvccConfig::default(),
        }
    }
}

impl NodeConfig {
    /// What the member `id` publishes of itself.
    pub(crate) fn attributes(&self, id: u64) -> pb::Member {
        pb::Member {
            id,
            name: self.name.clone(),
            client_ur_ls: self.advertise_client_urls.clone(),
            ..Default::default()
        }
    }

    /// How long a request may take: etcd's rule.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The shortest TTL of a lease, in seconds: 1.5 election timeouts, rounded
    /// up. A lease must outlive an election.
    pub fn min_lease_ttl(&self) -> i64 {
        let ticks = 3 * self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1) / 2;
        let millis = ticks * self.heartbeat_interval.as_millis();
        millis.div_ceil(1000) as i64
    }

    /// Quota in bytes; `None` for no limit.
    pub fn quota(&self) -> Option<i64> {
        match self.quota_bytes {
            0 => Some(2 << 30),
            n if n < 0 => None,
            n => Some(n),
        }
    }

    /// openraft's settings.
    ///
    /// A follower elects after the leader's lease, which is the greater
    /// election timeout, plus a random time between both: to elect within
    /// etcd's timeout of 1000 ms they are 250 and 500 ms.
    ///
    /// # Errors
    /// Where the times contradict each other.
    pub fn raft(&self) -> Result<Config> {
        let timeout = self.election_timeout.as_millis() as u64;
        // Well below the smaller election timeout, whatever was configured.
        let heartbeat = (self.heartbeat_interval.as_millis() as u64).clamp(1, (timeout / 8).max(1));
        Config {
            cluster_name: "skiff".into(),
            heartbeat_interval: heartbeat,
            election_timeout_min: timeout / 4,
            election_timeout_max: timeout / 2,
            install_snapshot_timeout: 10 * 60 * 1000,
            max_payload_entries: 256,
            // Never by number of entries: the node flushes by bytes and time.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.catchup_entries,
            purge_batch_size: 256,
            enable_pre_vote: Some(self.pre_vote),
            // A leader that lost its quorum falls silent for a while, so that
            // members it can reach, but which cannot elect it, elect another.
            quorum_loss_probe_interval: Some(2 * timeout),
            broadcast_submitted_on_append: Some(true),
            // A restarted leader asks again: what it knows as committed may be old.
            enable_leader_restore: Some(false),
            backoff: "50ms 100ms 200ms ..1s".into(),
            ..Default::default()
        }
        .validate()
        .map_err(|e| Error::Other(format!("election timeout and heartbeat interval: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_etcds() {
        let config = NodeConfig::default();
        assert_eq!(config.min_lease_ttl(), 2);
        assert_eq!(config.request_timeout(), Duration::from_secs(7));
        assert_eq!(config.quota(), Some(2 << 30));
        let raft = config.raft().unwrap();
        assert_eq!((raft.election_timeout_min, raft.election_timeout_max), (250, 500));
    }
}
