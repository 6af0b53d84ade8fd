use std::collections::VecDeque;

use bytes::Bytes;

use super::format::{LogId, Record};
use super::segment::Location;

/// The log as it is on disk: what a recovery at this moment would find.
///
/// The writer and the recovery both build it with [`Written::apply`], so they
/// cannot disagree about what a record means. It trails the
/// [`View`](super::view::View) by the records still queued.
#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// Index the next entry has; `None` where the log may begin anywhere.
    pub(super) next_index: Option<u64>,
    locations: VecDeque<Location>,
}

impl Written {
    /// A log without entries whose next one has that index.
    pub(super) fn starting_at(next_index: Option<u64>) -> Self {
        Self { next_index, ..Self::default() }
    }

    /// Takes in the next record. `location` is where it lies; an error says why
    /// it cannot follow what is there.
    pub(super) fn apply(&mut self, record: &Record, location: Location) -> Result<(), String> {
        match record {
            Record::Entry(entry) => {
                let index = entry.id.index;
                if let Some(expected) = self.next_index.filter(|&next| next != index) {
                    return Err(format!("entry {index} where entry {expected} belongs"));
                }
                self.locations.push_back(location);
                self.next_index = Some(index + 1);
            }
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Committed(id) => self.committed = Some(*id),
            Record::TruncateFrom(index) => self.truncate_from(*index),
            Record::Purged(id) => self.purge(*id),
        }
        Ok(())
    }

    fn truncate_from(&mut self, index: u64) {
        let Some(next) = self.next_index.filter(|&next| index < next) else { return };
        let floor = self.purged.map_or(0, |id| id.index + 1);
        let index = index.max(floor).min(next);
        let gone = (next - index).min(self.locations.len() as u64) as usize;
        self.locations.truncate(self.locations.len() - gone);
        self.next_index = Some(index);
    }

    fn purge(&mut self, id: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= id.index) {
            return;
        }
        let first = self.first_index();
        let gone = (id.index + 1).saturating_sub(first).min(self.locations.len() as u64) as usize;
        self.locations.drain(..gone);
        self.purged = Some(id);
        self.next_index = self.next_index.max(Some(id.index + 1));
    }

    /// Index of the first entry; where there is none, of the next one.
    pub(super) fn first_index(&self) -> u64 {
        self.next_index.unwrap_or(0) - self.locations.len() as u64
    }

    /// Where the entry lies.
    pub(super) fn location(&self, index: u64) -> Option<Location> {
        let at = index.checked_sub(self.first_index())?;
        self.locations.get(at as usize).copied()
    }

    /// The segment the oldest entry lies in; `None` without entries.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.locations.front().map(|location| location.segment)
    }

    /// What a new segment begins with, so that the ones before it can go.
    pub(super) fn carry(&self) -> Vec<Record> {
        let vote = self.vote.clone().map(Record::Vote);
        let committed = self.committed.map(Record::Committed);
        let purged = self.purged.map(Record::Purged);
        [purged, vote, committed].into_iter().flatten().collect()
    }
}
