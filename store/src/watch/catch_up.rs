//! Reads on behalf of watchers that are behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::WatchItem;
use super::batch::{Batch, key_of, kv_bytes, revision_of};
use super::cell::Cell;
use super::history::{History, HistoryError};
use super::hub::{Shared, wake};
use super::recent::{self, Behind, Part};
use crate::error::{Error, Result};
use crate::pb::mvccpb::Event;
use crate::pb::mvccpb::event::EventType;

/// Pages of history remembered for other watchers that want the same.
const CACHED_PAGES: usize = 8;
/// Chunks of the ring looked at in one pass.
const RING_CHUNKS: usize = 4096;
/// Watchers served in one pass over the ring.
const MAX_CELLS: usize = 512;

/// The catch-up thread's work. Only one at a time.
#[derive(Default)]
pub(super) struct CatchUp {
    /// Pages of history read while other watchers waited: many often start at
    /// the same place.
    pages: VecDeque<(Arc<Cell>, Page)>,
    epoch: u64,
}

/// Part of what a watcher is behind in history.
#[derive(Clone)]
struct Page {
    from: i64,
    through: i64,
    batch: Option<Arc<Batch>>,
}

impl CatchUp {
    /// Gives the watchers that wait one turn each, up to a number; false if
    /// there are none (after waiting for one, with `wait`: the hub is closed).
    pub(super) fn step(&mut self, shared: &Shared, wait: bool) -> bool {
        let Some(first) = shared.ready.pop(wait) else { return false };
        let others = std::iter::from_fn(|| shared.ready.pop(false)).take(MAX_CELLS - 1);
        let cells = std::iter::once(first).chain(others).filter(|cell| !shared.try_sync(cell));
        let behind: Vec<Behind> =
            cells.filter_map(|cell| cell.next_to_read().map(|from| (cell, from))).collect();
        let (recent, old) = behind.into_iter().partition(|(_, from)| shared.state.lock().ring.covers(*from));
        self.turn_recent(shared, recent);
        self.turn_old(shared, old);
        true
    }

    /// A turn of watchers whose next events are in the ring.
    fn turn_recent(&mut self, shared: &Shared, behind: Vec<Behind>) {
        let Some(from) = behind.iter().map(|(_, from)| *from).min() else { return };
        let Some(chunks) = shared.state.lock().ring.read(from, RING_CHUNKS) else {
            // They have just been pushed out.
            return self.turn_old(shared, behind);
        };
        let last = chunks.last().map_or(from - 1, |chunk| chunk.last);
        for mut class in recent::scan(behind, &chunks, shared.config.chunk_bytes) {
            let part = class.part(shared, last);
            for cell in class.cells {
                give(shared, cell, &part);
            }
        }
    }

    /// A turn of watchers that need the history.
    fn turn_old(&mut self, shared: &Shared, behind: Vec<Behind>) {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.pages.clear();
            self.epoch = epoch;
        }
        for (cell, from) in behind {
            let page = self.page(shared, &cell, from);
            give(shared, cell, &page.map(|page| Part { batch: page.batch, through: page.through }));
        }
        if shared.ready.is_empty() {
            self.pages.clear();
        }
    }

    fn page(&mut self, shared: &Shared, cell: &Arc<Cell>, from: i64) -> Result<Page, HistoryError> {
        let fits = |(other, page): &&(Arc<Cell>, Page)| {
            page.from == from && other.range == cell.range && other.variant == cell.variant
        };
        if let Some((_, page)) = self.pages.iter().find(fits) {
            return Ok(page.clone());
        }
        let page = read_page(shared, cell, from)?;
        self.pages.truncate(CACHED_PAGES - 1);
        self.pages.push_front((Arc::clone(cell), page.clone()));
        Ok(page)
    }
}

/// Gives a watcher what was read for it; then it is synced, or waits again.
fn give(shared: &Shared, cell: Arc<Cell>, part: &Result<Part, HistoryError>) {
    let part = match part {
        Ok(part) => part,
        Err(error) => return shared.end(&cell, end_of(error.clone())),
    };
    wake(cell.caught_up(part.batch.clone(), part.through));
    if !shared.try_sync(&cell) && cell.next_to_read().is_some() {
        shared.ready.push(cell);
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
    let page = history.read(&cell.spec.key, &cell.spec.range_end, from, max_bytes)?;
    if page.through < from {
        return Err(Error::Other(format!("no history of revision {from}")).into());
    }
    let events = page.events.into_iter().filter(|event| cell.variant.wants(event)).collect();
    let (events, through) = if cell.variant.prev_kv() {
        with_prevs(history.as_ref(), events, page.through, max_bytes)?
    } else {
        (events, page.through)
    };
    Ok(Page { from, through, batch: Batch::new(through, events) })
}

/// Fills in previous pairs; cuts off at the end of a revision once there are
/// more than `max_bytes` of them.
pub(super) fn with_prevs(
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
