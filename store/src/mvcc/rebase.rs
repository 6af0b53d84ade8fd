//! Making a copy of a store the beginning of another cluster's.

use bytes::Bytes;
use prost::Message;

use crate::engine::{Batch, Cf, Engine};
use crate::error::{Error, Result};
use crate::mvcc::state::{COMPACTION_ROW, MEMBER_PREFIX, STATE_ROW, State};
use crate::mvcc::{compaction::Compaction, stored_format};

/// The place of a copied store in its new log.
#[derive(Debug, Clone)]
pub struct Rebase {
    /// Term of the log entry that the copy stands for.
    pub term: u64,
    /// Index of that entry.
    pub index: u64,
    /// The log's own record of that position.
    pub position: Bytes,
    /// Raise the revision by this much and mark everything as compacted, so
    /// that nobody who saw later revisions of the old cluster mistakes the new
    /// one's for them.
    pub bump: Option<i64>,
}

/// Rewrites what a store says of its log and members; keys, leases, alarms and
/// everything else stay. Durable when it returns. Answers the revision.
///
/// # Errors
/// [`Error::Corruption`] where this is no store of ours; [`Error::Other`]
/// where the revision cannot be raised that far.
pub fn rebase(engine: &dyn Engine, rebase: &Rebase) -> Result<i64> {
    if stored_format(engine)?.is_none() {
        return Err(Error::Corruption("the snapshot holds no store".into()));
    }
    let snapshot = engine.snapshot();
    let compaction = Compaction::load(snapshot.as_ref())?;
    let mut stored = State::load(snapshot.as_ref(), &compaction.stored, None)?.stored;
    stored.applied_term = rebase.term;
    stored.applied_index = rebase.index;
    stored.position = rebase.position.clone();
    if let Some(by) = rebase.bump {
        let raised = stored.revision.checked_add(by).filter(|raised| by >= 0 && *raised < i64::MAX / 2);
        stored.revision = raised.ok_or_else(|| {
            Error::Other(format!("the revision {} cannot be raised by {by}", stored.revision))
        })?;
        stored.compact_revision = stored.revision;
    }
    let mut batch = Batch::default();
    let mut members = snapshot.cursor(Cf::Meta, false);
    members.seek(MEMBER_PREFIX)?;
    while members.valid() && members.key().starts_with(MEMBER_PREFIX) {
        batch.delete(Cf::Meta, Bytes::copy_from_slice(members.key()));
        members.next()?;
    }
    batch.put(Cf::Meta, STATE_ROW, stored.encode_to_vec());
    batch.put(Cf::Meta, COMPACTION_ROW, compaction.stored.encode_to_vec());
    engine.write(batch)?;
    engine.flush()?;
    Ok(stored.revision)
}
