use std::sync::LazyLock;

use prometheus::{Gauge, Histogram, HistogramOpts, core::Collector};

/// The log's metrics, in the default registry. Those etcd has carry its names.
pub(super) struct Metrics {
    /// Seconds of the fdatasync calls.
    pub(super) fsync_seconds: Histogram,
    /// Seconds of the write calls before them.
    pub(super) write_seconds: Histogram,
    /// Bytes written to segments.
    pub(super) write_bytes: Gauge,
    /// Records per fdatasync: how much group commit gains.
    pub(super) batch_records: Histogram,
    /// Bytes per fdatasync.
    pub(super) batch_bytes: Histogram,
}

/// The process's instance; several logs in a process share it.
pub(super) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        let millis = || buckets(0.001, 14);
        Self {
            fsync_seconds: histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL.",
                millis(),
            ),
            write_seconds: histogram(
                "etcd_disk_wal_write_duration_seconds",
                "The latency distributions of write called by WAL.",
                millis(),
            ),
            write_bytes: register(Gauge::new(
                "etcd_disk_wal_write_bytes_total",
                "Total number of bytes written in WAL.",
            )),
            batch_records: histogram(
                "skiff_wal_batch_records",
                "Log records made durable by one fsync.",
                buckets(1.0, 14),
            ),
            batch_bytes: histogram(
                "skiff_wal_batch_bytes",
                "Bytes made durable by one fsync.",
                buckets(512.0, 16),
            ),
        }
    }
}

/// `count` upper bounds, each double the one before.
fn buckets(start: f64, count: i32) -> Vec<f64> {
    (0..count).map(|power| start * 2f64.powi(power)).collect()
}

fn histogram(name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

fn register<M: Collector + Clone + 'static>(made: prometheus::Result<M>) -> M {
    let metric = made.expect("metric names and buckets are valid");
    if let Err(error) = prometheus::register(Box::new(metric.clone())) {
        tracing::warn!(%error, "cannot register a metric of the write-ahead log");
    }
    metric
}
