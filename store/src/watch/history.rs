//! Where a hub reads what it does not hold in memory.

use crate::error::{Error, Result};
use crate::pb::mvccpb::{Event, KeyValue};

/// Events of whole revisions, in order.
#[derive(Debug, Clone, Default)]
pub struct HistoryPage {
    /// The events, without `prev_kv`.
    pub events: Vec<Event>,
    /// Every event of the range up to this revision, from the one asked for
    /// on, is in `events`. At least the revision asked for, if that exists.
    pub through: i64,
}

/// Why history could not be read.
#[derive(Debug, Clone)]
pub enum HistoryError {
    /// The first revision asked for is below this compacted revision.
    Compacted(i64),
    /// The store failed.
    Failed(Error),
}

impl From<Error> for HistoryError {
    fn from(error: Error) -> Self {
        HistoryError::Failed(error)
    }
}

/// Where a hub reads what it does not hold in memory.
///
/// Implemented by every store that has a hub. What one call sees may be newer
/// than what an earlier one saw, never older.
pub trait History: Send + Sync + 'static {
    /// The newest visible revision: a read at it succeeds. At least the last
    /// revision published. Must not block.
    fn revision(&self) -> i64;

    /// The revision compacted at; 0 or less before the first. Must not block.
    fn compact_revision(&self) -> i64;

    /// Reads the events of a range from revision `from` on. Stops after about
    /// `max_bytes`, always at the end of a revision, and after one revision
    /// with events at the earliest. May block.
    ///
    /// # Errors
    /// [`HistoryError::Compacted`] if `from` is below the compacted revision;
    /// equal to it is readable.
    fn read(
        &self,
        key: &[u8],
        range_end: &[u8],
        from: i64,
        max_bytes: usize,
    ) -> Result<HistoryPage, HistoryError>;

    /// The pair of `key` as it was just before `mod_revision`; `None` if there
    /// was none or it has been compacted. May block.
    ///
    /// # Errors
    /// Faults of the store.
    fn prev_kv(&self, key: &[u8], mod_revision: i64) -> Result<Option<KeyValue>>;
}
