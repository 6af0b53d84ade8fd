//! Which synced watchers an event concerns.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::batch::{Chunk, Slot, Variant, key_of};
use super::cell::Cell;
use super::interval::IntervalMap;
use super::range::Place;
use crate::mvcc::KeyRange;

/// The synced watchers, grouped by range: what an event concerns is worked out
/// once for all watchers of one range.
#[derive(Default)]
pub(super) struct Index {
    keys: HashMap<Bytes, u64>,
    spans: IntervalMap,
    groups: HashMap<u64, Group>,
    last_group: u64,
}

/// The synced watchers of one range.
#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<u64, Arc<Cell>>,
    /// Members of each variant.
    variants: [usize; Variant::COUNT],
}

impl Group {
    /// The members.
    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.members.values()
    }

    /// A member wants to see the pair before this event.
    fn wants_prev(&self, slot: &Slot) -> bool {
        Variant::all().any(|v| v.prev_kv() && self.variants[v.index()] > 0 && v.wants(&slot.event))
    }
}

/// Where a chunk's events go: groups by number, with the positions of their
/// events in the chunk.
pub(super) type Hits = BTreeMap<u64, Vec<usize>>;

impl Index {
    /// Adds a watcher.
    pub(super) fn insert(&mut self, cell: Arc<Cell>) {
        let id = self.group_id(&cell.range).unwrap_or_else(|| self.add_group(&cell.range));
        let group = self.groups.entry(id).or_default();
        group.variants[cell.variant.index()] += 1;
        group.members.insert(cell.id, cell);
    }

    /// Removes a watcher, if it is there.
    pub(super) fn remove(&mut self, cell: &Cell) {
        let Some(id) = self.group_id(&cell.range) else { return };
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.members.remove(&cell.id).is_none() {
            return;
        }
        group.variants[cell.variant.index()] -= 1;
        if group.members.is_empty() {
            self.groups.remove(&id);
            match Place::of(&cell.range) {
                Place::Key(key) => drop(self.keys.remove(key)),
                Place::Span(start, end) => self.spans.remove(start, &end),
            }
        }
    }

    /// All watchers.
    pub(super) fn cells(&self) -> impl Iterator<Item = &Arc<Cell>> {
        self.groups.values().flat_map(Group::members)
    }

    /// A group found by [`Index::hits`]; `None` if it is gone since.
    pub(super) fn group(&self, id: u64) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// The groups that a chunk's events concern, and the positions of the
    /// events whose previous pair somebody wants and nobody knows yet.
    pub(super) fn hits(&self, chunk: &Chunk) -> (Hits, Vec<usize>) {
        let mut hits = Hits::new();
        let mut prevs = Vec::new();
        for (position, slot) in chunk.slots.iter().enumerate() {
            let mut wants_prev = false;
            self.groups_of(key_of(&slot.event), &mut |id| {
                hits.entry(id).or_default().push(position);
                wants_prev |= self.groups.get(&id).is_some_and(|group| group.wants_prev(slot));
            });
            if wants_prev && slot.prev.get().is_none() {
                prevs.push(position);
            }
        }
        (hits, prevs)
    }

    fn groups_of(&self, key: &[u8], found: &mut impl FnMut(u64)) {
        if let Some(id) = self.keys.get(key) {
            found(*id);
        }
        self.spans.stab(key, found);
    }

    fn group_id(&self, range: &KeyRange) -> Option<u64> {
        match Place::of(range) {
            Place::Key(key) => self.keys.get(key).copied(),
            Place::Span(start, end) => self.spans.get(start, &end),
        }
    }

    fn add_group(&mut self, range: &KeyRange) -> u64 {
        self.last_group += 1;
        let id = self.last_group;
        match Place::of(range) {
            Place::Key(key) => drop(self.keys.insert(key.clone(), id)),
            Place::Span(start, end) => self.spans.insert(start.clone(), end, id),
        }
        id
    }
}
