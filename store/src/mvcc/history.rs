//! What the watch hub reads when it did not keep the events.

use bytes::Bytes;

use crate::engine::Cf;
use crate::error::{Error, Result};
use crate::mvcc::Shared;
use crate::mvcc::evaluate::EVENT_PUT;
use crate::mvcc::keys;
use crate::mvcc::range::KeyRange;
use crate::mvcc::view::{View, event_user_key};
use crate::pb::mvccpb::event::EventType;
use crate::pb::mvccpb::{Event, KeyValue};
use crate::watch::{History, HistoryError, HistoryPage};

/// Changes looked at by one read, whatever their range: keeps a watcher of a
/// quiet range from holding the catch-up thread.
const MAX_CHANGES: usize = 10_000;

impl History for Shared {
    fn revision(&self) -> i64 {
        self.view().state.stored.revision
    }

    fn compact_revision(&self) -> i64 {
        self.view().state.stored.compact_revision
    }

    fn read(
        &self,
        key: &[u8],
        range_end: &[u8],
        from: i64,
        max_bytes: usize,
    ) -> Result<HistoryPage, HistoryError> {
        let view = self.view();
        let compacted = view.state.stored.compact_revision;
        if from < compacted {
            return Err(HistoryError::Compacted(compacted));
        }
        let range = KeyRange::new(&Bytes::copy_from_slice(key), &Bytes::copy_from_slice(range_end));
        read_events(&view, &range, from, max_bytes).map_err(HistoryError::Failed)
    }

    fn prev_kv(&self, key: &[u8], mod_revision: i64) -> Result<Option<KeyValue>> {
        let view = self.view();
        let before = mod_revision - 1;
        if before < view.state.stored.compact_revision {
            return Ok(None);
        }
        view.version_at(key, before)
    }
}

fn read_events(view: &View, range: &KeyRange, from: i64, max_bytes: usize) -> Result<HistoryPage> {
    let mut page = HistoryPage { events: Vec::new(), through: view.state.stored.revision };
    let mut cursor = view.snapshot.cursor(Cf::Events, false);
    cursor.seek(&keys::event_key(from.max(0), 0))?;
    let (mut looked_at, mut bytes, mut last) = (0, 0, 0);
    while cursor.valid() {
        let (revision, sub) = keys::event_place(cursor.key())?;
        if revision > last && last > 0 && (bytes >= max_bytes || looked_at >= MAX_CHANGES) {
            page.through = last;
            break;
        }
        looked_at += 1;
        last = revision;
        let key = event_user_key(cursor.as_ref())?;
        if range.contains(key) {
            let event = event(view, key, (revision, sub), cursor.value()[0] == EVENT_PUT)?;
            bytes += prost::Message::encoded_len(&event);
            page.events.push(event);
        }
        cursor.next()?;
    }
    Ok(page)
}

fn event(view: &View, key: &[u8], (revision, sub): (i64, u32), put: bool) -> Result<Event> {
    if !put {
        let kv = KeyValue { key: Bytes::copy_from_slice(key), mod_revision: revision, ..Default::default() };
        return Ok(Event { r#type: EventType::Delete as i32, kv: Some(kv), prev_kv: None });
    }
    let row = keys::version_key(key, revision, sub);
    let value = view.snapshot.get(Cf::Kv, &row)?.filter(|value| !value.is_empty()).ok_or_else(|| {
        Error::Corruption(format!(
            "key {:?} at revision {revision} is in column family ev and not in kv",
            String::from_utf8_lossy(key)
        ))
    })?;
    let kv = crate::mvcc::state::decode_version(&row, value)?;
    Ok(Event { r#type: EventType::Put as i32, kv, prev_kv: None })
}
