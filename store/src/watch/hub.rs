//! The hub: takes events from the applier and brings them to watchers.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use parking_lot::{Condvar, Mutex};

use super::catch_up::CatchUp;
use super::cell::Cell;
use super::history::History;
use super::inbox::Inbox;
use super::index::Index;
use super::matcher::Matcher;
use super::metrics::{self, WATCHERS};
use super::ring::Ring;
use super::{PublishedEvent, WatchItem, WatchSpec, Watcher};
use crate::error::{Error, NodeError, Result};

/// Settings of a [`Hub`]. All sizes are in bytes, counted about.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Newest events kept in memory for watchers that start in the past or
    /// have fallen behind.
    pub ring_bytes: usize,
    /// Events that may wait in one watcher's queue; more only where a single
    /// revision is bigger.
    pub watcher_queue_bytes: usize,
    /// Published events that may wait for the matcher; it reads what does not
    /// fit from the history.
    pub inbox_bytes: usize,
    /// Events matched, or read from history, at a time; more only where a
    /// single revision is bigger.
    pub chunk_bytes: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            ring_bytes: 16 << 20,
            watcher_queue_bytes: 1 << 20,
            inbox_bytes: 16 << 20,
            chunk_bytes: 256 << 10,
        }
    }
}

/// Brings events to watchers. Dropping it ends them.
///
/// Two threads work for a hub. The *matcher* takes published events in order
/// and pushes them to the synced watchers they concern. The *catch-up* thread
/// reads, in turns of bounded size, on behalf of watchers that are behind.
///
/// The handover between the two rests on one number, the last revision the
/// matcher has *claimed*: under the lock of the state, the matcher claims a
/// chunk of revisions for those synced at that moment, and a watcher becomes
/// synced only if it has everything claimed so far. So each revision is
/// brought to a watcher by exactly one of the two.
pub struct Hub {
    shared: Arc<Shared>,
}

/// What the hub, its threads and its watchers share.
pub(super) struct Shared {
    pub(super) config: HubConfig,
    pub(super) inbox: Inbox,
    pub(super) state: Mutex<State>,
    /// Everything up to this revision has been pushed to the synced watchers.
    pub(super) delivered: AtomicI64,
    /// Number of resets.
    pub(super) epoch: AtomicU64,
    pub(super) ready: Ready,
    history: Weak<dyn History>,
}

/// What changes hands between matcher and catch-up.
pub(super) struct State {
    /// The newest events; its last revision is the last one claimed.
    pub(super) ring: Ring,
    /// Synced watchers.
    pub(super) index: Index,
    /// All watchers.
    watchers: HashMap<u64, Arc<Cell>>,
    last_id: u64,
    closed: Option<Error>,
}

/// Watchers that wait for the catch-up thread, each at most once.
#[derive(Default)]
pub(super) struct Ready {
    queue: Mutex<(VecDeque<Arc<Cell>>, bool)>,
    filled: Condvar,
}

impl Ready {
    /// Adds a watcher at the end.
    pub(super) fn push(&self, cell: Arc<Cell>) {
        let mut queue = self.queue.lock();
        if !queue.1 {
            queue.0.push_back(cell);
            drop(queue);
            self.filled.notify_one();
        }
    }

    /// Takes the first watcher; `None` if there is none, or once closed.
    pub(super) fn pop(&self, wait: bool) -> Option<Arc<Cell>> {
        let mut queue = self.queue.lock();
        while queue.0.is_empty() && !queue.1 && wait {
            self.filled.wait(&mut queue);
        }
        queue.0.pop_front()
    }

    /// True if no watcher waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.lock().0.is_empty()
    }

    fn close(&self) {
        let mut queue = self.queue.lock();
        *queue = (VecDeque::new(), true);
        drop(queue);
        self.filled.notify_all();
    }
}

impl Shared {
    /// The history, as long as the store is there.
    pub(super) fn history(&self) -> Result<Arc<dyn History>> {
        self.history.upgrade().ok_or(Error::Node(NodeError::Stopped))
    }

    /// Makes a watcher synced if it has all that was claimed.
    pub(super) fn try_sync(&self, cell: &Arc<Cell>) -> bool {
        let mut state = self.state.lock();
        let synced = cell.sync(state.ring.last());
        if synced {
            state.index.insert(Arc::clone(cell));
        }
        synced
    }

    /// Ends a watcher after what is queued.
    pub(super) fn end(&self, cell: &Cell, item: WatchItem) {
        let mut state = self.state.lock();
        state.index.remove(cell);
        drop(state);
        wake(cell.end(item));
    }

    /// Forgets a watcher whose consumer is gone.
    pub(super) fn forget(&self, cell: &Arc<Cell>) {
        let mut state = self.state.lock();
        state.index.remove(cell);
        if state.watchers.remove(&cell.id).is_some() {
            WATCHERS.dec();
        }
        // Under the lock, so that the catch-up cannot sync it in between; but
        // dropping a waker may run anything.
        let waker = cell.abandon();
        drop(state);
        drop(waker);
    }

