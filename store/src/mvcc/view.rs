//! Reading one state: ranges at its revision and at earlier ones.
//!
//! A [`View`] pairs the in-memory state with an engine snapshot taken at the
//! same point, plus (inside the applier only) the rows of the batch that is
//! not written yet. What a read visits:
//!
//! * at the current revision, the index alone decides which keys are returned
//!   and how many there are; only the values that are returned are fetched;
//! * at an earlier revision, the index is corrected by the keys that changed
//!   since then, found in the `ev` rows; only when more has changed than the
//!   range holds are all its versions scanned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::{Cf, Cursor, Snapshot};
use crate::error::{ApiError, Error, Result};
use crate::mvcc::keys;
use crate::mvcc::range::KeyRange;
use crate::mvcc::state::{self, Key, Meta, State};
use crate::pb::mvccpb::KeyValue;

/// `kv` rows not in the engine yet, as encoded there; an empty value is a
/// tombstone. All are newer than the snapshot.
pub(crate) type Overlay = BTreeMap<Bytes, Bytes>;

/// One state, readable at all its revisions.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) snapshot: Arc<dyn Snapshot>,
    /// Revision of the snapshot; the overlay holds what is above.
    pub(crate) snapshot_revision: i64,
    pub(crate) overlay: Overlay,
    /// Keys changed by the overlay, with the revision of each change.
    pub(crate) overlay_changes: Vec<(i64, Key)>,
}

/// Keys picked by a range, before values are fetched.
pub(crate) struct Picked {
    /// In key order.
    pub(crate) keys: Vec<(Key, Meta)>,
    /// All keys in the range, whatever the limit.
    pub(crate) count: usize,
}

/// Events looked at, per key in the range, before a scan of all versions is
/// the cheaper way to read the past.
const CHANGES_PER_KEY: usize = 4;
const MIN_CHANGES: usize = 4096;

impl View {
    /// A view of what an engine snapshot holds.
    pub(crate) fn new(state: State, snapshot: Arc<dyn Snapshot>) -> Self {
        let snapshot_revision = state.stored.revision;
        Self { state, snapshot, snapshot_revision, overlay: Overlay::new(), overlay_changes: Vec::new() }
    }

    /// The revision that a request for `revision` reads at.
    pub(crate) fn resolve_revision(&self, revision: i64) -> Result<i64> {
        let stored = &self.state.stored;
        if revision > stored.revision {
            return Err(ApiError::FutureRevision.into());
        }
        if revision <= 0 {
            return Ok(stored.revision);
        }
        if revision < stored.compact_revision {
            return Err(ApiError::Compacted.into());
        }
        Ok(revision)
    }

    /// Keys of a range that exist at `revision`, the first `limit` of them.
    pub(crate) fn pick(&self, range: &KeyRange, revision: i64, limit: usize) -> Result<Picked> {
        if revision >= self.state.stored.revision {
            return Ok(self.pick_current(range, limit));
        }
        if let KeyRange::One(key) = range {
            let found = self.meta_at(key, revision)?.map(|meta| (Key::from(&key[..]), meta));
            let count = usize::from(found.is_some());
            return Ok(Picked { keys: found.into_iter().take(limit).collect(), count });
        }
        let in_range = self.count_current(range);
        let budget = MIN_CHANGES.max(in_range.saturating_mul(CHANGES_PER_KEY));
        match self.changed_since(range, revision, budget)? {
            Some(changed) => self.pick_corrected(range, revision, limit, in_range, changed),
            None => self.pick_scanned(range, revision, limit),
        }
    }

    /// How many keys of a range exist now.
    fn count_current(&self, range: &KeyRange) -> usize {
        let (start, end) = range.bounds();
        self.state.index.count_range(start, end)
    }

    fn pick_current(&self, range: &KeyRange, limit: usize) -> Picked {
        if let KeyRange::One(key) = range {
            let found = self.state.index.get(&key[..]).map(|meta| (Key::from(&key[..]), *meta));
            let count = usize::from(found.is_some());
            return Picked { keys: found.into_iter().take(limit).collect(), count };
        }
        let (start, end) = range.bounds();
        let count = self.state.index.count_range(start, end);
        let keys =
            self.state.index.range(start, end).take(limit).map(|(key, meta)| (key.clone(), *meta)).collect();
        Picked { keys, count }
    }

