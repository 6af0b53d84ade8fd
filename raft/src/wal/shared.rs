use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Semaphore;

use super::error::Error;
use super::format::{LogId, Record};
use super::health::HealthBoard;
use super::options::WalOptions;
use super::segment::Segment;
use super::view::View;
use super::written::Written;

/// Told once the write it came with is durable, or that the log shut down
/// before. Runs on the writer thread, in the order of the writes: it must not
/// block.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// A queued write.
pub(super) struct Op {
    pub(super) records: Vec<Record>,
    pub(super) done: Option<Done>,
    /// Queue permits to give back, in KiB.
    pub(super) permits: usize,
}

impl Op {
    fn encoded_len(&self) -> usize {
        self.records.iter().map(Record::encoded_len).sum()
    }
}

/// What the writer makes durable with one sync.
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    pub(super) dones: Vec<Done>,
    pub(super) permits: usize,
    /// The last write in it.
    pub(super) ticket: u64,
}

/// What callers and the writer share.
pub(super) struct Shared {
    pub(super) options: WalOptions,
    pub(super) health: HealthBoard,
    /// Room in the queue, in KiB.
    pub(super) room: Semaphore,
    state: Mutex<State>,
    wake: Condvar,
}

pub(super) struct State {
    pub(super) view: View,
    pub(super) written: Written,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    queue: VecDeque<Op>,
    /// Ticket of the newest queued write; they count up by one.
    queued: u64,
    /// Ticket of the newest durable write.
    durable: u64,
    /// Committed id not queued yet: it goes along with the next write.
    committed: Option<LogId>,
    closing: bool,
    closed: bool,
}

impl Shared {
    pub(super) fn new(
        options: WalOptions,
        view: View,
        written: Written,
        segments: BTreeMap<u64, Arc<Segment>>,
    ) -> Self {
        let room = Semaphore::new(kib(options.queue_bytes));
        let state = State {
            view,
            written,
            segments,
            queue: VecDeque::new(),
            queued: 0,
            durable: 0,
            committed: None,
            closing: false,
            closed: false,
        };
        Self { options, health: HealthBoard::new(), room, state: Mutex::new(state), wake: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Permits a write of that many bytes needs: never more than there are.
    pub(super) fn permits(&self, bytes: usize) -> usize {
        kib(bytes).min(kib(self.options.queue_bytes))
    }

    pub(super) fn wake_writer(&self) {
        self.wake.notify_all();
    }

    /// Asks the writer to finish what is queued and to end.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.room.close();
        self.wake.notify_all();
    }

    /// The next batch, once there is a write; `None` when closing and all is done.
    pub(super) fn next_batch(&self, limit: usize) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if !state.queue.is_empty() || (state.closing && state.committed.is_some()) {
                return Some(state.take_batch(limit));
            }
            if state.closing {
                state.closed = true;
                return None;
            }
            self.wake.wait(&mut state);
        }
    }

    /// Whether a write waits.
    pub(super) fn has_work(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Waits before a retry; returns whether the log is closing.
    pub(super) fn pause(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut state = self.lock();
        while !state.closing {
            if self.wake.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.closing
    }

    /// Ends the queue: what is in it, and what comes, fails.
    pub(super) fn fail_queue(&self) {
        let mut state = self.lock();
        state.closed = true;
        let ops = std::mem::take(&mut state.queue);
        drop(state);
        for done in ops.into_iter().filter_map(|op| op.done) {
            done(Err(Error::Closed.into()));
        }
    }

    /// Takes note that a batch is durable: `apply` brings in where its records lie.
    pub(super) fn complete(&self, batch: Batch, apply: impl FnOnce(&mut State, &[Record])) {
        let mut state = self.lock();
        apply(&mut state, &batch.records);
        state.durable = batch.ticket;
        let durable = state.durable;
        state.view.evict(self.options.cache_bytes, durable);
        drop(state);
        self.room.add_permits(batch.permits);
        for done in batch.dones {
            done(Ok(()));
        }
    }
}

impl State {
    /// Queues a write and returns its ticket.
    pub(super) fn enqueue(&mut self, op: Op) -> u64 {
        self.queue.push_back(op);
        self.queued += 1;
        self.queued
    }

    /// The ticket the next write gets.
    pub(super) fn next_ticket(&self) -> u64 {
        self.queued + 1
    }

    pub(super) fn set_committed(&mut self, id: LogId) {
        self.view.committed = Some(id);
        self.committed = Some(id);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closing || self.closed
    }

    fn take_batch(&mut self, limit: usize) -> Batch {
        let mut batch = Batch { records: Vec::new(), dones: Vec::new(), permits: 0, ticket: 0 };
        let mut bytes = 0;
        while let Some(op) = self.queue.front() {
            bytes += op.encoded_len();
            if bytes > limit && !batch.records.is_empty() {
                break;
            }
            let Some(op) = self.queue.pop_front() else { break };
            batch.records.extend(op.records);
            batch.dones.extend(op.done);
            batch.permits += op.permits;
        }
        batch.ticket = self.queued - self.queue.len() as u64;
        // Only behind everything queued before it was known: it must not
        // become durable ahead of the entries it speaks of.
        if self.queue.is_empty() {
            batch.records.extend(self.committed.take().map(Record::Committed));
        }
        batch
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024).clamp(1, Semaphore::MAX_PERMITS)
}
