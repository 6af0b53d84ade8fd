use std::sync::Arc;

use super::error::Error;
use super::format::{LogEntry, LogId};
use super::segment::{Location, Segment};
use super::shared::Shared;

/// What a read will return, fixed at the moment it was asked for: later
/// changes of the log do not show in it.
pub struct ReadPlan {
    pub(super) shared: Arc<Shared>,
    pub(super) items: Vec<Item>,
}

pub(super) enum Item {
    Cached(LogEntry),
    OnDisk(LogId, Location, Arc<Segment>),
}

impl ReadPlan {
    /// Whether [`ReadPlan::run`] reads the disk, and so may block.
    pub fn needs_disk(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::OnDisk(..)))
    }

    /// Entries the read covers.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether the read covers no entry.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The entries, in order. Entries purged since the plan was made are left
    /// out at the front.
    ///
    /// # Errors
    ///
    /// [`Error::Corruption`] when an entry's bytes on disk are not what was
    /// written; [`Error::Io`] when the disk does not answer.
    pub fn run(self) -> Result<Vec<LogEntry>, Error> {
        let mut entries = Vec::with_capacity(self.items.len());
        for item in self.items {
            match item {
                Item::Cached(entry) => entries.push(entry),
                Item::OnDisk(id, location, segment) => {
                    match read(id, location, &segment) {
                        Ok(entry) => entries.push(entry),
                        // Its file may have been recycled under the read.
                        Err(_) if is_purged(&self.shared, id) => entries.clear(),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(entries)
    }
}

fn is_purged(shared: &Shared, id: LogId) -> bool {
    shared.lock().view.purged().is_some_and(|purged| purged.index >= id.index)
}

pub(super) fn read(id: LogId, location: Location, segment: &Segment) -> Result<LogEntry, Error> {
    let entry = segment.read_entry(location)?;
    if entry.id != id {
        let reason = format!("holds entry {:?} instead of {id:?}", entry.id);
        return Err(Error::corruption(&segment.path, u64::from(location.offset), reason));
    }
    Ok(entry)
}
