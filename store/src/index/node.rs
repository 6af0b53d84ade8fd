//! Nodes of the tree: how they split, merge and share.
//!
//! # Invariants
//!
//! * All leaves are equally deep; only the root may be empty.
//! * `Child::len` is the number of entries below the child.
//! * For every child but the first of a node, `Child::low` is above every key
//!   of the child before it, and at or below every key of its own. The first
//!   child's `low` is not looked at by searches.

use std::borrow::Borrow;
use std::sync::Arc;

/// Most entries of a leaf and most children of an inner node. A change of a
/// tree that shares nodes with a clone copies one node of this width a level,
/// touching every key's reference count: wider nodes make that slower.
pub(super) const MAX: usize = 32;
/// Below this a node is filled up from its neighbour, or merged with it.
pub(super) const MIN: usize = MAX / 4;
/// Neighbours with no more than this together are merged.
const MERGE: usize = MAX * 3 / 4;
/// How many free places a node's allocation grows by. Doubling would waste a
/// quarter of the memory.
const GROW: usize = 4;

/// A node. Shared nodes are copied before they change.
#[derive(Clone)]
pub(super) enum Node<K, V> {
    /// Entries in ascending order of keys.
    Leaf(Vec<(K, V)>),
    /// Children in ascending order.
    Inner(Vec<Child<K, V>>),
}

/// A node below an inner node.
#[derive(Clone)]
pub(super) struct Child<K, V> {
    /// A bound between the child before and this one.
    pub(super) low: K,
    /// Entries below.
    pub(super) len: usize,
    /// The node.
    pub(super) node: Arc<Node<K, V>>,
}

/// The outcome of an insertion below a node.
pub(super) enum Inserted<K, V> {
    /// The key was there with this value.
    Replaced(V),
    /// The key is new; where the node was full, its right part is cut off.
    Added(Option<Child<K, V>>),
}

impl<K, V> Child<K, V> {
    /// Wraps a node.
    pub(super) fn new(low: K, node: Node<K, V>) -> Self {
        Self { low, len: node.len(), node: Arc::new(node) }
    }
}

impl<K, V> Node<K, V> {
    /// Entries below.
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.iter().map(|c| c.len).sum(),
        }
    }

    /// Entries of a leaf, children of an inner node.
    pub(super) fn width(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.len(),
        }
    }
}

