//! Settings of the store.

use std::path::PathBuf;
use std::time::Duration;

use skiff_store::mvcc::MvccConfig;
use skiff_store::pb::etcdserverpb as pb;

/// Settings of an [`SqlStore`](crate::SqlStore).
#[derive(Debug, Clone)]
pub struct SqlConfig {
    /// Of the state machine.
    pub mvcc: MvccConfig,
    /// The one member that the store answers as. Its id is given by the store.
    pub member: pb::Member,
    /// Cluster version of a new store.
    pub cluster_version: String,
    /// The shortest TTL of a lease, in seconds; shorter ones are raised to it.
    pub min_lease_ttl: i64,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Requests that may wait for the writer; more are refused.
    pub max_waiting: usize,
    /// Time a token lives after its last use.
    pub token_ttl: Duration,
    /// Where the replica is kept, in a subfolder `replica` that is deleted at
    /// each start and end; in memory without.
    pub replica_dir: Option<PathBuf>,
    /// Repair what is found wrong with the schema, instead of refusing it.
    pub migrate_schema: bool,
    /// How long entries are kept in the log for other servers.
    pub log_retention: Duration,
    /// Revisions that one step of compaction looks at.
    pub compaction_batch: i64,
}

impl Default for SqlConfig {
    fn default() -> Self {
        let member = pb::Member {
            id: 0,
            name: "default".to_owned(),
            peer_ur_ls: Vec::new(),
            client_ur_ls: vec!["http://localhost:2379".to_owned()],
            is_learner: false,
        };
        Self {
            mvcc: MvccConfig::default(),
            member,
            cluster_version: "3.6.0".to_owned(),
            min_lease_ttl: 2,
            request_timeout: Duration::from_secs(7),
            max_waiting: 10_000,
            token_ttl: Duration::from_secs(300),
            replica_dir: None,
            migrate_schema: false,
            log_retention: Duration::from_secs(600),
            compaction_batch: 1000,
        }
    }
}
