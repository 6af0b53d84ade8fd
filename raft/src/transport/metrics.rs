//! The transport's metrics, with etcd's names and labels.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    exponential_buckets,
};

static ALL: LazyLock<Families> = LazyLock::new(Families::register);

/// Metric families; one per process, in the default registry.
struct Families {
    active: GaugeVec,
    disconnected: IntCounterVec,
    known: GaugeVec,
    sent: IntCounterVec,
    sent_failures: IntCounterVec,
    received: IntCounterVec,
    received_failures: IntCounterVec,
    round_trip: HistogramVec,
    snapshot_sent: IntCounterVec,
    snapshot_send_failures: IntCounterVec,
    snapshot_send_inflight: GaugeVec,
    snapshot_send_duration: HistogramVec,
    snapshot_received: IntCounterVec,
    snapshot_receive_failures: IntCounterVec,
    snapshot_receive_inflight: GaugeVec,
    snapshot_receive_duration: HistogramVec,
}

/// Registers a family. A clash of names is a mistake of this program that
/// costs the metric, not the process.
fn register<C: Collector + Clone + 'static>(family: prometheus::Result<C>) -> C {
    let family = family.expect("constant metric names are valid");
    if let Err(error) = prometheus::default_registry().register(Box::new(family.clone())) {
        tracing::warn!(%error, "cannot register a peer metric");
    }
    family
}

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(IntCounterVec::new(Opts::new(name, help).namespace("etcd").subsystem("network"), labels))
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(GaugeVec::new(Opts::new(name, help).namespace("etcd").subsystem("network"), labels))
}

fn histogram(name: &str, help: &str, label: &str, start: f64, count: usize) -> HistogramVec {
    let buckets = exponential_buckets(start, 2.0, count).unwrap_or_default();
    let opts = HistogramOpts::new(name, help).namespace("etcd").subsystem("network").buckets(buckets);
    register(HistogramVec::new(opts, &[label]))
}

impl Families {
    fn register() -> Self {
        let ends = &["Local", "Remote"];
        Families {
            active: gauge("active_peers", "The current number of active peer connections.", ends),
            disconnected: counter(
                "disconnected_peers_total",
                "The total number of disconnected peers.",
                ends,
            ),
            known: gauge("known_peers", "The current number of known peers.", ends),
            sent: counter("peer_sent_bytes_total", "The total number of bytes sent to peers.", &["To"]),
            sent_failures: counter(
                "peer_sent_failures_total",
                "The total number of send failures from peers.",
                &["To"],
            ),
            received: counter(
                "peer_received_bytes_total",
                "The total number of bytes received from peers.",
                &["From"],
            ),
            received_failures: counter(
                "peer_received_failures_total",
                "The total number of receive failures from peers.",
                &["From"],
            ),
            round_trip: histogram(
                "peer_round_trip_time_seconds",
                "Round-Trip-Time histogram between peers",
                "To",
                0.0001,
                16,
            ),
            snapshot_sent: counter(
                "snapshot_send_success",
                "Total number of successful snapshot sends",
                &["To"],
            ),
            snapshot_send_failures: counter(
                "snapshot_send_failures",
                "Total number of snapshot send failures",
                &["To"],
            ),
            snapshot_send_inflight: gauge(
                "snapshot_send_inflights_total",
                "Total number of inflight snapshot sends",
                &["To"],
            ),
            snapshot_send_duration: histogram(
                "snapshot_send_total_duration_seconds",
                "Total latency distributions of v3 snapshot sends",
                "To",
                0.1,
                10,
            ),
            snapshot_received: counter(
                "snapshot_receive_success",
                "Total number of successful snapshot receives",
                &["From"],
            ),
            snapshot_receive_failures: counter(
                "snapshot_receive_failures",
                "Total number of snapshot receive failures",
                &["From"],
            ),
            snapshot_receive_inflight: gauge(
                "snapshot_receive_inflights_total",
                "Total number of inflight snapshot receives",
                &["From"],
            ),
            snapshot_receive_duration: histogram(
                "snapshot_receive_total_duration_seconds",
                "Total latency distributions of v3 snapshot receives",
                "From",
                0.1,
                10,
            ),
        }
    }
}