    /// Ends all watchers, and the threads.
    pub(super) fn close(&self, error: &Error) {
        self.inbox.close();
        self.ready.close();
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(error.clone());
        state.index = Index::default();
        let cells: Vec<_> = state.watchers.values().cloned().collect();
        drop(state);
        for cell in cells {
            wake(cell.end(WatchItem::Closed(error.clone())));
        }
    }
}

/// Wakes consumers. Not under the lock of the state: a waker may run anything.
pub(super) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl Hub {
    /// A hub that continues after `revision`, the newest one at this moment,
    /// with its threads. The history is not called yet; it is the store that
    /// owns the hub, hence weak.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn new(config: HubConfig, revision: i64, history: Weak<dyn History>) -> Result<Self> {
        metrics::init();
        let hub = Self::without_threads(config, revision, history);
        let shared = Arc::clone(&hub.shared);
        hub.start("watch-match", move || while Matcher::new(&shared).step(true) {})?;
        let shared = Arc::clone(&hub.shared);
        hub.start("watch-catchup", move || {
            let mut catch_up = CatchUp::default();
            while catch_up.step(&shared, true) {}
        })?;
        Ok(hub)
    }

    /// A hub whose work is done by [`Hub::step`], for simulations.
    pub fn without_threads(config: HubConfig, revision: i64, history: Weak<dyn History>) -> Self {
        let state = State {
            ring: Ring::new(config.ring_bytes, revision),
            index: Index::default(),
            watchers: HashMap::new(),
            last_id: 0,
            closed: None,
        };
        let shared = Shared {
            inbox: Inbox::new(config.inbox_bytes, revision),
            config,
            state: Mutex::new(state),
            delivered: AtomicI64::new(revision),
            epoch: AtomicU64::new(0),
            ready: Ready::default(),
            history,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Does one piece of work of each thread; false if there was none. Only
    /// for a hub without threads.
    pub fn step(&self) -> bool {
        let matched = Matcher::new(&self.shared).step(false);
        let caught_up = CatchUp::default().step(&self.shared, false);
        matched || caught_up
    }

    /// Takes the events of all revisions after the last published one up to
    /// `revision`, in order. Call it once they are visible to readers, also
    /// where a revision has no events. Never blocks for long. Only one caller
    /// at a time.
    pub fn publish(&self, revision: i64, events: Vec<PublishedEvent>) {
        self.shared.inbox.push(revision, events);
    }

    /// Starts a watch.
    pub fn watch(&self, spec: WatchSpec) -> Watcher {
        let (next, seen, end) = self.start_of(&spec);
        let shared = &self.shared;
        let mut state = shared.state.lock();
        state.last_id += 1;
        let cell = Arc::new(Cell::new(state.last_id, spec, next, seen, shared.config.watcher_queue_bytes));
        WATCHERS.inc();
        state.watchers.insert(cell.id, Arc::clone(&cell));
        let end = state.closed.clone().map(WatchItem::Closed).or(end);
        if let Some(item) = end {
            drop(cell.end(item));
        } else if cell.sync(state.ring.last()) {
            state.index.insert(Arc::clone(&cell));
        } else if cell.next_to_read().is_some() {
            shared.ready.push(Arc::clone(&cell));
        }
        drop(state);
        Watcher::new(Arc::clone(shared), cell)
    }

    /// The state was replaced by a newer one of the same history, as after a
    /// snapshot, and is visible to readers: what was not published is read
    /// from there. Watchers that want what it no longer has are told so.
    pub fn reset(&self) {
        let Ok(history) = self.shared.history() else { return };
        self.shared.epoch.fetch_add(1, Ordering::AcqRel);
        let mut state = self.shared.state.lock();
        let last = state.ring.last();
        state.ring.clear(last);
        drop(state);
        self.shared.inbox.reset(history.revision());
    }

    /// Ends all watchers, after what is queued, and refuses new ones.
    pub fn close(&self, error: Error) {
        self.shared.close(&error);
    }

    /// First revision to report, the last one that is not asked for, and the
    /// end of a watch that cannot even begin.
    fn start_of(&self, spec: &WatchSpec) -> (i64, i64, Option<WatchItem>) {
        let history = match self.shared.history() {
            Ok(history) => history,
            Err(error) => return (0, 0, Some(WatchItem::Closed(error))),
        };
        if spec.start_revision <= 0 {
            let revision = history.revision();
            return (revision + 1, revision, None);
        }
        let compact_revision = history.compact_revision();
        let compacted = spec.start_revision < compact_revision;
        (spec.start_revision, 0, compacted.then_some(WatchItem::Compacted { compact_revision }))
    }

    fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        // A thread that ends for whatever reason leaves no watcher waiting.
        let guard = CloseOnDrop(Arc::clone(&self.shared));
        let run = move || {
            let _guard = guard;
            work();
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        thread.map(drop).map_err(|error| Error::Other(format!("starting thread {name}: {error}")))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.shared.close(&Error::Node(NodeError::Stopped));
    }
}

struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if !self.0.inbox.is_closed() {
            self.0.close(&Error::Other("a watch thread failed".to_owned()));
        }
    }
}
