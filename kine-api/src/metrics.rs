//! The API's metrics, under etcd's names, in the default registry.
//!
//! Gauges of the member's state are set when they are collected; see
//! [`set_member`].

use std::collections::HashSet;
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};
use skiff_store::{Status as Member, Vitals};
use tonic::Code;

use crate::layer::method::{METHODS, Method};

/// Most versions of clients counted apart; the rest counts as "other", so that
/// clients cannot make the server keep any number of series.
const MAX_CLIENT_VERSIONS: usize = 100;

/// Codes by number, in grpc-go's names.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Registers a collector. A store may export a metric of the same name itself,
/// and knows better: ours then counts unseen.
fn register<C: Collector + Clone + 'static>(collector: C) -> C {
    match prometheus::register(Box::new(collector.clone())) {
        Ok(()) | Err(prometheus::Error::AlreadyReg) => {}
        Err(error) => tracing::warn!(%error, "register a metric"),
    }
    collector
}

// Names and labels are constants: a mistake in them shows in the first test.
pub(crate) fn counter(name: &str, help: &str) -> IntCounter {
    register(IntCounter::new(name, help).expect("constant metric"))
}

pub(crate) fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(IntCounterVec::new(Opts::new(name, help), labels).expect("constant metric"))
}

fn gauge(name: &str, help: &str) -> IntGauge {
    register(IntGauge::new(name, help).expect("constant metric"))
}

pub(crate) fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(IntGaugeVec::new(Opts::new(name, help), labels).expect("constant metric"))
}

fn histogram(name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)).expect("constant metric"))
}

/// `count` upper bounds, each double the one before.
fn doubling(start: f64, count: i32) -> Vec<f64> {
    (0..count).map(|power| start * 2f64.powi(power)).collect()
}

/// Counters of one method.
pub(crate) struct MethodMetrics {
    pub(crate) started: IntCounter,
    pub(crate) received: IntCounter,
    pub(crate) sent: IntCounter,
    handled: Vec<IntCounter>,
    handling: OnceLock<Histogram>,
    /// Failed calls, and successful ones.
    durations: [OnceLock<Histogram>; 2],
    labels: [&'static str; 3],
}

impl MethodMetrics {
    /// Calls that ended with a code.
    pub(crate) fn handled(&self, code: Code) -> &IntCounter {
        &self.handled[code as usize % CODES.len()]
    }

    /// Handling times; appears among the metrics once asked for.
    pub(crate) fn handling_seconds(&self) -> &Histogram {
        self.handling.get_or_init(|| HANDLING.with_label_values(&self.labels))
    }

    /// Durations of successful or failed calls; appears once asked for.
    pub(crate) fn duration_seconds(&self, success: bool) -> &Histogram {
        let success_label = if success { "true" } else { "false" };
        self.durations[usize::from(success)]
            .get_or_init(|| DURATION.with_label_values(&[self.labels[2], success_label]))
    }
}

static HANDLING: LazyLock<HistogramVec> = LazyLock::new(|| {
    let opts = HistogramOpts::new(
        "grpc_server_handling_seconds",
        "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
    );
    register(HistogramVec::new(opts, &["grpc_type", "grpc_service", "grpc_method"]).expect("constant metric"))
});

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let opts = HistogramOpts::new(
        "etcd_server_request_duration_seconds",
        "Response latency distribution in seconds for each type.",
    );
    register(
        HistogramVec::new(opts.buckets(doubling(0.0001, 20)), &["type", "success"]).expect("constant metric"),
    )
});

