//! The tree against the standard library's map.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::node::{MAX, Node};
use super::*;

type Model = BTreeMap<u32, u64>;

/// Checks the invariants of `node.rs`; returns depth and number of entries.
fn check(node: &Node<u32, u64>, low: Option<u32>, high: Option<u32>) -> (usize, usize) {
    let inside = |k: u32| low.is_none_or(|l| l <= k) && high.is_none_or(|h| k < h);
    match node {
        Node::Leaf(entries) => {
            assert!(entries.len() <= MAX && entries.windows(2).all(|w| w[0].0 < w[1].0));
            assert!(entries.iter().all(|(k, _)| inside(*k)));
            assert!(entries.capacity() <= entries.len() + 8, "free places are bounded");
            (0, entries.len())
        }
        Node::Inner(children) => {
            assert!(!children.is_empty() && children.len() <= MAX);
            let mut depths = Vec::new();
            let mut total = 0;
            for (i, child) in children.iter().enumerate() {
                let low = if i == 0 { low } else { Some(child.low) };
                let high = children.get(i + 1).map(|c| c.low).or(high);
                let (depth, len) = check(&child.node, low, high);
                assert!(len > 0 && len == child.len);
                depths.push(depth);
                total += len;
            }
            assert!(depths.windows(2).all(|w| w[0] == w[1]));
            (depths[0] + 1, total)
        }
    }
}

fn assert_same(tree: &Tree<u32, u64>, model: &Model) {
    let (_, len) = check(&tree.root, None, None);
    assert_eq!(len, tree.len());
    assert_eq!(tree.len(), model.len());
    assert!(tree.iter().eq(model.iter()));
    assert!(tree.iter().rev().eq(model.iter().rev()));
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32, u64),
    /// Keys from the first on, in ascending or descending order.
    Run(u32, u32, bool),
    Remove(u32),
    RemoveRun(u32, u32),
    Change(u32, u64),
    Clone,
    DropClone(usize),
    Reload,
}

fn step(keys: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..keys, any::<u64>()).prop_map(|(k, v)| Step::Insert(k, v)),
        3 => (0..keys, 1..300u32, any::<bool>()).prop_map(|(k, n, up)| Step::Run(k, n, up)),
        6 => (0..keys).prop_map(Step::Remove),
        2 => (0..keys, 1..300u32).prop_map(|(k, n)| Step::RemoveRun(k, n)),
        2 => (0..keys, any::<u64>()).prop_map(|(k, v)| Step::Change(k, v)),
        2 => Just(Step::Clone),
        2 => any::<usize>().prop_map(Step::DropClone),
        1 => Just(Step::Reload),
    ]
}

