//! The ends of ranges, in the order the interval index keeps them.

use bytes::Bytes;

use crate::mvcc::KeyRange;

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

/// Where the index keeps a range.
pub(super) enum Place<'a> {
    /// Among the single keys.
    Key(&'a Bytes),
    /// Among the intervals: from a key (inclusive) to an end.
    Span(&'a Bytes, End),
}

impl<'a> Place<'a> {
    /// The place of a range.
    pub(super) fn of(range: &'a KeyRange) -> Self {
        match range {
            KeyRange::One(key) => Place::Key(key),
            KeyRange::From(start) => Place::Span(start, End::Infinite),
            KeyRange::Between(start, end) => Place::Span(start, End::At(end.clone())),
        }
    }
}
