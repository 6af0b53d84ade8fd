//! An index of intervals of keys that finds all those that hold a key.

use bytes::Bytes;

use super::range::End;

type Link = Option<Box<Node>>;

/// Intervals, each with a number. A treap ordered by start and end, in which
/// every node knows the furthest end below it: a search visits
/// O(log n + hits) nodes, whatever the overlaps.
#[derive(Default)]
pub(super) struct IntervalMap {
    root: Link,
    seed: u64,
}

struct Node {
    start: Bytes,
    end: End,
    id: u64,
    priority: u64,
    /// The furthest end in this subtree.
    furthest: End,
    left: Link,
    right: Link,
}

impl IntervalMap {
    /// The number of an interval.
    pub(super) fn get(&self, start: &Bytes, end: &End) -> Option<u64> {
        let mut link = &self.root;
        while let Some(node) = link {
            link = match (start, end).cmp(&(&node.start, &node.end)) {
                std::cmp::Ordering::Less => &node.left,
                std::cmp::Ordering::Equal => return Some(node.id),
                std::cmp::Ordering::Greater => &node.right,
            };
        }
        None
    }

    /// Adds an interval that is not there.
    pub(super) fn insert(&mut self, start: Bytes, end: End, id: u64) {
        let priority = self.next_priority();
        let node = Node { furthest: end.clone(), start, end, id, priority, left: None, right: None };
        self.root = Some(insert(self.root.take(), Box::new(node)));
    }

    /// Removes an interval, if it is there.
    pub(super) fn remove(&mut self, start: &Bytes, end: &End) {
        self.root = remove(self.root.take(), start, end);
    }

    /// Calls `found` with the number of every interval that holds `key`.
    pub(super) fn stab(&self, key: &[u8], found: &mut impl FnMut(u64)) {
        stab(&self.root, key, found);
    }

    /// Well mixed numbers (splitmix64) balance the treap; they need not be
    /// unpredictable, as they do not depend on the keys.
    fn next_priority(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Node {
    fn is_before(&self, start: &Bytes, end: &End) -> bool {
        (&self.start, &self.end) < (start, end)
    }

    fn update(&mut self) {
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.furthest);
        self.furthest = below.fold(&self.end, |a, b| a.max(b)).clone();
    }
}

fn insert(link: Link, mut new: Box<Node>) -> Box<Node> {
    let Some(mut node) = link else { return new };
    if new.priority > node.priority {
        let (left, right) = split(Some(node), &new.start, &new.end);
        new.left = left;
        new.right = right;
        new.update();
        return new;
    }
    if node.is_before(&new.start, &new.end) {
        node.right = Some(insert(node.right.take(), new));
    } else {
        node.left = Some(insert(node.left.take(), new));
    }
    node.update();
    node
}

/// Splits into what is before the interval and what is not.
fn split(link: Link, start: &Bytes, end: &End) -> (Link, Link) {
    let Some(mut node) = link else { return (None, None) };
    if node.is_before(start, end) {
        let (left, right) = split(node.right.take(), start, end);
        node.right = left;
        node.update();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), start, end);
        node.left = right;
        node.update();
        (left, Some(node))
    }
}

fn remove(link: Link, start: &Bytes, end: &End) -> Link {
    let mut node = link?;
    if (&node.start, &node.end) == (start, end) {
        return merge(node.left.take(), node.right.take());
    }
    if node.is_before(start, end) {
        node.right = remove(node.right.take(), start, end);
    } else {
        node.left = remove(node.left.take(), start, end);
    }
    node.update();
    Some(node)
}

fn merge(left: Link, right: Link) -> Link {
    let (mut left, mut right) = match (left, right) {
        (Some(left), Some(right)) => (left, right),
        (left, right) => return left.or(right),
    };
    if left.priority > right.priority {
        left.right = merge(left.right.take(), Some(right));
        left.update();
        Some(left)
    } else {
        right.left = merge(Some(left), right.left.take());
        right.update();
        Some(right)
    }
}

fn stab(link: &Link, key: &[u8], found: &mut impl FnMut(u64)) {
    let Some(node) = link else { return };
    if !node.furthest.is_after(key) {
        return;
    }
    stab(&node.left, key, found);
    if node.start.as_ref() <= key {
        if node.end.is_after(key) {
            found(node.id);
        }
        stab(&node.right, key, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn depth(link: &Link) -> usize {
        link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    #[test]
    fn sorted_prefixes_stay_balanced() {
        let mut map = IntervalMap::default();
        for i in 0..10_000u64 {
            let start = Bytes::from(format!("/registry/{i:05}/"));
            let end = End::At(Bytes::from(format!("/registry/{i:05}0")));
            map.insert(start, end, i);
        }
        assert!(depth(&map.root) < 64);
        let mut hits = Vec::new();
        map.stab(b"/registry/04711/pod", &mut |id| hits.push(id));
        assert_eq!(hits, [4711]);
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(ops in prop::collection::vec((any::<bool>(), 0u8..20, 0u8..20), 1..200)) {
            let mut map = IntervalMap::default();
            let mut model: BTreeMap<(Bytes, End), u64> = BTreeMap::new();
            for (id, (add, start, end)) in ops.into_iter().enumerate() {
                let start = Bytes::from(vec![start]);
                let end = if end == 19 { End::Infinite } else { End::At(Bytes::from(vec![end])) };
                let key = (start.clone(), end.clone());
                prop_assert_eq!(map.get(&start, &end), model.get(&key).copied());
                if !add {
                    map.remove(&start, &end);
                    model.remove(&key);
                } else if let std::collections::btree_map::Entry::Vacant(entry) = model.entry(key) {
                    map.insert(start, end, id as u64);
                    entry.insert(id as u64);
                }
                for key in 0u8..20 {
                    let mut hits = Vec::new();
                    map.stab(&[key], &mut |id| hits.push(id));
                    let scan: Vec<u64> = model
                        .iter()
                        .filter(|((start, end), _)| start.as_ref() <= &[key][..] && end.is_after(&[key]))
                        .map(|(_, id)| *id)
                        .collect();
                    prop_assert_eq!(hits, scan);
                }
            }
        }
    }
}