impl<K: Ord, V> Node<K, V> {
    /// Finds the value of a key.
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(entries) => return search(entries, key).ok().map(|i| &entries[i].1),
                Node::Inner(children) => node = &children[child_index(children, key)].node,
            }
        }
    }

    /// Number of keys below `key`, or at most `key` where `inclusive`.
    pub(super) fn rank<Q: Ord + ?Sized>(&self, key: &Q, inclusive: bool) -> usize
    where
        K: Borrow<Q>,
    {
        let (mut node, mut rank) = (self, 0);
        loop {
            match node {
                Node::Leaf(entries) => {
                    return rank
                        + match search(entries, key) {
                            Ok(i) => i + usize::from(inclusive),
                            Err(i) => i,
                        };
                }
                Node::Inner(children) => {
                    let at = child_index(children, key);
                    rank += children[..at].iter().map(|c| c.len).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> Node<K, V> {
    /// Finds the value of a key that is there, copying what is shared.
    pub(super) fn get_mut<'a, Q: Ord + ?Sized>(node: &'a mut Arc<Self>, key: &Q) -> Option<&'a mut V>
    where
        K: Borrow<Q>,
    {
        match Arc::make_mut(node) {
            Node::Leaf(entries) => search(entries, key).ok().map(|i| &mut entries[i].1),
            Node::Inner(children) => {
                let at = child_index(children, key);
                Self::get_mut(&mut children[at].node, key)
            }
        }
    }

    /// Inserts below a node. `last` is true on the right edge of the tree.
    pub(super) fn insert(node: &mut Arc<Self>, key: K, value: V, last: bool) -> Inserted<K, V> {
        match Arc::make_mut(node) {
            Node::Leaf(entries) => match search(entries, &key) {
                Ok(i) => Inserted::Replaced(std::mem::replace(&mut entries[i].1, value)),
                Err(i) => Inserted::Added(
                    insert_at(entries, i, (key, value), last)
                        .map(|right| Child::new(right[0].0.clone(), Node::Leaf(right))),
                ),
            },
            Node::Inner(children) => {
                let at = child_index(children, &key);
                let last = last && at + 1 == children.len();
                let child = &mut children[at];
                let right = match Self::insert(&mut child.node, key, value, last) {
                    Inserted::Added(right) => right,
                    replaced => return replaced,
                };
                child.len += 1;
                let Some(right) = right else { return Inserted::Added(None) };
                child.len -= right.len;
                Inserted::Added(
                    insert_at(children, at + 1, right, last)
                        .map(|right| Child::new(right[0].low.clone(), Node::Inner(right))),
                )
            }
        }
    }

    /// Removes below a node.
    pub(super) fn remove<Q: Ord + ?Sized>(node: &mut Arc<Self>, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match Arc::make_mut(node) {
            Node::Leaf(entries) => {
                let at = search(entries, key).ok()?;
                let (_, value) = entries.remove(at);
                trim(entries);
                Some(value)
            }
            Node::Inner(children) => {
                let at = child_index(children, key);
                let value = Self::remove(&mut children[at].node, key)?;
                children[at].len -= 1;
                rebalance(children, at);
                trim(children);
                Some(value)
            }
        }
    }
}

/// Position of a key in a leaf, or where it belongs.
pub(super) fn search<K, V, Q: Ord + ?Sized>(entries: &[(K, V)], key: &Q) -> Result<usize, usize>
where
    K: Borrow<Q>,
{
    entries.binary_search_by(|(k, _)| k.borrow().cmp(key))
}

/// The child a key belongs to.
pub(super) fn child_index<K, V, Q: Ord + ?Sized>(children: &[Child<K, V>], key: &Q) -> usize
where
    K: Borrow<Q>,
{
    children[1..].partition_point(|c| c.low.borrow() <= key)
}

/// Inserts into a node; of a full one it cuts off and returns the right part.
/// On the right edge of the tree an append leaves the left part full, so that
/// ascending insertion packs densely.
fn insert_at<T>(items: &mut Vec<T>, at: usize, item: T, last: bool) -> Option<Vec<T>> {
    if items.len() < MAX {
        if items.len() == items.capacity() {
            items.reserve_exact(GROW);
        }
        items.insert(at, item);
        return None;
    }
    if last && at == MAX {
        let mut right = Vec::with_capacity(GROW);
        right.push(item);
        return Some(right);
    }
    let mid = MAX / 2;
    let mut right = Vec::with_capacity(MAX - mid + GROW);
    right.extend(items.drain(mid..));
    if at <= mid {
        items.insert(at, item);
    } else {
        right.insert(at - mid, item);
    }
    items.shrink_to(items.len() + GROW);
    Some(right)
}

/// Gives back an allocation much larger than its content.
fn trim<T>(items: &mut Vec<T>) {
    if items.capacity() > items.len() + 2 * GROW {
        items.shrink_to(items.len() + GROW);
    }
}

/// Repairs the width of child `at` after a removal below it.
fn rebalance<K: Ord + Clone, V: Clone>(children: &mut Vec<Child<K, V>>, at: usize) {
    if children[at].node.width() >= MIN {
        return;
    }
    if children.len() == 1 {
        if children[0].len == 0 {
            children.clear();
        }
        return;
    }
    let left_at = at.saturating_sub(1);
    let (head, tail) = children.split_at_mut(left_at + 1);
    let (left, right) = (&mut head[left_at], &mut tail[0]);
    match (Arc::make_mut(&mut left.node), Arc::make_mut(&mut right.node)) {
        (Node::Leaf(a), Node::Leaf(b)) => {
            even(a, b);
            if let Some((key, _)) = b.first() {
                right.low = key.clone();
            }
        }
        (Node::Inner(a), Node::Inner(b)) => {
            // The first child's own bound may be too high: no search uses it.
            if let Some(first) = b.first_mut() {
                first.low = right.low.clone();
            }
            even(a, b);
            if let Some(child) = b.first() {
                right.low = child.low.clone();
            }
        }
        _ => debug_assert!(false, "leaves are equally deep"),
    }
    left.len = left.node.len();
    right.len = right.node.len();
    if right.len == 0 {
        children.remove(left_at + 1);
    }
}

/// Merges `right` into `left` where both are small, else makes them equal.
fn even<T>(left: &mut Vec<T>, right: &mut Vec<T>) {
    let total = left.len() + right.len();
    if total <= MERGE {
        left.reserve_exact(right.len());
        left.append(right);
        return;
    }
    let half = total / 2;
    if left.len() > half {
        let moved = left.len() - half;
        right.reserve_exact(moved);
        right.splice(0..0, left.drain(half..));
    } else {
        let moved = half - left.len();
        left.reserve_exact(moved);
        left.extend(right.drain(..moved));
    }
    trim(left);
    trim(right);
}
