//! A watcher's queue and state, shared between its consumer and the hub.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::batch::{Batch, Variant};
use super::metrics::{EVENTS, PENDING_EVENTS, SLOW_WATCHERS};
use super::{WatchItem, WatchSpec};
use crate::mvcc::KeyRange;

/// A watcher, seen from the hub. Lock order: the hub's state, then a cell.
pub(super) struct Cell {
    pub(super) id: u64,
    pub(super) spec: WatchSpec,
    pub(super) range: KeyRange,
    pub(super) variant: Variant,
    max_bytes: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    queue: VecDeque<Arc<Batch>>,
    bytes: usize,
    waker: Option<Waker>,
    phase: Phase,
    /// Events from this revision on have not been queued yet; those below
    /// have, or are not wanted. Of a synced watcher only a lower bound.
    next: i64,
    /// Everything up to this revision has been queued.
    seen: i64,
    /// The cell waits for the catch-up thread, or is being worked on by it.
    scheduled: bool,
}

enum Phase {
    /// The matcher pushes new events.
    Synced,
    /// The watcher reads history.
    Lagging,
    /// The last item is still to be taken.
    Ending(WatchItem),
    /// The last item was taken, or the consumer is gone.
    Over,
}

/// What became of a batch offered to a synced watcher.
pub(super) enum Offer {
    /// It is queued, or nothing in it concerns the watcher.
    Taken(Option<Waker>),
    /// There is no room: the watcher lags now.
    Full,
}

/// What the consumer gets, and whether the cell must be scheduled.
pub(super) struct Taken {
    pub(super) item: Poll<Option<WatchItem>>,
    pub(super) schedule: bool,
}

impl Cell {
    /// A lagging watcher that wants events from `next` on.
    pub(super) fn new(id: u64, spec: WatchSpec, next: i64, seen: i64, max_bytes: usize) -> Self {
        SLOW_WATCHERS.inc();
        let inner = Inner {
            queue: VecDeque::new(),
            bytes: 0,
            waker: None,
            phase: Phase::Lagging,
            next,
            seen,
            scheduled: false,
        };
        Self {
            id,
            range: KeyRange::new(&spec.key, &spec.range_end),
            variant: Variant::of(&spec),
            spec,
            max_bytes,
            inner: Mutex::new(inner),
        }
    }

    /// Offers new events to a synced watcher.
    pub(super) fn offer(&self, batch: &Arc<Batch>) -> Offer {
        let mut inner = self.inner.lock();
        if !matches!(inner.phase, Phase::Synced) {
            return Offer::Taken(None);
        }
        let Some(batch) = Batch::from_revision(batch, inner.next) else { return Offer::Taken(None) };
        if !inner.queue.is_empty() && inner.bytes + batch.bytes > self.max_bytes {
            inner.next = batch.first();
            inner.lag();
            return Offer::Full;
        }
        Offer::Taken(inner.push(batch))
    }

    /// Makes a synced watcher lag, at `from` or where it starts; true if it
    /// must be scheduled now.
    pub(super) fn fall_back(&self, from: i64) -> bool {
        let mut inner = self.inner.lock();
        if !matches!(inner.phase, Phase::Synced) {
            return false;
        }
        inner.next = inner.next.max(from);
        inner.lag();
        self.schedule(&mut inner)
    }

    /// Makes a lagging watcher synced if it has everything up to `last`. Only
    /// under the lock of the hub's state. False if it is still behind.
    pub(super) fn sync(&self, last: i64) -> bool {
        let mut inner = self.inner.lock();
        if !matches!(inner.phase, Phase::Lagging) || inner.next <= last {
            return false;
        }
        inner.phase = Phase::Synced;
        inner.scheduled = false;
        SLOW_WATCHERS.dec();
        true
    }

    /// The revision a lagging watcher is to read next; `None` if there is
    /// nothing to do (now).
    pub(super) fn next_to_read(&self) -> Option<i64> {
        let mut inner = self.inner.lock();
        inner.scheduled = false;
        self.schedule(&mut inner).then_some(inner.next)
    }