    /// Keys of the range changed after `revision`; `None` if looking at the
    /// changes would cost more than `budget` steps.
    fn changed_since(&self, range: &KeyRange, revision: i64, budget: usize) -> Result<Option<BTreeSet<Key>>> {
        let mut changed: BTreeSet<Key> = self
            .overlay_changes
            .iter()
            .filter(|(at, key)| *at > revision && range.contains(key))
            .map(|(_, key)| key.clone())
            .collect();
        if revision >= self.snapshot_revision {
            return Ok(Some(changed));
        }
        let mut cursor = self.snapshot.cursor(Cf::Events, false);
        cursor.seek(&keys::event_key(revision + 1, 0))?;
        let mut steps = 0;
        while cursor.valid() {
            steps += 1;
            if steps > budget {
                return Ok(None);
            }
            let key = event_user_key(cursor.as_ref())?;
            if range.contains(key) && !changed.contains(key) {
                changed.insert(Key::from(key));
            }
            cursor.next()?;
        }
        Ok(Some(changed))
    }

    /// The index, with the keys in `changed` replaced by what they were.
    fn pick_corrected(
        &self,
        range: &KeyRange,
        revision: i64,
        limit: usize,
        in_range: usize,
        changed: BTreeSet<Key>,
    ) -> Result<Picked> {
        let mut before: BTreeMap<Key, Meta> = BTreeMap::new();
        let mut count = in_range;
        for key in &changed {
            count -= usize::from(self.state.index.get(&key[..]).is_some());
            if let Some(meta) = self.meta_at(key, revision)? {
                before.insert(key.clone(), meta);
                count += 1;
            }
        }
        let (start, end) = range.bounds();
        let mut unchanged =
            self.state.index.range(start, end).filter(|(key, _)| !changed.contains(*key)).peekable();
        let mut restored = before.into_iter().peekable();
        let mut keys = Vec::with_capacity(limit.min(count));
        while keys.len() < limit {
            let take_restored = match (unchanged.peek(), restored.peek()) {
                (Some((a, _)), Some((b, _))) => b < *a,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (None, None) => break,
            };
            if take_restored {
                keys.extend(restored.next());
            } else {
                keys.extend(unchanged.next().map(|(key, meta)| (key.clone(), *meta)));
            }
        }
        Ok(Picked { keys, count })
    }

    /// All versions of the range; for revisions far back.
    fn pick_scanned(&self, range: &KeyRange, revision: i64, limit: usize) -> Result<Picked> {
        let mut picked = Picked { keys: Vec::new(), count: 0 };
        let mut cursor = self.snapshot.cursor(Cf::Kv, false);
        cursor.seek(&range.first_row())?;
        while cursor.valid() && range.holds_row(cursor.key()) {
            if let Some((kv, sub)) = visible_version(cursor.as_mut(), revision)? {
                picked.count += 1;
                if picked.keys.len() < limit {
                    picked.keys.push((Key::from(&kv.key[..]), Meta::of(&kv, sub)));
                }
            }
        }
        Ok(picked)
    }