/// An id as etcd writes it in labels and logs.
pub(crate) fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// The metrics of what goes to one peer.
pub(crate) struct Sent {
    pub(crate) active: Gauge,
    pub(crate) known: Gauge,
    pub(crate) disconnected: IntCounter,
    pub(crate) bytes: IntCounter,
    pub(crate) failures: IntCounter,
    /// Bytes of the peer's answers.
    pub(crate) answered: IntCounter,
    pub(crate) round_trip: Histogram,
    labels: [String; 2],
}

impl Sent {
    pub(crate) fn new(local: u64, remote: u64) -> Self {
        let labels = [hex(local), hex(remote)];
        let ends = [labels[0].as_str(), labels[1].as_str()];
        let to = &ends[1..];
        Sent {
            active: ALL.active.with_label_values(&ends),
            known: ALL.known.with_label_values(&ends),
            disconnected: ALL.disconnected.with_label_values(&ends),
            bytes: ALL.sent.with_label_values(to),
            failures: ALL.sent_failures.with_label_values(to),
            answered: ALL.received.with_label_values(to),
            round_trip: ALL.round_trip.with_label_values(to),
            labels,
        }
    }

    /// Counts a snapshot from its start to its end.
    pub(crate) fn snapshot(&self) -> SnapshotTimer {
        let peer = self.labels[1].as_str();
        SnapshotTimer::start(
            &ALL.snapshot_send_inflight,
            &ALL.snapshot_sent,
            &ALL.snapshot_send_failures,
            &ALL.snapshot_send_duration,
            peer,
        )
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let ends = [self.labels[0].as_str(), self.labels[1].as_str()];
        // A peer that was removed must not be reported for ever; an error
        // means that it is not reported any more.
        let _ = ALL.active.remove_label_values(&ends);
        let _ = ALL.known.remove_label_values(&ends);
    }
}

/// The metrics of what comes from one peer.
pub(crate) struct Received {
    pub(crate) bytes: IntCounter,
    pub(crate) failures: IntCounter,
}

impl Received {
    pub(crate) fn new(from: u64) -> Self {
        let from = hex(from);
        Received {
            bytes: ALL.received.with_label_values(&[&from]),
            failures: ALL.received_failures.with_label_values(&[&from]),
        }
    }

    /// Counts a snapshot from its start to its end.
    pub(crate) fn snapshot(from: u64) -> SnapshotTimer {
        SnapshotTimer::start(
            &ALL.snapshot_receive_inflight,
            &ALL.snapshot_received,
            &ALL.snapshot_receive_failures,
            &ALL.snapshot_receive_duration,
            &hex(from),
        )
    }
}

/// Counts one snapshot: a failure unless [`SnapshotTimer::succeeded`].
pub(crate) struct SnapshotTimer {
    inflight: Gauge,
    success: IntCounter,
    failures: IntCounter,
    duration: Histogram,
    since: std::time::Instant,
    succeeded: bool,
}

impl SnapshotTimer {
    fn start(
        inflight: &GaugeVec,
        success: &IntCounterVec,
        failures: &IntCounterVec,
        duration: &HistogramVec,
        peer: &str,
    ) -> Self {
        let inflight = inflight.with_label_values(&[peer]);
        inflight.inc();
        SnapshotTimer {
            inflight,
            success: success.with_label_values(&[peer]),
            failures: failures.with_label_values(&[peer]),
            duration: duration.with_label_values(&[peer]),
            since: std::time::Instant::now(),
            succeeded: false,
        }
    }

    /// Counts the snapshot as a success.
    pub(crate) fn succeeded(mut self) -> Duration {
        self.succeeded = true;
        self.since.elapsed()
    }
}

impl Drop for SnapshotTimer {
    fn drop(&mut self) {
        self.inflight.dec();
        if self.succeeded {
            self.success.inc();
            self.duration.observe(self.since.elapsed().as_secs_f64());
        } else {
            self.failures.inc();
        }
    }
}
