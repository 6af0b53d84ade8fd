//! A watch, seen from its consumer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::WatchItem;
use super::cell::Cell;
use super::hub::Shared;

/// A running watch. Dropping it ends it.
pub struct Watcher {
    shared: Arc<Shared>,
    cell: Arc<Cell>,
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>, cell: Arc<Cell>) -> Self {
        Self { shared, cell }
    }

    /// The next item; `None` after the last.
    pub async fn next(&mut self) -> Option<WatchItem> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next item; `None` after the last.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<WatchItem>> {
        let taken = self.cell.take(cx);
        if taken.schedule {
            self.shared.ready.push(Arc::clone(&self.cell));
        }
        taken.item
    }

    /// The revision up to which every event has been taken out of this
    /// watcher, if it is synced and nothing waits; `None` while events are
    /// still to come. A progress notification must not name a higher one.
    pub fn progress(&self) -> Option<i64> {
        // Read before the queue is looked at: what was delivered by then is in
        // the queue or has been taken out of it.
        let delivered = self.shared.delivered.load(Ordering::Acquire);
        self.cell.progress(delivered)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.forget(&self.cell);
    }
}