    /// The pair of `key` as of `revision`.
    pub(crate) fn version_at(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>> {
        Ok(self.row_at(key, revision)?.map(|(kv, _)| kv))
    }

    /// What the index would have known of `key` at `revision`.
    fn meta_at(&self, key: &[u8], revision: i64) -> Result<Option<Meta>> {
        Ok(self.row_at(key, revision)?.map(|(kv, sub)| Meta::of(&kv, sub)))
    }

    /// The pair of `key` as of `revision`, and its sub-revision.
    pub(crate) fn row_at(&self, key: &[u8], revision: i64) -> Result<Option<(KeyValue, u32)>> {
        let from = keys::version_key(key, revision, u32::MAX);
        let of_key = |row: &[u8]| row.starts_with(&from[..from.len() - keys::REVISION_LEN]);
        let decode = |row: &[u8], value: Bytes| {
            let sub = keys::split_whole(row)?.2;
            Ok(state::decode_version(row, value)?.map(|kv| (kv, sub)))
        };
        if let Some((row, value)) = self.overlay.range(from.clone()..).next()
            && of_key(row)
        {
            return decode(row, value.clone());
        }
        let mut cursor = self.snapshot.cursor(Cf::Kv, true);
        cursor.seek(&from)?;
        if !cursor.valid() || !of_key(cursor.key()) {
            return Ok(None);
        }
        decode(cursor.key(), Bytes::copy_from_slice(cursor.value()))
    }

    /// The pair that the index names.
    pub(crate) fn fetch(&self, key: &[u8], meta: &Meta) -> Result<KeyValue> {
        let row = keys::version_key(key, meta.mod_revision, meta.sub);
        let value = match self.overlay.get(&row) {
            Some(value) => Some(value.clone()),
            None => self.snapshot.get(Cf::Kv, &row)?,
        };
        match value {
            Some(value) => live_version(&row, value),
            None => Err(missing(key, meta)),
        }
    }

    /// The pairs that the index names, in key order.
    pub(crate) fn fetch_all(&self, picked: &[(Key, Meta)]) -> Result<Vec<KeyValue>> {
        // A few keys: point reads. More: one cursor, since they lie in order.
        const POINT_READS: usize = 4;
        if picked.len() <= POINT_READS {
            return picked.iter().map(|(key, meta)| self.fetch(key, meta)).collect();
        }
        let mut fetcher = Fetcher::new(self);
        picked.iter().map(|(key, meta)| fetcher.fetch(key, meta)).collect()
    }
}

/// Fetches values in ascending key order with one cursor.
pub(crate) struct Fetcher<'a> {
    view: &'a View,
    cursor: Box<dyn Cursor + 'a>,
    positioned: bool,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(view: &'a View) -> Self {
        Self { view, cursor: view.snapshot.cursor(Cf::Kv, true), positioned: false }
    }

    /// The pair that the index names; keys must ascend from call to call.
    pub(crate) fn fetch(&mut self, key: &[u8], meta: &Meta) -> Result<KeyValue> {
        let row = keys::version_key(key, meta.mod_revision, meta.sub);
        if let Some(value) = self.view.overlay.get(&row) {
            return live_version(&row, value.clone());
        }
        self.go_to(&row)?;
        if !self.cursor.valid() || self.cursor.key() != row {
            return Err(missing(key, meta));
        }
        live_version(&row, Bytes::copy_from_slice(self.cursor.value()))
    }

    /// Neighbours are a step or two away (older versions lie between them); a
    /// seek costs several steps.
    fn go_to(&mut self, row: &[u8]) -> Result<()> {
        const STEPS: usize = 4;
        if self.positioned {
            for _ in 0..STEPS {
                if !self.cursor.valid() || self.cursor.key() >= row {
                    break;
                }
                self.cursor.next()?;
            }
            if self.cursor.valid() && self.cursor.key() == row {
                return Ok(());
            }
        }
        self.positioned = true;
        self.cursor.seek(row)
    }
}

/// From the newest row of a key: its version at `revision`, if it exists
/// there. Leaves the cursor on the next key.
fn visible_version(cursor: &mut dyn Cursor, revision: i64) -> Result<Option<(KeyValue, u32)>> {
    let key = Bytes::copy_from_slice(keys::split(cursor.key())?.0);
    while cursor.valid() {
        let (of, at, sub) = keys::split_whole(cursor.key())?;
        if of != key {
            return Ok(None);
        }
        if at <= revision {
            let kv = state::decode_version(cursor.key(), Bytes::copy_from_slice(cursor.value()))?;
            state::skip_versions(cursor)?;
            return Ok(kv.map(|kv| (kv, sub)));
        }
        cursor.next()?;
    }
    Ok(None)
}

/// The user key of an `ev` row.
pub(crate) fn event_user_key(cursor: &dyn Cursor) -> Result<&[u8]> {
    cursor
        .value()
        .split_first()
        .map(|(_, key)| key)
        .ok_or_else(|| Error::Corruption(format!("row ev/{:02x?} is empty", cursor.key())))
}

fn live_version(row: &[u8], value: Bytes) -> Result<KeyValue> {
    state::decode_version(row, value)?.ok_or_else(|| {
        Error::Corruption(format!("row kv/{row:02x?} is a tombstone, the index holds it as live"))
    })
}

fn missing(key: &[u8], meta: &Meta) -> Error {
    Error::Corruption(format!(
        "key {:?} at revision {} is in the index and not in column family kv",
        String::from_utf8_lossy(key),
        meta.mod_revision
    ))
}
