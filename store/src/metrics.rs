//! What the store counts, under etcd's names, in the default registry.

use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, exponential_buckets};

/// Registers a metric. One that is refused still counts, unseen: better than
/// not to start.
fn register<M: Collector + Clone + 'static>(made: prometheus::Result<M>) -> M {
    let metric = made.expect("names and buckets are constants");
    if let Err(error) = prometheus::register(Box::new(metric.clone())) {
        tracing::warn!(%error, "a metric is not exported");
    }
    metric
}

/// Makes a gauge.
pub(crate) fn gauge(name: &str, help: &str) -> IntGauge {
    register(IntGauge::new(name, help))
}

/// Makes a counter.
pub(crate) fn counter(name: &str, help: &str) -> IntCounter {
    register(IntCounter::new(name, help))
}

/// Makes a histogram with `count` buckets, each twice as wide as the one before.
fn histogram(name: &str, help: &str, start: f64, count: usize) -> Histogram {
    let buckets = exponential_buckets(start, 2.0, count).unwrap_or_default();
    register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

/// Seconds that writing a batch to the engine took.
pub(crate) static COMMIT_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "The latency distributions of commit called by backend.",
        0.001,
        14,
    )
});

/// Snapshots of the engine that are in use: reads under way, and the one that
/// new reads are answered from.
pub(crate) static OPEN_READS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge("etcd_mvcc_db_open_read_transactions", "The number of currently open read transactions")
});
