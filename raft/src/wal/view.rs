use std::collections::VecDeque;

use bytes::Bytes;

use super::format::{LogEntry, LogId};

/// What a cached entry takes beside its payload, about.
const CACHED_OVERHEAD_BYTES: usize = 48;

/// A stretch of entries made by one leader, up to the next stretch.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: u64,
    term: u64,
    leader: u64,
}

#[derive(Debug)]
struct Cached {
    /// The write this entry came with.
    ticket: u64,
    kind: u8,
    payload: Bytes,
}

/// The log as callers see it: with everything they have appended, durable yet
/// or not, and the newest entries' payloads.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<LogId>,
    purged: Option<LogId>,
    first_index: u64,
    next_index: Option<u64>,
    runs: VecDeque<Run>,
    /// Entries from `cache_first` to the last.
    cache: VecDeque<Cached>,
    cache_first: u64,
    cache_bytes: usize,
}

impl View {
    /// Index an appended entry must have; `None`: any.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.next_index
    }

    /// The entries, as a range of indexes.
    pub(super) fn range(&self) -> std::ops::Range<u64> {
        self.first_index..self.next_index.unwrap_or(self.first_index)
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// Id of the last entry, or else of the last one purged.
    pub(super) fn last(&self) -> Option<LogId> {
        let range = self.range();
        if range.is_empty() { self.purged } else { self.id(range.end - 1) }
    }

    /// Id of an entry that is there.
    pub(super) fn id(&self, index: u64) -> Option<LogId> {
        if !self.range().contains(&index) {
            return None;
        }
        let at = self.runs.partition_point(|run| run.first <= index);
        let run = self.runs.get(at.checked_sub(1)?)?;
        Some(LogId { term: run.term, leader: run.leader, index })
    }

    /// Ids of the last entry of each leader within `from..=to`.
    pub(super) fn leaders(&self, from: u64, to: u64) -> Vec<LogId> {
        let starts = self.runs.iter().map(|run| run.first).filter(|&first| first > from && first <= to);
        let ends = starts.map(|first| first - 1).chain(std::iter::once(to));
        ends.filter_map(|index| self.id(index)).collect()
    }

    /// Adds an entry that follows the last one.
    pub(super) fn push(&mut self, entry: &LogEntry, ticket: u64) {
        let id = entry.id;
        if self.next_index.is_none() {
            self.first_index = id.index;
        }
        if self.cache.is_empty() {
            self.cache_first = id.index;
        }
        let same = self.runs.back().is_some_and(|run| run.term == id.term && run.leader == id.leader);
        if !same {
            self.runs.push_back(Run { first: id.index, term: id.term, leader: id.leader });
        }
        self.next_index = Some(id.index + 1);
        self.cache_bytes += entry.payload.len() + CACHED_OVERHEAD_BYTES;
        self.cache.push_back(Cached { ticket, kind: entry.kind, payload: entry.payload.clone() });
    }

    /// A view that begins with the entry of that index.
    pub(super) fn starting_at(next_index: Option<u64>) -> Self {
        let first_index = next_index.unwrap_or(0);
        Self { next_index, first_index, cache_first: first_index, ..Self::default() }
    }

    /// Removes the entries from `index` on; purged ones stay purged.
    pub(super) fn truncate_from(&mut self, index: u64) {
        if self.next_index.is_none_or(|next| index >= next) {
            return;
        }
        let index = index.max(self.purged.map_or(0, |id| id.index + 1));
        // Below the first entry only while a recovery replays a log whose
        // oldest segments are purged already.
        self.first_index = self.first_index.min(index);
        self.next_index = Some(index);
        while self.runs.back().is_some_and(|run| run.first >= index) {
            self.runs.pop_back();
        }
        while self.cache_first + self.cache.len() as u64 > index {
            let Some(gone) = self.cache.pop_back() else { break };
            self.cache_bytes -= gone.payload.len() + CACHED_OVERHEAD_BYTES;
        }
        self.cache_first = self.cache_first.min(index);
    }

    /// Removes the entries up to `id`, inclusive.
    pub(super) fn purge(&mut self, id: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= id.index) {
            return;
        }
        self.purged = Some(id);
        self.first_index = self.first_index.max(id.index + 1);
        self.next_index = self.next_index.max(Some(self.first_index));
        while self.cache_first < self.first_index && self.pop_cached() {}
        self.cache_first = self.cache_first.max(self.first_index);
        while self.runs.get(1).is_some_and(|run| run.first <= self.first_index) {
            self.runs.pop_front();
        }
        if self.range().is_empty() {
            self.runs.clear();
        } else if let Some(run) = self.runs.front_mut() {
            run.first = run.first.max(self.first_index);
        }
    }

    fn pop_cached(&mut self) -> bool {
        let Some(gone) = self.cache.pop_front() else { return false };
        self.cache_bytes -= gone.payload.len() + CACHED_OVERHEAD_BYTES;
        self.cache_first += 1;
        true
    }

    /// Forgets the oldest payloads beyond `limit` bytes, as far as they are
    /// durable: those up to the write `written`.
    pub(super) fn evict(&mut self, limit: usize, written: u64) {
        while self.cache_bytes > limit && self.cache.front().is_some_and(|front| front.ticket <= written) {
            self.pop_cached();
        }
    }

    /// An entry, if its payload is in memory.
    pub(super) fn cached(&self, index: u64) -> Option<LogEntry> {
        let cached = self.cache.get(index.checked_sub(self.cache_first)? as usize)?;
        Some(LogEntry { id: self.id(index)?, kind: cached.kind, payload: cached.payload.clone() })
    }

    pub(super) fn cached_bytes(&self) -> usize {
        self.cache_bytes
    }
}
