//! Metrics of the pass-through.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use crate::metrics::{counter, counters, gauges};

pub(super) static HEALTHY: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauges(
        "skiff_pass_through_endpoint_healthy",
        "Whether a connection to the endpoint is up. 1 is up, 0 is not.",
        &["endpoint"],
    )
});

pub(super) static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "skiff_pass_through_requests_total",
        "The number of requests sent to the endpoint, tries that failed included.",
        &["endpoint"],
    )
});

pub(super) static FAILURES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counters(
        "skiff_pass_through_failures_total",
        "The number of requests and connections that failed at the endpoint: \
         connect, refused (sent on to another one), lost.",
        &["endpoint", "kind"],
    )
});

pub(super) static UNSERVED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "skiff_pass_through_unserved_total",
        "The number of requests answered by an error as no endpoint could be reached or a limit was hit.",
    )
});

/// Makes the series of an endpoint, so that they are there before anything fails.
pub(super) fn init(endpoint: &str) {
    HEALTHY.with_label_values(&[endpoint]).set(0);
    REQUESTS.with_label_values(&[endpoint]);
    for kind in ["connect", "refused", "lost"] {
        FAILURES.with_label_values(&[endpoint, kind]);
    }
    LazyLock::force(&UNSERVED);
}
