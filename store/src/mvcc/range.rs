//! Key ranges, and the parts of a Range request that need no state: filters,
//! order, limit.

use std::cmp::Ordering;
use std::ops::Bound;

use bytes::Bytes;

use crate::mvcc::keys;
use crate::mvcc::state::Meta;
use crate::pb::etcdserverpb::RangeRequest;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};

/// The keys that `key` and `range_end` of a request name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyRange {
    /// One key: `range_end` is empty.
    One(Bytes),
    /// From a key on: `range_end` is a single zero byte.
    From(Bytes),
    /// From the first (inclusive) to the second (exclusive).
    Between(Bytes, Bytes),
}

impl KeyRange {
    /// Reads a request's pair of fields.
    pub fn new(key: &Bytes, range_end: &Bytes) -> Self {
        match &range_end[..] {
            [] => KeyRange::One(key.clone()),
            [0] => KeyRange::From(key.clone()),
            _ => KeyRange::Between(key.clone(), range_end.clone()),
        }
    }

    /// True where the range holds `key`.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == one,
            KeyRange::From(from) => key >= &from[..],
            KeyRange::Between(from, to) => key >= &from[..] && key < &to[..],
        }
    }

    /// The part of the range behind `key`, which lies in it.
    pub(crate) fn after(&self, key: &[u8]) -> Self {
        let mut next = key.to_vec();
        next.push(0);
        match self {
            // Nothing is behind a single key: an empty interval.
            KeyRange::One(_) => KeyRange::Between(next.clone().into(), next.into()),
            KeyRange::From(_) => KeyRange::From(next.into()),
            KeyRange::Between(_, to) => KeyRange::Between(next.into(), to.clone()),
        }
    }

    /// The bounds for an ordered map. Never inverted.
    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        match self {
            KeyRange::One(one) => (Bound::Included(&one[..]), Bound::Included(&one[..])),
            KeyRange::From(from) => (Bound::Included(&from[..]), Bound::Unbounded),
            KeyRange::Between(from, to) if from <= to => {
                (Bound::Included(&from[..]), Bound::Excluded(&to[..]))
            }
            KeyRange::Between(from, _) => (Bound::Included(&from[..]), Bound::Excluded(&from[..])),
        }
    }

    /// The lowest `kv` row that the range can hold.
    pub(crate) fn first_row(&self) -> Bytes {
        match self {
            KeyRange::One(from) | KeyRange::From(from) | KeyRange::Between(from, _) => {
                keys::first_version_key(from)
            }
        }
    }

    /// True where a `kv` row at or after `first_row` is of a key of the range.
    pub(crate) fn holds_row(&self, row: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => row.starts_with(&keys::first_version_key(one)),
            KeyRange::From(_) => true,
            KeyRange::Between(_, to) => row < &keys::first_version_key(to)[..],
        }
    }
}

/// How a range's answer is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) target: SortTarget,
    pub(crate) descending: bool,
}

impl Order {
    /// The order a request asks for; `None` for plain key order. A target other
    /// than the key sorts ascending where no order is given; unknown numbers
    /// count as plain (the API refuses them before).
    pub(crate) fn of(request: &RangeRequest) -> Option<Self> {
        let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
        let order = SortOrder::try_from(request.sort_order).unwrap_or_default();
        let descending = order == SortOrder::Descend;
        (descending || target != SortTarget::Key).then_some(Self { target, descending })
    }

    /// True where the order needs values.
    pub(crate) fn by_value(self) -> bool {
        self.target == SortTarget::Value
    }

    /// Puts `items` in this order; equal ones keep their key order.
    pub(crate) fn sort<T>(self, items: &mut [T], meta: impl Fn(&T) -> Meta, value: impl Fn(&T) -> Bytes) {
        if self.target == SortTarget::Key {
            // Items come in key order, and keys are distinct.
            items.reverse();
            return;
        }
        let compare = |a: &T, b: &T| -> Ordering {
            match self.target {
                SortTarget::Version => meta(a).version.cmp(&meta(b).version),
                SortTarget::Create => meta(a).create_revision.cmp(&meta(b).create_revision),
                SortTarget::Mod => meta(a).mod_revision.cmp(&meta(b).mod_revision),
                SortTarget::Value => value(a).cmp(&value(b)),
                SortTarget::Key => Ordering::Equal,
            }
        };
        items.sort_by(|a, b| if self.descending { compare(b, a) } else { compare(a, b) });
    }
}

/// True where a request filters by revision.
pub(crate) fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// True where a request's revision filters let a pair through.
pub(crate) fn passes_filters(request: &RangeRequest, meta: &Meta) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(meta.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(meta.create_revision, request.min_create_revision, request.max_create_revision)
}
