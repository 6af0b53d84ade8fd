//! Events on their way to watchers, shared between those that want the same.

use std::sync::{Arc, OnceLock};

use super::{PublishedEvent, WatchSpec};
use crate::pb::mvccpb::event::EventType;
use crate::pb::mvccpb::{Event, KeyValue};

/// What an event costs beside its keys and values, in bytes, about.
const EVENT_OVERHEAD: usize = 96;

/// Bytes an event occupies, about.
pub(super) fn event_bytes(event: &Event) -> usize {
    EVENT_OVERHEAD + event.kv.as_ref().map_or(0, kv_bytes) + event.prev_kv.as_ref().map_or(0, kv_bytes)
}

pub(super) fn kv_bytes(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len()
}

/// Revision of an event.
pub(super) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Key of an event.
pub(super) fn key_of(event: &Event) -> &[u8] {
    event.kv.as_ref().map_or(&[], |kv| &kv.key)
}

/// What of an event a watcher wants to see: one of [`Variant::COUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant(u8);

impl Variant {
    /// Number of variants.
    pub(super) const COUNT: usize = 8;

    pub(super) fn of(spec: &WatchSpec) -> Self {
        Self(u8::from(spec.prev_kv) | u8::from(spec.no_put) << 1 | u8::from(spec.no_delete) << 2)
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The pair before the event is wanted.
    pub(super) fn prev_kv(self) -> bool {
        self.0 & 1 != 0
    }

    /// Events of this type are wanted.
    pub(super) fn wants(self, event: &Event) -> bool {
        let unwanted = if event.r#type() == EventType::Delete { 4 } else { 2 };
        self.0 & unwanted == 0
    }
}

/// An event, with the pair before it once somebody asked for that.
#[derive(Debug)]
pub(super) struct Slot {
    /// The event, without `prev_kv`.
    pub(super) event: Event,
    /// The pair before it. Unset as long as nobody wanted it.
    pub(super) prev: OnceLock<Option<KeyValue>>,
}

impl Slot {
    pub(super) fn new(published: PublishedEvent) -> Self {
        let mut event = published.event;
        let prev = OnceLock::new();
        let created = event.r#type() == EventType::Put && event.kv.as_ref().is_some_and(|kv| kv.version == 1);
        if let Some(known) = event.prev_kv.take() {
            let _ = prev.set(Some(known));
        } else if created {
            let _ = prev.set(None);
        }
        Self { event, prev }
    }

    pub(super) fn bytes(&self) -> usize {
        let prev = self.prev.get().and_then(Option::as_ref).map_or(0, kv_bytes);
        event_bytes(&self.event) + prev
    }

    /// The event as a watcher wants it, if the pair before is known or not
    /// asked for.
    pub(super) fn event(&self, with_prev: bool) -> Option<Event> {
        let prev_kv = if with_prev { self.prev.get()?.clone() } else { None };
        Some(Event { prev_kv, ..self.event.clone() })
    }
}

/// All events of some consecutive revisions.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Last revision.
    pub(super) last: i64,
    /// The events, in order.
    pub(super) slots: Vec<Slot>,
}

impl Chunk {
    pub(super) fn new(last: i64, slots: Vec<Slot>) -> Self {
        Self { last, slots }
    }

    /// Bytes, about. Grows when pairs before events become known.
    pub(super) fn bytes(&self) -> usize {
        EVENT_OVERHEAD + self.slots.iter().map(Slot::bytes).sum::<usize>()
    }
}

/// Events of one range in one variant: what waits in a watcher's queue.
#[derive(Debug)]
pub(super) struct Batch {
    /// Every event of the range up to this revision is in this batch or in
    /// one before it.
    pub(super) revision: i64,
    /// The events; not empty.
    pub(super) events: Vec<Event>,
    /// Bytes, about.
    pub(super) bytes: usize,
}

impl Batch {
    /// A batch, or `None` if there are no events.
    pub(super) fn new(revision: i64, events: Vec<Event>) -> Option<Arc<Self>> {
        let bytes = events.iter().map(event_bytes).sum();
        (!events.is_empty()).then(|| Arc::new(Self { revision, events, bytes }))
    }

    /// Revision of the first event.
    pub(super) fn first(&self) -> i64 {
        self.events.first().map_or(self.revision, revision_of)
    }

    /// The part of a batch from a revision on.
    pub(super) fn from_revision(batch: &Arc<Self>, from: i64) -> Option<Arc<Self>> {
        if batch.first() >= from {
            return Some(Arc::clone(batch));
        }
        let events = batch.events.iter().filter(|event| revision_of(event) >= from).cloned().collect();
        Self::new(batch.revision, events)
    }
}
