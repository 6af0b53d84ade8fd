//! Metrics of the SQL store. kine's names where kine has one.

use std::sync::LazyLock;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts};

/// The metrics of the process.
pub(crate) struct Metrics {
    pub(crate) compactions: IntCounterVec,
    pub(crate) sql: IntCounterVec,
    pub(crate) sql_seconds: HistogramVec,
    pub(crate) commits: Histogram,
    pub(crate) batch: Histogram,
    pub(crate) retries: IntCounterVec,
    pub(crate) reloads: IntCounter,
    pub(crate) adopted: IntCounter,
    pub(crate) reachable: IntGauge,
}

/// All of them, registered on first use.
pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    compactions: registered(counters("kine_compact_total", "Total number of compactions", &["result"])),
    sql: registered(counters("kine_sql_total", "Total number of SQL operations", &["error_code"])),
    sql_seconds: registered(
        HistogramVec::new(
            HistogramOpts::new("kine_sql_time_seconds", "Length of time per SQL operation")
                .buckets(prometheus::exponential_buckets(0.0002, 2.0, 16).expect("valid buckets")),
            &["name", "error_code"],
        )
        .expect("a valid metric"),
    ),
    commits: registered(histogram(
        "skiff_sql_commit_duration_seconds",
        "Time from locking the head to the end of the commit",
        prometheus::exponential_buckets(0.0002, 2.0, 16),
    )),
    batch: registered(histogram(
        "skiff_sql_batch_commands",
        "Commands committed together",
        prometheus::exponential_buckets(1.0, 2.0, 11),
    )),
    retries: registered(counters(
        "kine_insert_errors_total",
        "Total number of writes that the database refused",
        &["retriable"],
    )),
    reloads: registered(counter("skiff_sql_replica_loads_total", "Times the replica was filled anew")),
    adopted: registered(counter(
        "skiff_sql_adopted_rows_total",
        "Rows of other programs that were taken over",
    )),
    reachable: registered(
        IntGauge::new("skiff_sql_database_reachable", "1 while the database answers")
            .expect("a valid metric"),
    ),
});

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("a valid metric")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("a valid metric")
}

fn histogram(name: &str, help: &str, buckets: prometheus::Result<Vec<f64>>) -> Histogram {
    let opts = HistogramOpts::new(name, help).buckets(buckets.expect("valid buckets"));
    Histogram::with_opts(opts).expect("a valid metric")
}

fn registered<M: prometheus::core::Collector + Clone + 'static>(metric: M) -> M {
    // A second registration can only be this very metric.
    let _ = prometheus::register(Box::new(metric.clone()));
    metric
}
