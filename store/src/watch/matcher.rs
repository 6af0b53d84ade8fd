//! Brings published events to synced watchers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use super::batch::{Batch, Chunk, Slot, Variant, key_of, kv_bytes, revision_of};
use super::cell::{Cell, Offer};
use super::history::{History, HistoryError, HistoryPage};
use super::hub::{Shared, State, wake};
use super::inbox::{Published, Work};
use super::index::Group;
use super::{PublishedEvent, WatchItem};
use crate::error::Error;

/// The matcher's work. Only one at a time.
pub(super) struct Matcher<'a> {
    shared: &'a Shared,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared }
    }

    /// Does one piece of work; false if there is none (after waiting for it,
    /// with `wait`: the hub is closed).
    pub(super) fn step(&self, wait: bool) -> bool {
        match self.shared.inbox.next(wait) {
            None => return false,
            Some(Work::Match(published)) => self.take(published),
            Some(Work::Recover(revision)) => self.recover(revision),
        }
        true
    }

    fn take(&self, published: Published) {
        self.deliver(published.revision, published.events);
    }

    /// Reads one page of what did not fit in the inbox, for all watchers at
    /// once.
    fn recover(&self, revision: i64) {
        let from = self.shared.state.lock().ring.last() + 1;
        if from > revision {
            return self.shared.inbox.recovered(revision);
        }
        let read = |history: Arc<dyn History>| history.read(&[0], &[0], from, self.shared.config.chunk_bytes);
        match self.shared.history().map_err(HistoryError::Failed).and_then(read) {
            Ok(HistoryPage { events, through }) if through >= from => {
                self.deliver(through, events.into_iter().map(PublishedEvent::from).collect());
            }
            Ok(_) => self.shared.close(&Error::Other(format!("no history of revision {from}"))),
            Err(HistoryError::Compacted(compacted)) if compacted > from => self.skip_to(compacted),
            Err(HistoryError::Compacted(_)) => {
                self.shared
                    .close(&Error::Other(format!("no history of revision {from}, though not compacted")));
            }
            Err(HistoryError::Failed(error)) => self.shared.close(&error),
        }
    }

    /// Goes on at a compacted revision: ends those that want what was before.
    fn skip_to(&self, compact_revision: i64) {
        let mut state = self.shared.state.lock();
        let last = state.ring.last();
        let lost: Vec<_> = state
            .index
            .cells()
            .filter(|cell| cell.next().max(last + 1) < compact_revision)
            .cloned()
            .collect();
        for cell in &lost {
            state.index.remove(cell);
        }
        state.ring.clear(compact_revision - 1);
        self.shared.delivered.store(compact_revision - 1, Ordering::Release);
        drop(state);
        for cell in lost {
            wake(cell.end(WatchItem::Compacted { compact_revision }));
        }
    }

    /// Delivers the events up to `revision`, in chunks of whole revisions.
    fn deliver(&self, revision: i64, events: Vec<PublishedEvent>) {
        let claimed = self.shared.state.lock().ring.last();
        let mut slots: Vec<Slot> = Vec::new();
        let mut bytes = 0;
        for published in events {
            let at = revision_of(&published.event);
            if at <= claimed {
                continue;
            }
            let last = slots.last().map_or(at, |slot| revision_of(&slot.event));
            if at != last && bytes >= self.shared.config.chunk_bytes {
                self.deliver_chunk(Chunk::new(last, std::mem::take(&mut slots)));
                bytes = 0;
            }
            let slot = Slot::new(published);
            bytes += slot.bytes();
            slots.push(slot);
        }
        if revision > claimed {
            self.deliver_chunk(Chunk::new(revision, slots));
        }
    }

    fn deliver_chunk(&self, chunk: Chunk) {
        let chunk = Arc::new(chunk);
        // Claim: from here on, who is not synced reads these events itself.
        let mut state = self.shared.state.lock();
        let (hits, prevs) = state.index.hits(&chunk);
        state.ring.push(Arc::clone(&chunk));
        drop(state);

        // Without the lock: this may read the disk. Those synced meanwhile
        // start behind this chunk.
        let known = self.learn_prevs(&chunk, &prevs);

        let mut state = self.shared.state.lock();
        state.ring.grow(chunk.last, known);
        let mut outcome = Outcome::default();
        for (id, positions) in hits {
            if let Some(group) = state.index.group(id) {
                outcome.push(&chunk, &positions, group);
            }
        }
        self.shared.delivered.store(chunk.last, Ordering::Release);
        let wakers = self.settle(&mut state, outcome, &chunk);
        drop(state);
        wake(wakers);
    }

    /// Reads previous pairs; returns the bytes that are new in the chunk. Of
    /// pairs that cannot be read, or are too many to hold, it leaves the rest
    /// to the catch-up of those who want them.
    fn learn_prevs(&self, chunk: &Chunk, positions: &[usize]) -> usize {
        let mut bytes = 0;
        for slot in positions.iter().map(|position| &chunk.slots[*position]) {
            if bytes > self.shared.config.watcher_queue_bytes {
                break;
            }
            let Ok(history) = self.shared.history() else { break };
            match history.prev_kv(key_of(&slot.event), revision_of(&slot.event)) {
                Ok(prev) => {
                    bytes += prev.as_ref().map_or(0, kv_bytes);
                    let _ = slot.prev.set(prev);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read the pair before an event");
                    break;
                }
            }
        }
        bytes
    }

    /// Takes those that did not get their events out of the synced ones.
    fn settle(&self, state: &mut State, outcome: Outcome, chunk: &Chunk) -> Vec<Waker> {
        for cell in outcome.full {
            state.index.remove(&cell);
        }
        let first = chunk.slots.first().map_or(chunk.last, |slot| revision_of(&slot.event));
        for cell in outcome.incomplete {
            state.index.remove(&cell);
            if cell.fall_back(first) {
                self.shared.ready.push(cell);
            }
        }
        outcome.wakers
    }
}

/// What became of the watchers that a chunk concerned.
#[derive(Default)]
struct Outcome {
    wakers: Vec<Waker>,
    /// No room in their queues.
    full: Vec<Arc<Cell>>,
    /// They want pairs that could not be read.
    incomplete: Vec<Arc<Cell>>,
}

impl Outcome {
    fn push(&mut self, chunk: &Chunk, positions: &[usize], group: &Group) {
        let mut made: [Option<Made>; Variant::COUNT] = Default::default();
        for cell in group.members() {
            let made = made[cell.variant.index()].get_or_insert_with(|| make(chunk, positions, cell.variant));
            match made {
                Made::Nothing => {}
                Made::Incomplete => self.incomplete.push(Arc::clone(cell)),
                Made::Batch(batch) => match cell.offer(batch) {
                    Offer::Taken(waker) => self.wakers.extend(waker),
                    Offer::Full => self.full.push(Arc::clone(cell)),
                },
            }
        }
    }
}

/// A group's events in one variant.
enum Made {
    Nothing,
    Incomplete,
    Batch(Arc<Batch>),
}

fn make(chunk: &Chunk, positions: &[usize], variant: Variant) -> Made {
    let slots = positions.iter().map(|position| &chunk.slots[*position]);
    let wanted = slots.filter(|slot| variant.wants(&slot.event));
    let Some(events) = wanted.map(|slot| slot.event(variant.prev_kv())).collect::<Option<Vec<_>>>() else {
        return Made::Incomplete;
    };
    Batch::new(chunk.last, events).map_or(Made::Nothing, Made::Batch)
}