static BY_METHOD: LazyLock<Vec<MethodMetrics>> = LazyLock::new(|| {
    let labels = ["grpc_type", "grpc_service", "grpc_method"];
    let started =
        counters("grpc_server_started_total", "Total number of RPCs started on the server.", &labels);
    let received = counters(
        "grpc_server_msg_received_total",
        "Total number of RPC stream messages received on the server.",
        &labels,
    );
    let sent = counters(
        "grpc_server_msg_sent_total",
        "Total number of gRPC stream messages sent by the server.",
        &labels,
    );
    let handled = counters(
        "grpc_server_handled_total",
        "Total number of RPCs completed on the server, regardless of success or failure.",
        &["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
    );
    METHODS
        .iter()
        .map(|method| {
            let labels = [method.kind.label(), method.service, method.name];
            let [kind, service, name] = labels;
            MethodMetrics {
                started: started.with_label_values(&labels),
                received: received.with_label_values(&labels),
                sent: sent.with_label_values(&labels),
                handled: CODES.iter().map(|c| handled.with_label_values(&[kind, service, name, c])).collect(),
                handling: OnceLock::new(),
                durations: [OnceLock::new(), OnceLock::new()],
                labels,
            }
        })
        .collect()
});

/// The counters of a method.
pub(crate) fn of_method(method: &Method) -> &'static MethodMetrics {
    &BY_METHOD[method.index]
}

static CLIENT_REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "etcd_server_client_requests_total",
        "The total number of client requests per client version.",
        &["type", "client_api_version"],
    )
});

static CLIENT_VERSIONS: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// Counts a call of a client of some version.
pub(crate) fn count_client(unary: bool, version: &str) {
    let kind = if unary { "unary" } else { "stream" };
    let version = if is_counted_apart(version) { version } else { "other" };
    CLIENT_REQUESTS.with_label_values(&[kind, version]).inc();
}

fn is_counted_apart(version: &str) -> bool {
    let mut versions = CLIENT_VERSIONS.lock();
    if versions.contains(version) {
        return true;
    }
    let room = versions.len() < MAX_CLIENT_VERSIONS && version.len() <= 64;
    room && versions.insert(version.to_owned())
}

