//! Physical compaction, in bounded steps beside reads and writes.
//!
//! A compaction is agreed on by a command, which only records its revision:
//! from then on reads and watches below it are refused. This module removes
//! the rows that nothing can read any more. Up to and including the compacted
//! revision C it removes, walking the `ev` rows in order,
//!
//! * the version that each change replaced, and
//! * tombstones below C (one at C itself stays until the next compaction, so
//!   that a hash at C is the same before and after), and
//! * `ev` rows below C (a watch may still start at C).
//!
//! Members do this at their own pace; what reads, watches and HashKV answer
//! does not depend on how far it has got.

use bytes::Bytes;
use prost::Message;

use crate::engine::{Batch, Cf, Engine, Snapshot};
use crate::error::Result;
use crate::mvcc::evaluate::EVENT_DELETE;
use crate::mvcc::keys;
use crate::mvcc::state::{COMPACTION_ROW, decode};
use crate::mvcc::view::event_user_key;
use crate::pb::skiff::v1::StoredCompaction;

/// How far compaction has got.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compaction {
    pub(crate) stored: StoredCompaction,
}

/// The rows one step removes.
#[derive(Default)]
struct Step {
    batch: Batch,
    bytes: i64,
    through: i64,
}

impl Compaction {
    pub(crate) fn load(snapshot: &dyn Snapshot) -> Result<Self> {
        let stored = match snapshot.get(Cf::Meta, COMPACTION_ROW)? {
            Some(bytes) => decode(&bytes, "meta/compaction")?,
            None => StoredCompaction::default(),
        };
        Ok(Self { stored })
    }

    /// Removes what up to `max_changes` changes made unreadable; true while
    /// more is to do. The snapshot must show what earlier steps removed.
    pub(crate) fn step(
        &mut self,
        engine: &dyn Engine,
        snapshot: &dyn Snapshot,
        target: i64,
        max_changes: usize,
    ) -> Result<bool> {
        let mut step = self.plan(snapshot, target, max_changes)?;
        let stored = StoredCompaction {
            done_through: step.through,
            bytes_removed: self.stored.bytes_removed + step.bytes,
        };
        // Changes at the target itself stay watchable; those of an earlier
        // revision where the step ends do not.
        let watchable_from = if step.through < target { step.through + 1 } else { target };
        // From where the last step ended, not from 0: the engine's cost of ranges
        // that lie within each other grows with the square of their number.
        let from = keys::event_key(self.stored.done_through, 0);
        step.batch.delete_range(Cf::Events, from, keys::event_key(watchable_from, 0));
        step.batch.put(Cf::Meta, COMPACTION_ROW, stored.encode_to_vec());
        engine.write(step.batch)?;
        self.stored = stored;
        Ok(step.through < target)
    }

    /// Looks at the changes from where the last step ended, whole revisions.
    fn plan(&self, snapshot: &dyn Snapshot, target: i64, max_changes: usize) -> Result<Step> {
        let mut step = Step { through: target, ..Default::default() };
        let mut events = snapshot.cursor(Cf::Events, false);
        let mut versions = snapshot.cursor(Cf::Kv, false);
        // Where the last compaction ended its tombstones were kept: they are
        // looked at again.
        events.seek(&keys::event_key(self.stored.done_through, 0))?;
        let mut looked_at = 0;
        let mut last = self.stored.done_through;
        while events.valid() {
            let (revision, sub) = keys::event_place(events.key())?;
            if revision > target {
                break;
            }
            if looked_at >= max_changes && revision > last {
                step.through = last;
                break;
            }
            looked_at += 1;
            last = revision;
            let key = Bytes::copy_from_slice(event_user_key(events.as_ref())?);
            if revision < target {
                step.bytes += (keys::EVENT_KEY_LEN + 1 + key.len()) as i64;
                if events.value()[0] == EVENT_DELETE {
                    step.remove(keys::version_key(&key, revision, sub), 0);
                }
            }
            if let Some((row, len)) = replaced_version(versions.as_mut(), &key, (revision, sub), target)? {
                step.remove(row, len);
            }
            events.next()?;
        }
        Ok(step)
    }
}

impl Step {
    fn remove(&mut self, row: Bytes, value_len: usize) {
        self.bytes += (row.len() + value_len) as i64;
        self.batch.delete(Cf::Kv, row);
    }
}

/// The row that the change of `key` at `revision` replaced, if it is still
/// there, and the length of its value.
pub(super) fn replaced_version(
    versions: &mut dyn crate::engine::Cursor,
    key: &[u8],
    (revision, sub): (i64, u32),
    target: i64,
) -> Result<Option<(Bytes, usize)>> {
    let from = match sub.checked_sub(1) {
        Some(before) => keys::version_key(key, revision, before),
        None => keys::version_key(key, revision - 1, u32::MAX),
    };
    versions.seek(&from)?;
    if !versions.valid() || !versions.key().starts_with(&from[..from.len() - keys::REVISION_LEN]) {
        return Ok(None);
    }
    // A tombstone goes with its own change. A version that was replaced in the
    // target revision itself is an event that can still be watched.
    if versions.value().is_empty() || keys::split(versions.key())?.1 == target {
        return Ok(None);
    }
    Ok(Some((Bytes::copy_from_slice(versions.key()), versions.value().len())))
}
