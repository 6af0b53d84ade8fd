//! The newest events, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::Chunk;

/// The newest events, without a gap, bounded in bytes.
pub(super) struct Ring {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    max_bytes: usize,
    /// Every event after this revision, up to `last`, is in the ring.
    floor: i64,
    last: i64,
}

impl Ring {
    /// An empty ring, after `revision`.
    pub(super) fn new(max_bytes: usize, revision: i64) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, max_bytes, floor: revision, last: revision }
    }

    /// The newest revision looked at.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// Adds the events after `last`, up to the chunk's last revision.
    pub(super) fn push(&mut self, chunk: Arc<Chunk>) {
        self.last = chunk.last;
        self.bytes += chunk.bytes();
        self.chunks.push_back(chunk);
        self.shrink();
    }

    /// Counts bytes that were added to the chunk of revision `last` after it
    /// was pushed.
    pub(super) fn grow(&mut self, last: i64, bytes: usize) {
        if last > self.floor {
            self.bytes += bytes;
            self.shrink();
        }
    }

    /// Forgets everything; goes on after `revision`.
    pub(super) fn clear(&mut self, revision: i64) {
        *self = Self::new(self.max_bytes, revision);
    }

    /// True if the ring has all events from a revision on.
    pub(super) fn covers(&self, from: i64) -> bool {
        from > self.floor
    }

    /// The chunks from `from` on, at most `max` of them; `None` if the ring no
    /// longer has all events from there on.
    pub(super) fn read(&self, from: i64, max: usize) -> Option<Vec<Arc<Chunk>>> {
        if !self.covers(from) {
            return None;
        }
        let start = self.chunks.partition_point(|chunk| chunk.last < from);
        Some(self.chunks.range(start..).take(max).cloned().collect())
    }

    fn shrink(&mut self) {
        while self.bytes > self.max_bytes {
            let Some(chunk) = self.chunks.pop_front() else { return };
            self.floor = chunk.last;
            self.bytes = self.bytes.saturating_sub(chunk.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(last: i64) -> Arc<Chunk> {
        Arc::new(Chunk::new(last, Vec::new()))
    }

    #[test]
    fn knows_what_it_no_longer_has() {
        let size = chunk(1).bytes();
        let mut ring = Ring::new(2 * size, 4);
        for last in [5, 7, 8] {
            ring.push(chunk(last));
        }
        let lasts = |from| {
            ring.read(from, 10).map(|chunks| chunks.iter().map(|chunk| chunk.last).collect::<Vec<_>>())
        };
        assert_eq!(lasts(5), None);
        assert_eq!(lasts(6), Some(vec![7, 8]));
        assert_eq!(lasts(8), Some(vec![8]));
        assert_eq!(lasts(9), Some(vec![]));
        assert_eq!(ring.last(), 8);
    }
}