macro_rules! statics {
    ($($(#[$meta:meta])* $name:ident: $type:ty = $make:ident($metric:literal, $help:literal $(, $labels:expr)?);)*) => {
        $($(#[$meta])* pub(crate) static $name: LazyLock<$type> =
            LazyLock::new(|| $make($metric, $help $(, $labels)?));)*

        /// Makes every metric appear, at zero, before the first call.
        pub(crate) fn init() {
            $(LazyLock::force(&$name);)*
            LazyLock::force(&BY_METHOD);
            LazyLock::force(&CLIENT_REQUESTS);
            LazyLock::force(&MVCC);
            LazyLock::force(&DURATION);
        }
    };
}

statics! {
    /// Bytes of messages from clients.
    GRPC_RECEIVED_BYTES: IntCounter = counter("etcd_network_client_grpc_received_bytes_total", "The total number of bytes received from grpc clients.");
    /// Bytes of messages to clients.
    GRPC_SENT_BYTES: IntCounter = counter("etcd_network_client_grpc_sent_bytes_total", "The total number of bytes sent to grpc clients.");
    /// Leaders seen.
    LEADER_CHANGES: IntCounter = counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen.");
    /// Good answers of `/health`.
    HEALTH_SUCCESS: IntCounter = counter("etcd_server_health_success", "The total number of successful health checks");
    /// Bad answers of `/health`.
    HEALTH_FAILURES: IntCounter = counter("etcd_server_health_failures", "The total number of failed health checks");
    /// The last outcome of each check of `/livez` and `/readyz`.
    HEALTHCHECK: IntGaugeVec = gauges("etcd_server_healthcheck", "The result of each kind of healthcheck.", &["type", "name"]);
    /// Outcomes of the checks of `/livez` and `/readyz`.
    HEALTHCHECKS: IntCounterVec = counters("etcd_server_healthchecks_total", "The total number of each kind of healthcheck.", &["type", "name", "status"]);
    HAS_LEADER: IntGauge = gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.");
    IS_LEADER: IntGauge = gauge("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.");
    IS_LEARNER: IntGauge = gauge("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.");
    SERVER_ID: IntGaugeVec = gauges("etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.", &["server_id"]);
    VERSION: IntGaugeVec = gauges("etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.", &["server_version"]);
    GO_VERSION: IntGaugeVec = gauges("etcd_server_go_version", "Which Go version server is running with. 1 for 'server_go_version' label with current version.", &["server_go_version"]);
    CLUSTER_VERSION: IntGaugeVec = gauges("etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version", &["cluster_version"]);
    QUOTA: IntGauge = gauge("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.");
    COMMITTED: IntGauge = gauge("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.");
    APPLIED: IntGauge = gauge("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.");
    DB_TOTAL: IntGauge = gauge("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.");
    DB_IN_USE: IntGauge = gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.");
    REVISION: IntGauge = gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.");
    AUTH_REVISION: IntGauge = gauge("etcd_debugging_auth_revision", "The current revision of auth store.");
    /// Watch streams that are open.
    WATCH_STREAMS: IntGauge = gauge("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.");
    /// Bytes of keys and values that clients put.
    PUT_BYTES: IntGauge = gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs seen by this member.");
    /// Seconds a hash of everything took.
    HASH_SECONDS: Histogram = histogram("etcd_mvcc_hash_duration_seconds", "The latency distribution of storage hash operation.", doubling(0.01, 15));
    /// Seconds a hash at a revision took.
    HASH_REV_SECONDS: Histogram = histogram("etcd_mvcc_hash_rev_duration_seconds", "The latency distribution of storage hash by revision operation.", doubling(0.01, 15));
    /// Defragmentations under way.
    DEFRAG_INFLIGHT: IntGauge = gauge("etcd_disk_defrag_inflight", "Whether or not defrag is active on the member. 1 means active, 0 means not.");
    /// Seconds a defragmentation took.
    DEFRAG_SECONDS: Histogram = histogram("etcd_disk_backend_defrag_duration_seconds", "The latency distribution of backend defragmentation.", doubling(0.1, 13));
    COMPACT_REVISION: IntGauge = gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.");
}

/// Operations clients did successfully.
pub(crate) struct MvccMetrics {
    pub(crate) range: IntCounter,
    pub(crate) put: IntCounter,
    pub(crate) delete: IntCounter,
    pub(crate) txn: IntCounter,
}

/// Operations clients of this member did successfully.
pub(crate) static MVCC: LazyLock<MvccMetrics> = LazyLock::new(|| MvccMetrics {
    range: counter("etcd_mvcc_range_total", "Total number of ranges seen by this member."),
    put: counter("etcd_mvcc_put_total", "Total number of puts seen by this member."),
    delete: counter("etcd_mvcc_delete_total", "Total number of deletes seen by this member."),
    txn: counter("etcd_mvcc_txn_total", "Total number of txns seen by this member."),
});

/// Sets the gauges that tell the member's state.
pub(crate) fn set_member(member: &Member, vitals: &Vitals) {
    HAS_LEADER.set((member.leader != 0).into());
    IS_LEADER.set((member.leader != 0 && member.leader == member.member_id).into());
    IS_LEARNER.set(member.is_learner.into());
    only(&SERVER_ID, &format!("{:x}", member.member_id));
    only(&VERSION, crate::ETCD_VERSION);
    only(&GO_VERSION, "none");
    if let Some((minor, _)) = member.cluster_version.rsplit_once('.') {
        only(&CLUSTER_VERSION, minor);
    }
    QUOTA.set(member.db_size_quota);
    COMMITTED.set(member.raft_index as i64);
    APPLIED.set(member.raft_applied_index as i64);
    DB_TOTAL.set(member.db_size);
    DB_IN_USE.set(member.db_size_in_use);
    REVISION.set(member.revision);
    COMPACT_REVISION.set(member.compact_revision);
    AUTH_REVISION.set(vitals.auth_revision as i64);
}

/// Sets the only series of a gauge that carries its information as a label.
fn only(gauge: &IntGaugeVec, value: &str) {
    gauge.reset();
    gauge.with_label_values(&[value]).set(1);
}
