//! Ranges of keys, as requests write them.

use bytes::Bytes;

/// The exclusive end of a range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum End {
    /// Before this key.
    At(Bytes),
    /// After every key.
    Infinite,
}

impl End {
    /// True if the end lies after `key`.
    pub(super) fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::At(end) => key < end.as_ref(),
            End::Infinite => true,
        }
    }
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum KeyRange {
    /// One key.
    One(Bytes),
    /// From `start` (inclusive) to `end` (exclusive).
    Span {
        /// First key.
        start: Bytes,
        /// End.
        end: End,
    },
}

impl KeyRange {
    /// Reads `key` and `range_end` as a Range request means them: no end is
    /// one key, an end of one zero byte is everything from `key` on.
    pub(super) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        match range_end.as_ref() {
            [] => KeyRange::One(key.clone()),
            [0] => KeyRange::Span { start: key.clone(), end: End::Infinite },
            _ => KeyRange::Span { start: key.clone(), end: End::At(range_end.clone()) },
        }
    }

    /// True if `key` is in the range. What tests compare the index with.
    #[cfg(test)]
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::Span { start, end } => start.as_ref() <= key && end.is_after(key),
        }
    }
}