fn run(tree: &mut Tree<u32, u64>, model: &mut Model, step: &Step) {
    match *step {
        Step::Insert(k, v) => assert_eq!(tree.insert(k, v), model.insert(k, v)),
        Step::Run(k, n, up) => {
            for i in 0..n {
                let k = k + if up { i } else { n - i };
                assert_eq!(tree.insert(k, 7), model.insert(k, 7));
            }
        }
        Step::Remove(k) => assert_eq!(tree.remove(&k), model.remove(&k)),
        Step::RemoveRun(k, n) => (k..k + n).for_each(|k| assert_eq!(tree.remove(&k), model.remove(&k))),
        Step::Change(k, v) => {
            let (ours, theirs) = (tree.get_mut(&k), model.get_mut(&k));
            assert_eq!(ours, theirs);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                (*ours, *theirs) = (v, v);
            }
        }
        Step::Reload => *tree = Tree::bulk_load(model.iter().map(|(k, v)| (*k, *v))).expect("sorted"),
        Step::Clone | Step::DropClone(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_map_and_clones_stay(steps in vec(step(2000), 1..120)) {
        let (mut tree, mut model) = (Tree::new(), Model::new());
        let mut clones: Vec<(Tree<u32, u64>, Model)> = Vec::new();
        for step in &steps {
            run(&mut tree, &mut model, step);
            match *step {
                Step::Clone => clones.push((tree.clone(), model.clone())),
                Step::DropClone(i) if !clones.is_empty() => {
                    let at = i % clones.len();
                    let (tree, model) = clones.swap_remove(at);
                    assert_same(&tree, &model);
                }
                _ => {}
            }
        }
        assert_same(&tree, &model);
        for (tree, model) in &clones {
            assert_same(tree, model);
        }
    }

    #[test]
    fn ranks_ranges_and_positions_agree(
        steps in vec(step(1000), 1..40),
        probes in vec((0..1500u32, 0..1500u32, 0..3u8, 0..3u8), 1..20),
    ) {
        let (mut tree, mut model) = (Tree::new(), Model::new());
        for step in &steps {
            run(&mut tree, &mut model, step);
        }
        let sorted: Vec<(u32, u64)> = model.iter().map(|(k, v)| (*k, *v)).collect();
        for (a, b, start, end) in probes {
            let (a, b) = (a.min(b), a.max(b));
            let bound = |kind, key| match kind {
                0 => Bound::Unbounded,
                1 => Bound::Included(key),
                _ => Bound::Excluded(key),
            };
            let (start, end) = (bound(start, &a), bound(end, &b));
            let expected: Vec<_> = if a == b {
                sorted.iter().copied().filter(|(k, _)| within(k, start, end)).collect()
            } else {
                model.range::<u32, _>((start, end)).map(|(k, v)| (*k, *v)).collect()
            };
            let copy = |(k, v): (&u32, &u64)| (*k, *v);
            prop_assert_eq!(tree.count_range(start, end), expected.len());
            prop_assert!(tree.range(start, end).map(copy).eq(expected.iter().copied()));
            prop_assert!(tree.range(start, end).rev().map(copy).eq(expected.iter().rev().copied()));
            prop_assert_eq!(tree.range(end, start).len(), tree.count_range(end, start));
            both_ends(tree.range(start, end), &expected);
            let mut skipped = tree.range(start, end);
            skipped.seek(&b);
            prop_assert!(skipped.map(copy).eq(expected.iter().copied().filter(|(k, _)| *k >= b)));
            prop_assert_eq!(tree.range(start, end).nth(5).map(copy), expected.get(5).copied());
            let rank = sorted.partition_point(|(k, _)| *k < a);
            prop_assert_eq!(tree.rank(&a), rank);
            prop_assert_eq!(tree.nth(rank).map(copy), sorted.get(rank).copied());
            prop_assert_eq!(tree.get(&a), model.get(&a));
            cursors(&tree, &sorted, a);
        }
        prop_assert_eq!(tree.first(), model.first_key_value());
        prop_assert_eq!(tree.last(), model.last_key_value());
    }

    #[test]
    fn bulk_load_keeps_the_invariants(n in 0..5000u32) {
        let model: Model = (0..n).map(|i| (i * 2, u64::from(i))).collect();
        let tree = Tree::bulk_load(model.clone()).expect("sorted");
        assert_same(&tree, &model);
    }
}

fn within(k: &u32, start: Bound<&u32>, end: Bound<&u32>) -> bool {
    (match start {
        Bound::Unbounded => true,
        Bound::Included(s) => k >= s,
        Bound::Excluded(s) => k > s,
    }) && match end {
        Bound::Unbounded => true,
        Bound::Included(e) => k <= e,
        Bound::Excluded(e) => k < e,
    }
}

fn both_ends(mut range: Range<'_, u32, u64>, expected: &[(u32, u64)]) {
    let (mut from, mut to) = (0, expected.len());
    for turn in 0.. {
        assert_eq!(range.len(), to - from);
        let (ours, theirs) = if turn % 3 == 0 {
            let theirs = (from < to).then(|| expected[to - 1]);
            to -= usize::from(theirs.is_some());
            (range.next_back(), theirs)
        } else {
            let theirs = (from < to).then(|| expected[from]);
            from += usize::from(theirs.is_some());
            (range.next(), theirs)
        };
        assert_eq!(ours.map(|(k, v)| (*k, *v)), theirs);
        if theirs.is_none() {
            return;
        }
    }
}

fn cursors(tree: &Tree<u32, u64>, sorted: &[(u32, u64)], key: u32) {
    let mut cursor = tree.cursor();
    assert!(cursor.entry().is_none());
    cursor.seek(&key);
    let at = sorted.partition_point(|(k, _)| *k < key);
    assert_eq!(cursor.entry().map(|(k, _)| *k), sorted.get(at).map(|e| e.0));
    if cursor.entry().is_some() {
        cursor.prev();
        assert_eq!(cursor.entry().map(|(k, _)| *k), at.checked_sub(1).map(|i| sorted[i].0));
    }
    cursor.seek_for_prev(&key);
    let after = sorted.partition_point(|(k, _)| *k <= key);
    assert_eq!(cursor.entry().map(|(k, _)| *k), after.checked_sub(1).map(|i| sorted[i].0));
    if cursor.entry().is_some() {
        cursor.next();
        assert_eq!(cursor.entry().map(|(k, _)| *k), sorted.get(after).map(|e| e.0));
    }
    cursor.seek_last();
    assert_eq!(cursor.entry().map(|(k, _)| *k), sorted.last().map(|e| e.0));
    cursor.seek_first();
    assert_eq!(cursor.entry().map(|(k, _)| *k), sorted.first().map(|e| e.0));
}

#[test]
fn bulk_load_refuses_disorder() {
    for keys in [vec![1, 1], vec![2, 1], (0..100).chain([99]).collect()] {
        let at = keys.len() - 1;
        let loaded = Tree::bulk_load(keys.into_iter().map(|k: u32| (k, 0u64)));
        assert_eq!(loaded.err(), Some(OutOfOrder { at }));
    }
}

/// Every node of a tree, by address.
fn nodes(node: &Arc<Node<u32, u64>>, out: &mut Vec<usize>) {
    out.push(Arc::as_ptr(node).addr());
    if let Node::Inner(children) = &**node {
        children.iter().for_each(|c| nodes(&c.node, out));
    }
}

#[test]
fn a_change_copies_one_path_and_nothing_without_a_clone() {
    let mut tree = Tree::bulk_load((0..10_000u32).map(|k| (k * 2, 0u64))).expect("sorted");
    let list = |tree: &Tree<u32, u64>| {
        let mut all = Vec::new();
        nodes(&tree.root, &mut all);
        all
    };
    let before = list(&tree);
    tree.insert(777, 1);
    *tree.get_mut(&778).expect("there") = 2;
    assert_eq!(before, list(&tree), "changed in place");
    let clone = tree.clone();
    assert_eq!(tree.remove(&1), None);
    assert_eq!(tree.get_mut(&1), None);
    assert_eq!(before, list(&tree), "a miss copies nothing");
    tree.insert(779, 1);
    let after = list(&tree);
    let copied = after.iter().filter(|n| !before.contains(n)).count();
    assert!((1..=4).contains(&copied), "copied {copied} nodes");
    assert_eq!(before, list(&clone));
}

/// Bytes allocated for a tree beside its keys' and values' own size, an entry.
fn overhead<K, V>(tree: &Tree<K, V>) -> f64 {
    // What the allocator and the counts of an `Arc` add to an allocation.
    const ALLOCATION: usize = 16;
    fn bytes<K, V>(node: &Node<K, V>) -> usize {
        let (item, own) = match node {
            Node::Leaf(e) => (e.capacity() * size_of::<(K, V)>(), 0),
            Node::Inner(c) => {
                (c.capacity() * size_of::<node::Child<K, V>>(), c.iter().map(|c| bytes(&c.node)).sum())
            }
        };
        2 * ALLOCATION + 2 * size_of::<usize>() + size_of::<Node<K, V>>() + item + own
    }
    let content = tree.len() * size_of::<(K, V)>();
    (bytes(&tree.root) - content) as f64 / tree.len() as f64
}

#[test]
fn memory_an_entry_stays_small() {
    /// The store's value: four 64-bit numbers.
    type Value = [i64; 4];
    let n = 100_000;
    let load = |keys: &mut dyn Iterator<Item = u64>| {
        let mut tree = Tree::<bytes::Bytes, Value>::new();
        for key in keys {
            tree.insert(bytes::Bytes::copy_from_slice(&key.to_be_bytes()), [0; 4]);
        }
        tree
    };
    let ascending = load(&mut (0..n));
    let descending = load(&mut (0..n).rev());
    let scattered = load(&mut (0..n).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    let packed = Tree::bulk_load(ascending.iter().map(|(k, v)| (k.clone(), *v))).expect("sorted");
    for (name, tree, most) in [
        ("ascending", &ascending, 8.0),
        ("scattered", &scattered, 20.0),
        ("packed", &packed, 8.0),
        ("descending", &descending, 40.0),
    ] {
        let overhead = overhead(tree);
        println!("{name}: {overhead:.1} B an entry");
        assert!(overhead < most, "{name}: {overhead:.1} B an entry");
    }
}
