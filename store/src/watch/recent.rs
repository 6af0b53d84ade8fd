//! Catching up from the ring, for many watchers in one pass over it.
//!
//! After a lost connection thousands of watchers come back, each a little
//! behind and each with a range of its own: looked at one by one they would
//! scan the same events thousands of times.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::{Batch, Chunk, Slot, event_bytes, revision_of};
use super::catch_up::with_prevs;
use super::cell::Cell;
use super::history::HistoryError;
use super::hub::Shared;
use super::index::Index;
use crate::pb::mvccpb::Event;

/// A watcher and the revision it is to read next.
pub(super) type Behind = (Arc<Cell>, i64);

/// Watchers that want the same: one range, one variant, from one revision on.
pub(super) struct Class {
    /// The watchers; not empty.
    pub(super) cells: Vec<Arc<Cell>>,
    from: i64,
    events: Vec<Event>,
    bytes: usize,
    /// Enough events were found up to here.
    full_at: Option<i64>,
}

/// What a class is to get.
pub(super) struct Part {
    /// The events, if there are any.
    pub(super) batch: Option<Arc<Batch>>,
    /// Everything up to here is in it.
    pub(super) through: i64,
}

/// Finds what watchers are behind in chunks that begin at the lowest of their
/// revisions or before.
pub(super) fn scan(behind: Vec<Behind>, chunks: &[Arc<Chunk>], max_bytes: usize) -> Vec<Class> {
    let mut classes = classify(behind);
    // The first watcher of a class stands for all of it.
    let mut index = Index::default();
    let mut places = HashMap::new();
    for (place, class) in classes.iter().enumerate() {
        index.insert(Arc::clone(&class.cells[0]));
        places.insert(class.cells[0].id, place);
    }
    for chunk in chunks {
        let (hits, _) = index.hits(chunk);
        for (group, positions) in hits {
            let members = index.group(group).into_iter().flat_map(|group| group.members());
            for place in members.filter_map(|cell| places.get(&cell.id)) {
                let slots = positions.iter().map(|position| &chunk.slots[*position]);
                classes[*place].take(chunk.last, slots, max_bytes);
            }
        }
    }
    classes
}

fn classify(behind: Vec<Behind>) -> Vec<Class> {
    let mut places = HashMap::new();
    let mut classes: Vec<Class> = Vec::new();
    for (cell, from) in behind {
        let place = *places.entry((cell.range.clone(), cell.variant.index(), from)).or_insert(classes.len());
        match classes.get_mut(place) {
            Some(class) => class.cells.push(cell),
            None => {
                classes.push(Class { cells: vec![cell], from, events: Vec::new(), bytes: 0, full_at: None });
            }
        }
    }
    classes
}

impl Class {
    fn take<'a>(&mut self, last: i64, slots: impl Iterator<Item = &'a Slot>, max_bytes: usize) {
        if self.full_at.is_some() {
            return;
        }
        let variant = self.cells[0].variant;
        for slot in slots {
            if revision_of(&slot.event) < self.from || !variant.wants(&slot.event) {
                continue;
            }
            let event = slot.event(variant.prev_kv()).unwrap_or_else(|| slot.event.clone());
            self.bytes += event_bytes(&event);
            self.events.push(event);
        }
        if self.bytes >= max_bytes {
            self.full_at = Some(last);
        }
    }

    /// What the class gets, of chunks that end at `last`.
    ///
    /// # Errors
    /// A pair before an event is wanted and cannot be read.
    pub(super) fn part(&mut self, shared: &Shared, last: i64) -> Result<Part, HistoryError> {
        // The chunks may end before the class begins.
        let through = self.full_at.unwrap_or(last).max(self.from - 1);
        let events = std::mem::take(&mut self.events);
        let (events, through) = if self.cells[0].variant.prev_kv() {
            with_prevs(shared.history()?.as_ref(), events, through, shared.config.chunk_bytes)?
        } else {
            (events, through)
        };
        Ok(Part { batch: Batch::new(through, events), through })
    }
}
