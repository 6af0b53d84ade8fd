//! What a compaction makes unreadable, for stores that keep the versions in a
//! second place and remove them there as well.

use bytes::Bytes;

use crate::engine::Cf;
use crate::error::Result;
use crate::mvcc::compaction::replaced_version;
use crate::mvcc::evaluate::EVENT_DELETE;
use crate::mvcc::view::event_user_key;
use crate::mvcc::{Mvcc, keys};

/// A version, or a deletion, that nothing can read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its key.
    pub key: Bytes,
    /// Its revision.
    pub revision: i64,
    /// Which of the changes of its revision it is, from 0.
    pub sub: u32,
}

impl Mvcc {
    /// What the changes from one revision to another make unreadable where
    /// history is compacted at `target`, at or after both: the versions that they
    /// replaced, and those of them that are deletions. Costs what these changes
    /// cost, whatever else there is.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn unreadable(&self, from: i64, through: i64, target: i64) -> Result<Vec<Unreadable>> {
        let view = self.shared.view();
        let mut events = view.snapshot.cursor(Cf::Events, false);
        let mut versions = view.snapshot.cursor(Cf::Kv, false);
        let mut found = Vec::new();
        events.seek(&keys::event_key(from.max(0), 0))?;
        while events.valid() {
            let (revision, sub) = keys::event_place(events.key())?;
            if revision > through.min(target) {
                break;
            }
            let key = Bytes::copy_from_slice(event_user_key(events.as_ref())?);
            if let Some((row, _)) = replaced_version(versions.as_mut(), &key, (revision, sub), target)? {
                let (_, revision, sub) = keys::split_whole(&row)?;
                found.push(Unreadable { key: key.clone(), revision, sub });
            }
            if revision < target && events.value()[0] == EVENT_DELETE {
                found.push(Unreadable { key, revision, sub });
            }
            events.next()?;
        }
        Ok(found)
    }
}
