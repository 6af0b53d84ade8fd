//! etcd's metrics of watches.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntGauge};

use crate::metrics::{counter, gauge};

/// Makes every metric appear, at zero, before the first watch.
pub(super) fn init() {
    for gauge in [&WATCHERS, &SLOW_WATCHERS, &PENDING_EVENTS] {
        LazyLock::force(gauge);
    }
    LazyLock::force(&EVENTS);
}

/// Watchers, synced or not.
pub(super) static WATCHERS: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers."));

/// Watchers that are catching up.
pub(super) static SLOW_WATCHERS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.")
});

/// Events handed to watchers.
pub(super) static EVENTS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.")
});

/// Events waiting in the queues of watchers.
pub(super) static PENDING_EVENTS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge("etcd_debugging_mvcc_pending_events_total", "Total number of pending events to be sent.")
});