    /// First revision a synced watcher wants, at least.
    pub(super) fn next(&self) -> i64 {
        self.inner.lock().next
    }

    /// Queues what a lagging watcher has read, up to `through`.
    pub(super) fn caught_up(&self, batch: Option<Arc<Batch>>, through: i64) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if !matches!(inner.phase, Phase::Lagging) {
            return None;
        }
        inner.next = inner.next.max(through.saturating_add(1));
        inner.seen = inner.seen.max(through);
        batch.and_then(|batch| inner.push(batch))
    }

    /// Ends the watcher after what is queued.
    pub(super) fn end(&self, item: WatchItem) -> Option<Waker> {
        let mut inner = self.inner.lock();
        match inner.phase {
            Phase::Ending(_) | Phase::Over => return None,
            Phase::Lagging => SLOW_WATCHERS.dec(),
            Phase::Synced => {}
        }
        inner.phase = Phase::Ending(item);
        inner.waker.take()
    }

    /// The consumer is gone. Returns its waker, to be dropped without locks.
    pub(super) fn abandon(&self) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if matches!(inner.phase, Phase::Lagging) {
            SLOW_WATCHERS.dec();
        }
        inner.phase = Phase::Over;
        inner.bytes = 0;
        let pending: usize = inner.queue.drain(..).map(|batch| batch.events.len()).sum();
        PENDING_EVENTS.sub(pending as i64);
        inner.waker.take()
    }

    /// Takes the next item out.
    pub(super) fn take(&self, cx: &mut Context<'_>) -> Taken {
        // Declared first, so that it is dropped after the lock is.
        let _stale;
        let mut inner = self.inner.lock();
        if let Some(batch) = inner.queue.pop_front() {
            inner.bytes -= batch.bytes;
            inner.seen = inner.seen.max(batch.revision);
            let schedule = self.schedule(&mut inner);
            drop(inner);
            return Taken { item: Poll::Ready(Some(item_of(batch))), schedule };
        }
        let item = match &inner.phase {
            Phase::Synced | Phase::Lagging => {
                if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    _stale = inner.waker.replace(cx.waker().clone());
                }
                Poll::Pending
            }
            Phase::Ending(item) => {
                let item = item.clone();
                inner.phase = Phase::Over;
                Poll::Ready(Some(item))
            }
            Phase::Over => Poll::Ready(None),
        };
        Taken { item, schedule: false }
    }

    /// See [`super::Watcher::progress`]; `delivered` was read before the call.
    pub(super) fn progress(&self, delivered: i64) -> Option<i64> {
        let inner = self.inner.lock();
        let idle = matches!(inner.phase, Phase::Synced) && inner.queue.is_empty();
        idle.then(|| inner.seen.max(delivered))
    }

    /// True if a lagging watcher has room and is not scheduled yet; it is then.
    fn schedule(&self, inner: &mut Inner) -> bool {
        let ready = matches!(inner.phase, Phase::Lagging)
            && !inner.scheduled
            && (inner.queue.is_empty() || inner.bytes <= self.max_bytes / 2);
        inner.scheduled |= ready;
        ready
    }
}

impl Inner {
    fn push(&mut self, batch: Arc<Batch>) -> Option<Waker> {
        EVENTS.inc_by(batch.events.len() as u64);
        PENDING_EVENTS.add(batch.events.len() as i64);
        self.bytes += batch.bytes;
        self.queue.push_back(batch);
        self.waker.take()
    }

    fn lag(&mut self) {
        self.phase = Phase::Lagging;
        SLOW_WATCHERS.inc();
    }
}

fn item_of(batch: Arc<Batch>) -> WatchItem {
    PENDING_EVENTS.sub(batch.events.len() as i64);
    let revision = batch.revision;
    let events = match Arc::try_unwrap(batch) {
        Ok(batch) => batch.events,
        Err(shared) => shared.events.clone(),
    };
    WatchItem::Events { revision, events }
}
