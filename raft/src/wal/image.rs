use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::format::{LogEntry, LogId};
use super::recovery::read_back;
use super::segment::Segment;
use super::view::View;
use super::written::Written;
use crate::disk::Disk;

/// The log of a member that does not run, as its next start will find it.
///
/// Reading it changes nothing, and checks every byte that counts. Entries stay
/// on the disk until they are asked for.
pub struct LogImage {
    view: View,
    written: Written,
    segments: BTreeMap<u64, Arc<Segment>>,
}

impl LogImage {
    /// Reads the log in `dir`; an empty directory is an empty log.
    ///
    /// # Errors
    ///
    /// As [`super::Wal::open`].
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, Error> {
        let (view, written, segments) = match read_back(disk, dir, 0)? {
            Some(found) => (found.replay.view, found.replay.written, found.segments),
            None => Default::default(),
        };
        Ok(Self { view, written, segments })
    }

    /// The last vote saved.
    pub fn vote(&self) -> Option<Bytes> {
        self.view.vote.clone()
    }

    /// The last id known to be committed.
    pub fn committed(&self) -> Option<LogId> {
        self.view.committed
    }

    /// The id up to which entries were purged.
    pub fn purged(&self) -> Option<LogId> {
        self.view.purged()
    }

    /// The last entry's id; without entries, the last purged one's.
    pub fn last(&self) -> Option<LogId> {
        self.view.last()
    }

    /// Indexes of the entries there are.
    pub fn range(&self) -> Range<u64> {
        self.view.range()
    }

    /// Segment files.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of the segment files.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.header.file_bytes).sum()
    }

    /// Reads an entry; `None` where there is none of that index.
    ///
    /// # Errors
    ///
    /// [`Error::Corruption`] or [`Error::Io`], as [`super::ReadPlan::run`].
    pub fn entry(&self, index: u64) -> Result<Option<LogEntry>, Error> {
        let place = self.view.id(index).zip(self.written.location(index));
        let Some((id, location)) = place else { return Ok(None) };
        let Some(segment) = self.segments.get(&location.segment) else { return Ok(None) };
        super::reader::read(id, location, segment).map(Some)
    }
}
