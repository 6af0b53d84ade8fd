//! Walks over a tree.
//!
//! Leaves cannot be linked to each other, as a copied leaf would have to copy
//! its neighbours: a walk keeps the path from the root instead.

use std::borrow::Borrow;
use std::iter::FusedIterator;

use super::node::{Child, Node, child_index, search};
use super::tree::Tree;

/// A position in a tree that moves both ways.
pub struct Cursor<'a, K, V> {
    root: &'a Node<K, V>,
    /// The inner nodes from the root down, and which child was taken.
    path: Vec<(&'a [Child<K, V>], usize)>,
    /// The leaf; empty while the cursor stands nowhere.
    leaf: &'a [(K, V)],
    at: usize,
}

impl<K, V> Clone for Cursor<'_, K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root, path: self.path.clone(), leaf: self.leaf, at: self.at }
    }
}

impl<'a, K, V> Cursor<'a, K, V> {
    /// A cursor that stands nowhere.
    pub(super) fn new(tree: &'a Tree<K, V>) -> Self {
        Self { root: &tree.root, path: Vec::with_capacity(6), leaf: &[], at: 0 }
    }

    /// The entry; none while the cursor stands nowhere.
    pub fn entry(&self) -> Option<(&'a K, &'a V)> {
        self.leaf.get(self.at).map(|(k, v)| (k, v))
    }

    /// Goes to the lowest key.
    pub fn seek_first(&mut self) {
        self.path.clear();
        self.descend(self.root, |_| 0);
        self.at = 0;
    }

    /// Goes to the highest key.
    pub fn seek_last(&mut self) {
        self.path.clear();
        self.descend(self.root, |children| children.len() - 1);
        self.at = self.leaf.len().saturating_sub(1);
    }

    /// Goes to position `i` in ascending order, from 0; nowhere past the end.
    pub fn seek_nth(&mut self, i: usize) {
        let mut rest = i;
        self.path.clear();
        self.descend(self.root, |children| {
            let inner = &children[..children.len() - 1];
            inner
                .iter()
                .position(|c| {
                    let here = rest < c.len;
                    rest -= if here { 0 } else { c.len };
                    here
                })
                .unwrap_or(inner.len())
        });
        self.at = rest;
        if rest >= self.leaf.len() {
            self.clear();
        }
    }

    /// Goes to the first key at or after `key`.
    pub fn seek<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.path.clear();
        self.descend(self.root, |children| child_index(children, key));
        self.at = search(self.leaf, key).unwrap_or_else(|i| i);
        if self.at == self.leaf.len() {
            self.next_leaf();
        }
    }

    /// Goes to the last key at or before `key`.
    pub fn seek_for_prev<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.path.clear();
        self.descend(self.root, |children| child_index(children, key));
        match search(self.leaf, key) {
            Ok(i) => self.at = i,
            Err(0) => self.prev_leaf(),
            Err(i) => self.at = i - 1,
        }
    }

    /// Goes one key further, past the last one nowhere.
    // Not an iterator: it moves both ways and hands out nothing.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) {
        if self.at + 1 < self.leaf.len() {
            self.at += 1;
        } else {
            self.next_leaf();
        }
    }

    /// Goes one key back, before the first one nowhere.
    pub fn prev(&mut self) {
        if self.at > 0 {
            self.at -= 1;
        } else {
            self.prev_leaf();
        }
    }

    /// Stands nowhere.
    fn clear(&mut self) {
        self.path.clear();
        self.leaf = &[];
        self.at = 0;
    }

    /// Goes down to a leaf, taking at every level the child `pick` names.
    fn descend(&mut self, from: &'a Node<K, V>, mut pick: impl FnMut(&'a [Child<K, V>]) -> usize) {
        let mut node = from;
        loop {
            match node {
                Node::Leaf(entries) => {
                    self.leaf = entries;
                    return;
                }
                Node::Inner(children) => {
                    let at = pick(children);
                    self.path.push((children, at));
                    node = &children[at].node;
                }
            }
        }
    }

    /// Goes to the first entry of the next leaf.
    fn next_leaf(&mut self) {
        while let Some((children, at)) = self.path.pop() {
            if let Some(child) = children.get(at + 1) {
                self.path.push((children, at + 1));
                self.descend(&child.node, |_| 0);
                self.at = 0;
                return;
            }
        }
        self.clear();
    }

    /// Goes to the last entry of the leaf before.
    fn prev_leaf(&mut self) {
        while let Some((children, at)) = self.path.pop() {
            if let Some(before) = at.checked_sub(1) {
                self.path.push((children, before));
                self.descend(&children[before].node, |children| children.len() - 1);
                self.at = self.leaf.len() - 1;
                return;
            }
        }
        self.clear();
    }
}

/// An iterator over a range of a tree, from both ends.
pub struct Range<'a, K, V> {
    tree: &'a Tree<K, V>,
    /// Position of the next entry of the front, and past that of the back.
    from: usize,
    to: usize,
    /// Placed with the first step at their end.
    front: Option<Cursor<'a, K, V>>,
    back: Option<Cursor<'a, K, V>>,
}

impl<'a, K, V> Range<'a, K, V> {
    /// The entries at positions `from..to`.
    pub(super) fn new(tree: &'a Tree<K, V>, from: usize, to: usize) -> Self {
        Self { tree, from, to, front: None, back: None }
    }
}

impl<K: Ord, V> Range<'_, K, V> {
    /// Skips the entries below `key`, in O(log n).
    pub fn seek<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let at = self.tree.rank(key).min(self.to);
        if at > self.from {
            self.from = at;
            self.front = None;
        }
    }
}

impl<'a, K, V> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.from >= self.to {
            return None;
        }
        let cursor = match &mut self.front {
            Some(cursor) => {
                cursor.next();
                cursor
            }
            none => {
                let cursor = none.insert(Cursor::new(self.tree));
                cursor.seek_nth(self.from);
                cursor
            }
        };
        self.from += 1;
        cursor.entry()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let len = self.to - self.from;
        (len, Some(len))
    }

    fn count(self) -> usize {
        self.to - self.from
    }

    /// O(log n): pages skip what they do not return.
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        if n > 0 {
            self.from = self.from.saturating_add(n).min(self.to);
            self.front = None;
        }
        self.next()
    }
}

impl<K, V> DoubleEndedIterator for Range<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.from >= self.to {
            return None;
        }
        self.to -= 1;
        let cursor = match &mut self.back {
            Some(cursor) => {
                cursor.prev();
                cursor
            }
            none => {
                let cursor = none.insert(Cursor::new(self.tree));
                cursor.seek_nth(self.to);
                cursor
            }
        };
        cursor.entry()
    }
}

impl<K, V> ExactSizeIterator for Range<'_, K, V> {}
impl<K, V> FusedIterator for Range<'_, K, V> {}
