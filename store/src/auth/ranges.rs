//! A union of key ranges.

use bytes::{Bytes, BytesMut};

/// The keys of any number of granted ranges, merged: sorted, disjoint, and not
/// even adjacent, so that a range is covered if one of them covers it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Interval>);

/// From `start` to before `end`; without an end to the last key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interval {
    start: Bytes,
    end: Option<Bytes>,
}

impl Interval {
    /// Of a pair of fields as in a Range request; `None` if it holds no key.
    fn new(key: &Bytes, range_end: &Bytes) -> Option<Self> {
        let end = match &range_end[..] {
            [] => Some(successor(key)),
            [0] => None,
            _ => Some(range_end.clone()),
        };
        let holds = end.as_ref().is_none_or(|end| key < end);
        holds.then(|| Self { start: key.clone(), end })
    }

    fn ends_before(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_some_and(|end| &end[..] < key)
    }
}

impl Ranges {
    /// The union of ranges, each a key and a range end as in a Range request.
    pub fn union<'a>(ranges: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>) -> Self {
        let mut all: Vec<Interval> =
            ranges.into_iter().filter_map(|(key, range_end)| Interval::new(key, range_end)).collect();
        all.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Interval> = Vec::with_capacity(all.len());
        for next in all {
            match merged.last_mut() {
                Some(last) if !last.ends_before(&next.start) => {
                    let further = match (&last.end, &next.end) {
                        (Some(a), Some(b)) => a < b,
                        (Some(_), None) => true,
                        (None, _) => false,
                    };
                    if further {
                        last.end = next.end;
                    }
                }
                _ => merged.push(next),
            }
        }
        Self(merged)
    }

    /// True where every key of a range, given as in a Range request, lies in the
    /// union. A range that ends before it begins counts as its first key, as in
    /// etcd.
    pub fn covers(&self, key: &[u8], range_end: &[u8]) -> bool {
        let behind = self.0.partition_point(|interval| interval.start <= key);
        let Some(interval) = behind.checked_sub(1).and_then(|at| self.0.get(at)) else { return false };
        let Some(end) = &interval.end else { return true };
        if key >= &end[..] {
            return false;
        }
        match range_end {
            [] => true,
            [0] => false,
            _ => range_end <= &end[..],
        }
    }
}

/// The smallest key behind `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.extend_from_slice(&[0]);
    next.freeze()
}
