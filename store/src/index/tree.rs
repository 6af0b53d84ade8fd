//! The tree: an ordered map with O(1) clones and O(log n) ranks.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use super::builder::{Builder, OutOfOrder};
use super::cursor::{Cursor, Range};
use super::node::{Child, Inserted, Node};

/// A copy-on-write B+tree with the counts of an order-statistic tree.
///
/// `clone` is O(1) and gives an immutable view: a later change of either tree
/// copies only the nodes on its path. A tree nobody has cloned changes in place.
///
/// # Memory
///
/// Beside key and value, an entry costs its share of its leaf (72 bytes:
/// allocation headers, counts, vector), of the leaf's place in the parent
/// (`size_of::<K>() + 16`), and of free places (at most 8 a node). With a
/// 32-byte key and a 32-byte value that is 4 bytes after ascending insertion,
/// 9 in any order, 7 packed by [`Builder`] (which leaves room), 25 at worst
/// (descending: leaves half full). A test measures it.
pub struct Tree<K, V> {
    pub(super) root: Arc<Node<K, V>>,
    pub(super) len: usize,
}

impl<K, V> Clone for Tree<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Tree<K, V> {
    /// An empty tree.
    pub fn new() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True where there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key at position `i` in ascending order, from 0. O(log n).
    pub fn nth(&self, mut i: usize) -> Option<(&K, &V)> {
        if i >= self.len {
            return None;
        }
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(entries) => return entries.get(i).map(|(k, v)| (k, v)),
                Node::Inner(children) => {
                    let child = children.iter().find(|c| {
                        let here = i < c.len;
                        i -= if here { 0 } else { c.len };
                        here
                    })?;
                    node = &child.node;
                }
            }
        }
    }

    /// The lowest key.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.nth(0)
    }

    /// The highest key.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.nth(self.len.checked_sub(1)?)
    }
}

impl<K: Ord, V> Tree<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.root.get(key)
    }

    /// True where the key is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Number of keys below `key`, which need not be there. O(log n).
    pub fn rank<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.root.rank(key, false)
    }

    /// Number of keys between the bounds; 0 where they are reversed. O(log n).
    pub fn count_range<Q: Ord + ?Sized>(&self, start: Bound<&Q>, end: Bound<&Q>) -> usize
    where
        K: Borrow<Q>,
    {
        let (from, to) = self.ranks(start, end);
        to - from
    }

    /// Everything between the bounds, in ascending order, from both ends;
    /// nothing where they are reversed. O(log n), then O(1) a step.
    pub fn range<Q: Ord + ?Sized>(&self, start: Bound<&Q>, end: Bound<&Q>) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let (from, to) = self.ranks(start, end);
        Range::new(self, from, to)
    }

    /// Everything, in ascending order.
    pub fn iter(&self) -> Range<'_, K, V> {
        Range::new(self, 0, self.len)
    }

    /// A cursor, not positioned yet.
    pub fn cursor(&self) -> Cursor<'_, K, V> {
        Cursor::new(self)
    }

    /// The positions of the bounds, the second not below the first.
    fn ranks<Q: Ord + ?Sized>(&self, start: Bound<&Q>, end: Bound<&Q>) -> (usize, usize)
    where
        K: Borrow<Q>,
    {
        let from = match start {
            Bound::Unbounded => 0,
            Bound::Included(key) => self.root.rank(key, false),
            Bound::Excluded(key) => self.root.rank(key, true),
        };
        let to = match end {
            Bound::Unbounded => self.len,
            Bound::Included(key) => self.root.rank(key, true),
            Bound::Excluded(key) => self.root.rank(key, false),
        };
        (from, to.max(from))
    }
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// The value of a key, to change in place. Copies nothing where the key is
    /// not there.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return None;
        }
        Node::get_mut(&mut self.root, key)
    }

    /// Sets a key; returns the value it had. A key that is there is kept as it is.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let right = match Node::insert(&mut self.root, key, value, true) {
            Inserted::Replaced(old) => return Some(old),
            Inserted::Added(right) => right,
        };
        self.len += 1;
        if let Some(right) = right {
            let left = Child { low: right.low.clone(), len: self.len - right.len, node: self.root.clone() };
            self.root = Arc::new(Node::Inner(vec![left, right]));
        }
        None
    }

    /// Removes a key; returns the value it had. Copies nothing where the key is
    /// not there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return None;
        }
        let old = Node::remove(&mut self.root, key)?;
        self.len -= 1;
        while let Node::Inner(children) = &*self.root {
            match &children[..] {
                [] => self.root = Arc::new(Node::Leaf(Vec::new())),
                [only] => self.root = only.node.clone(),
                _ => break,
            }
        }
        Some(old)
    }

    /// Builds a tree from entries in strictly ascending order of keys, in O(n),
    /// with dense leaves.
    ///
    /// # Errors
    /// [`OutOfOrder`] where a key is not above the one before it.
    pub fn bulk_load(entries: impl IntoIterator<Item = (K, V)>) -> Result<Self, OutOfOrder> {
        let mut builder = Builder::new();
        for (key, value) in entries {
            builder.push(key, value)?;
        }
        Ok(builder.finish())
    }
}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Tree<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Range<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
