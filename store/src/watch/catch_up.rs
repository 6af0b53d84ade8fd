//! Reads history on behalf of watchers that are behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::WatchItem;
use super::batch::{Batch, Chunk, event_bytes, key_of, kv_bytes, revision_of};
use super::cell::Cell;
use super::history::{History, HistoryError};
use super::hub::{Shared, wake};
use super::range::KeyRange;
use crate::error::{Error, Result};
use crate::pb::mvccpb::Event;
use crate::pb::mvccpb::event::EventType;

/// Pages remembered for other watchers that want the same.
const CACHED_PAGES: usize = 8;
/// Chunks of the ring in one page.
const RING_CHUNKS: usize = 1024;
/// Pages of one turn while they come out of memory.
const PAGES_A_TURN: usize = 4;

/// The catch-up thread's work. Only one at a time.
#[derive(Default)]
pub(super) struct CatchUp {
    /// Pages read while other watchers waited: many often start at the same
    /// place, as after an overflow.
    pages: VecDeque<(Arc<Cell>, Page)>,
    epoch: u64,
}

/// Part of what a watcher is behind.
#[derive(Clone)]
struct Page {
    from: i64,
    through: i64,
    batch: Option<Arc<Batch>>,
    in_memory: bool,
}

impl CatchUp {
    /// Gives one watcher its turn; false if there is none (after waiting for
    /// one, with `wait`: the hub is closed).
    pub(super) fn step(&mut self, shared: &Shared, wait: bool) -> bool {
        let Some((cell, others)) = shared.ready.pop(wait) else { return false };
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != self.epoch || !others {
            self.pages.clear();
            self.epoch = epoch;
        }
        if self.turn(shared, &cell, others) && cell.next_to_read().is_some() {
            shared.ready.push(cell);
        }
        true
    }

    /// One turn; true if the watcher is still behind.
    fn turn(&mut self, shared: &Shared, cell: &Arc<Cell>, others: bool) -> bool {
        for _ in 0..PAGES_A_TURN {
            if shared.try_sync(cell) {
                return false;
            }
            let Some(from) = cell.next_to_read() else { return false };
            let page = match self.page(shared, cell, from, others) {
                Ok(page) => page,
                Err(error) => {
                    shared.end(cell, end_of(error));
                    return false;
                }
            };
            wake(cell.caught_up(page.batch, page.through));
            if !page.in_memory {
                break;
            }
        }
        !shared.try_sync(cell)
    }

    fn page(
        &mut self,
        shared: &Shared,
        cell: &Arc<Cell>,
        from: i64,
        others: bool,
    ) -> Result<Page, HistoryError> {
        let fits = |(other, page): &&(Arc<Cell>, Page)| {
            page.from == from && other.range == cell.range && other.variant == cell.variant
        };
        if let Some((_, page)) = self.pages.iter().find(fits) {
            return Ok(page.clone());
        }
        let page = read_page(shared, cell, from)?;
        if others {
            self.pages.truncate(CACHED_PAGES - 1);
            self.pages.push_front((Arc::clone(cell), page.clone()));
        }
        Ok(page)
    }
}

fn end_of(error: HistoryError) -> WatchItem {
    match error {
        HistoryError::Compacted(compact_revision) => WatchItem::Compacted { compact_revision },
        HistoryError::Failed(error) => WatchItem::Closed(error),
    }
}

fn read_page(shared: &Shared, cell: &Cell, from: i64) -> Result<Page, HistoryError> {
    let max_bytes = shared.config.chunk_bytes;
    let history = shared.history()?;
    let chunks = shared.state.lock().ring.read(from, RING_CHUNKS);
    let in_memory = chunks.is_some();
    let (events, through) = match chunks {
        Some(chunks) => from_ring(&chunks, cell, from, max_bytes),
        None => {
            let page = history.read(&cell.spec.key, &cell.spec.range_end, from, max_bytes)?;
            (page.events, page.through)
        }
    };
    if through < from {
        return Err(Error::Other(format!("no history of revision {from}")).into());
    }
    let events = events.into_iter().filter(|event| cell.variant.wants(event)).collect();
    let (events, through) = if cell.variant.prev_kv() {
        with_prevs(history.as_ref(), events, through, max_bytes)?
    } else {
        (events, through)
    };
    Ok(Page { from, through, batch: Batch::new(through, events), in_memory })
}

/// Events of a watcher's range, and the revision up to which they are whole.
fn from_ring(chunks: &[Arc<Chunk>], cell: &Cell, from: i64, max_bytes: usize) -> (Vec<Event>, i64) {
    let (mut events, mut through, mut bytes) = (Vec::new(), from - 1, 0);
    for chunk in chunks {
        for slot in &chunk.slots {
            if revision_of(&slot.event) >= from && in_range(&cell.range, &slot.event) {
                let known = slot.event(cell.variant.prev_kv());
                let event = known.unwrap_or_else(|| slot.event.clone());
                bytes += event_bytes(&event);
                events.push(event);
            }
        }
        through = chunk.last;
        if bytes >= max_bytes {
            break;
        }
    }
    (events, through)
}

fn in_range(range: &KeyRange, event: &Event) -> bool {
    range.contains(key_of(event))
}

/// Fills in previous pairs; cuts off at the end of a revision once there are
/// more than `max_bytes` of them.
fn with_prevs(
    history: &dyn History,
    mut events: Vec<Event>,
    through: i64,
    max_bytes: usize,
) -> Result<(Vec<Event>, i64)> {
    let mut bytes = 0;
    for i in 0..events.len() {
        let revision = revision_of(&events[i]);
        if bytes > max_bytes && i > 0 && revision_of(&events[i - 1]) != revision {
            events.truncate(i);
            return Ok((events, revision - 1));
        }
        let event = &mut events[i];
        let created = event.r#type() == EventType::Put && event.kv.as_ref().is_some_and(|kv| kv.version == 1);
        if event.prev_kv.is_none() && !created {
            event.prev_kv = history.prev_kv(key_of(event), revision)?;
        }
        bytes += event.prev_kv.as_ref().map_or(0, kv_bytes);
    }
    Ok((events, through))
}
