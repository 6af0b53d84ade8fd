//! Builds a tree out of sorted input.

use std::sync::Arc;

use super::node::{Child, MAX, MIN, Node};
use super::tree::Tree;

/// How full the builder packs nodes: a little room, so that the first insertion
/// into a leaf does not split it.
const FILL: usize = MAX - MAX / 8;

/// A key that is not above the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key {at} is not above the one before it")]
pub struct OutOfOrder {
    /// Position of the key in the input, from 0.
    pub at: usize,
}

/// Builds a [`Tree`] from entries in strictly ascending order, in O(n).
pub struct Builder<K, V> {
    entries: Vec<(K, V)>,
    leaves: Vec<Child<K, V>>,
    len: usize,
}

impl<K: Ord + Clone, V: Clone> Default for Builder<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, V: Clone> Builder<K, V> {
    /// An empty builder.
    pub fn new() -> Self {
        Self { entries: Vec::with_capacity(FILL), leaves: Vec::new(), len: 0 }
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`OutOfOrder`]; the entry was not added.
    pub fn push(&mut self, key: K, value: V) -> Result<(), OutOfOrder> {
        if self.entries.last().is_some_and(|(last, _)| *last >= key) {
            return Err(OutOfOrder { at: self.len });
        }
        // The last entry stays here until the next, for the comparison above.
        if self.entries.len() == FILL {
            let tail = self.entries.pop();
            let full = std::mem::replace(&mut self.entries, Vec::with_capacity(FILL));
            self.leaves.push(leaf(full));
            self.entries.extend(tail);
        }
        self.entries.push((key, value));
        self.len += 1;
        Ok(())
    }

    /// The tree.
    pub fn finish(mut self) -> Tree<K, V> {
        if let Some(Node::Leaf(before)) = self.leaves.last_mut().and_then(|c| Arc::get_mut(&mut c.node))
            && self.entries.len() < MIN
        {
            let moved = MIN.min(before.len());
            let mut entries = before.split_off(before.len() - moved);
            before.shrink_to_fit();
            entries.append(&mut self.entries);
            self.entries = entries;
            if let Some(child) = self.leaves.last_mut() {
                child.len = child.node.len();
            }
        }
        self.entries.shrink_to_fit();
        if self.leaves.is_empty() {
            return Tree { root: Arc::new(Node::Leaf(self.entries)), len: self.len };
        }
        self.leaves.push(leaf(self.entries));
        let mut level = self.leaves;
        while level.len() > 1 {
            level = above(level);
        }
        match level.pop() {
            Some(root) => Tree { root: root.node, len: self.len },
            None => Tree::new(),
        }
    }
}

/// A leaf of at least one entry.
fn leaf<K: Clone, V>(entries: Vec<(K, V)>) -> Child<K, V> {
    Child::new(entries[0].0.clone(), Node::Leaf(entries))
}

/// The level of inner nodes above a level, of nearly equal widths.
fn above<K: Clone, V>(level: Vec<Child<K, V>>) -> Vec<Child<K, V>> {
    let (total, nodes) = (level.len(), level.len().div_ceil(FILL));
    let mut rest = level.into_iter();
    (0..nodes)
        .map(|i| {
            let width = total * (i + 1) / nodes - total * i / nodes;
            let mut children = Vec::with_capacity(width);
            children.extend(rest.by_ref().take(width));
            Child::new(children[0].low.clone(), Node::Inner(children))
        })
        .collect()
}
