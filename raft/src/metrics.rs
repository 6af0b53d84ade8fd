//! What the node counts, under etcd's names.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};

/// Applied commands: their name at etcd and whether they succeeded, and how many.
pub type Tally = BTreeMap<(&'static str, bool), u64>;

/// The counters of this process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Counters and gauges of a node.
#[allow(missing_docs)]
pub struct Metrics {
    pub has_leader: IntGauge,
    pub is_leader: IntGauge,
    pub is_learner: IntGauge,
    pub id: IntGaugeVec,
    pub leader_changes: IntCounter,
    pub heartbeat_send_failures: IntCounter,
    pub proposals_committed: IntGauge,
    pub proposals_applied: IntGauge,
    pub proposals_pending: IntGauge,
    pub proposals_failed: IntCounter,
    pub slow_apply: IntCounter,
    pub slow_read_indexes: IntCounter,
    pub read_indexes_failed: IntCounter,
    pub apply_duration: HistogramVec,
    pub range_duration: HistogramVec,
    pub keys: IntGauge,
    pub compaction_pause: Histogram,
    pub compaction_total: Histogram,
    pub compaction_last: IntGauge,
    pub learner_promote_successes: IntCounter,
    pub learner_promote_failures: IntCounterVec,
    pub snapshot_apply_in_progress: IntGauge,
    pub quota_backend_bytes: IntGauge,
    pub lease_expired: IntCounter,
    pub lease_granted: IntCounter,
    pub lease_revoked: IntCounter,
    pub lease_renewed: IntCounter,
    pub lease_ttl: Histogram,
    pub hash_checks: IntCounter,
}

impl Metrics {
    fn new() -> Self {
        let counter = |name: &str, help: &str| register(IntCounter::new(name, help));
        let gauge = |name: &str, help: &str| register(IntGauge::new(name, help));
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
        };
        Self {
            has_leader: gauge("etcd_server_has_leader", "Whether or not a leader exists."),
            is_leader: gauge("etcd_server_is_leader", "Whether or not this member is a leader."),
            is_learner: gauge("etcd_server_is_learner", "Whether or not this member is a learner."),
            id: register(IntGaugeVec::new(
                Opts::new(
                    "etcd_server_id",
                    "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
                ),
                &["server_id"],
            )),
            leader_changes: counter(
                "etcd_server_leader_changes_seen_total",
                "The number of leader changes seen.",
            ),
            heartbeat_send_failures: counter(
                "etcd_server_heartbeat_send_failures_total",
                "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
            ),
            proposals_committed: gauge(
                "etcd_server_proposals_committed_total",
                "The total number of consensus proposals committed.",
            ),
            proposals_applied: gauge(
                "etcd_server_proposals_applied_total",
                "The total number of consensus proposals applied.",
            ),
            proposals_pending: gauge(
                "etcd_server_proposals_pending",
                "The current number of pending proposals to commit.",
            ),
            proposals_failed: counter(
                "etcd_server_proposals_failed_total",
                "The total number of failed proposals seen.",
            ),
            slow_apply: counter(
                "etcd_server_slow_apply_total",
                "The total number of slow apply requests (likely overloaded from slow disk).",
            ),
            slow_read_indexes: counter(
                "etcd_server_slow_read_indexes_total",
                "The total number of pending read indexes not in sync with leader's or timed out read index requests.",
            ),
            read_indexes_failed: counter(
                "etcd_server_read_indexes_failed_total",
                "The total number of failed read indexes seen.",
            ),
            apply_duration: register(HistogramVec::new(
                HistogramOpts::new(
                    "etcd_server_apply_duration_seconds",
                    "The latency distributions of v2 apply called by backend.",
                )
                .buckets(exponential(0.0001, 20)),
                &["version", "op", "success"],
            )),
            range_duration: register(HistogramVec::new(
                HistogramOpts::new(
                    "etcd_server_range_duration_seconds",
                    "The latency distributions of txn.Range",
                )
                .buckets(exponential(0.0001, 20)),
                &["success"],
            )),
            keys: gauge("etcd_debugging_mvcc_keys_total", "Total number of keys."),
            compaction_pause: histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Bucketed histogram of db compaction pause duration.",
                exponential(1.0, 13),
            ),
            compaction_total: histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Bucketed histogram of db compaction total duration.",
                exponential(100.0, 14),
            ),
            compaction_last: gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "The unix time of the last db compaction. Resets to 0 on start.",
            ),
            learner_promote_successes: counter(
                "etcd_server_learner_promote_successes",
                "The total number of successful learner promotions while this member is leader.",
            ),
            learner_promote_failures: register(IntCounterVec::new(
                Opts::new(
                    "etcd_server_learner_promote_failures",
                    "The total number of failed learner promotions (likely learner not ready) while this member is leader.",
                ),
                &["Reason"],
            )),
            snapshot_apply_in_progress: gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "1 if the server is applying the incoming snapshot. 0 if none.",
            ),
            quota_backend_bytes: gauge(
                "etcd_server_quota_backend_bytes",
                "Current backend storage quota size in bytes.",
            ),
            lease_expired: counter(
                "etcd_debugging_server_lease_expired_total",
                "The total number of expired leases.",
            ),
            lease_granted: counter(
                "etcd_debugging_lease_granted_total",
                "The total number of granted leases.",
            ),
            lease_revoked: counter(
                "etcd_debugging_lease_revoked_total",
                "The total number of revoked leases.",
            ),
            lease_renewed: counter(
                "etcd_debugging_lease_renewed_total",
                "The number of renewed leases seen by the leader.",
            ),
            lease_ttl: histogram(
                "etcd_debugging_lease_ttl_total",
                "Bucketed histogram of lease TTLs.",
                exponential(1.0, 24),
            ),
            hash_checks: counter(
                "skiff_hash_checks_total",
                "The total number of comparisons of members' hashes made while this member led.",
            ),
        }
    }

    /// Records a range that was evaluated.
    pub fn range(&self, success: bool, took: Duration) {
        let success = if success { "true" } else { "false" };
        self.range_duration.with_label_values(&[success]).observe(took.as_secs_f64());
    }

    /// Records commands that were applied in one go, up to the log's `index`:
    /// how many of each name succeeded or did not. They share the time.
    pub fn applied(&self, commands: &Tally, index: u64, took: Duration, slow: bool) {
        self.proposals_applied.set(index as i64);
        let each = took.as_secs_f64() / commands.values().sum::<u64>().max(1) as f64;
        for ((op, success), count) in commands {
            let success = if *success { "true" } else { "false" };
            let series = self.apply_duration.with_label_values(&["v3", *op, success]);
            (0..*count).for_each(|_| series.observe(each));
        }
        if slow {
            self.slow_apply.inc();
        }
    }
}

fn exponential(start: f64, count: usize) -> Vec<f64> {
    (0..count).map(|i| start * 2f64.powi(i as i32)).collect()
}

/// Registers a metric. One that is refused still counts, unseen: better than
/// not to start.
fn register<T: Collector + Clone + 'static>(metric: prometheus::Result<T>) -> T {
    let metric = metric.expect("names and buckets are constants");
    if let Err(error) = prometheus::default_registry().register(Box::new(metric.clone())) {
        tracing::warn!(%error, "a metric is not exported");
    }
    metric
}
