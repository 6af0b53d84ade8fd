//! What every engine must do, run against each of them; and random work on
//! both at once, compared.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::mem::MemEngine;
use super::rocks::tests::Rocks;
use super::{Batch, Cf, Cursor, Engine, Op, Snapshot};
use crate::error::{Error, Result};

/// An engine under test.
pub(super) trait Subject {
    /// The engine.
    type Engine: Engine;
    /// A new, empty engine.
    fn create() -> Self;
    /// The engine in use.
    fn engine(&self) -> &Self::Engine;
    /// Opens a checkpoint.
    fn open_checkpoint(dir: &Path) -> Result<Self::Engine>;
    /// What a crash at this moment would leave.
    fn crashed(&self) -> Self;
}

struct Mem(MemEngine);

impl Subject for Mem {
    type Engine = MemEngine;

    fn create() -> Self {
        Self(MemEngine::new())
    }

    fn engine(&self) -> &MemEngine {
        &self.0
    }

    fn open_checkpoint(dir: &Path) -> Result<MemEngine> {
        MemEngine::open_checkpoint(dir)
    }

    fn crashed(&self) -> Self {
        Self(self.0.crashed())
    }
}

/// Keys and values of every column family, in order.
pub(super) type Dump = Vec<(Cf, Bytes, Bytes)>;

/// Everything in a snapshot, read forwards; backwards must give the same.
pub(super) fn dump(snapshot: &dyn Snapshot) -> Dump {
    let mut all = Vec::new();
    for cf in Cf::ALL {
        let mut cursor = snapshot.cursor(cf, false);
        assert!(!cursor.valid(), "not positioned yet");
        let mut entries = Vec::new();
        cursor.seek(&[]).expect("seek");
        while cursor.valid() {
            entries.push(at(&*cursor));
            cursor.next().expect("next");
        }
        let mut back = Vec::new();
        cursor.seek_for_prev(&[0xff; 32]).expect("seek back");
        while cursor.valid() {
            back.push(at(&*cursor));
            cursor.prev().expect("prev");
        }
        back.reverse();
        assert_eq!(entries, back);
        assert!(entries.windows(2).all(|w| w[0].0 < w[1].0));
        for (key, value) in &entries {
            assert_eq!(snapshot.get(cf, key).expect("get").as_ref(), Some(value));
        }
        all.extend(entries.into_iter().map(|(k, v)| (cf, k, v)));
    }
    all
}

fn at(cursor: &dyn Cursor) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(cursor.key()), Bytes::copy_from_slice(cursor.value()))
}

fn put(engine: &impl Engine, cf: Cf, entries: &[(&'static str, &'static str)]) {
    let mut batch = Batch::default();
    entries.iter().for_each(|(k, v)| batch.put(cf, *k, *v));
    engine.write(batch).expect("write");
}

fn keys(engine: &impl Engine, cf: Cf) -> Vec<String> {
    let all = dump(&*engine.snapshot());
    all.iter().filter(|e| e.0 == cf).map(|e| String::from_utf8_lossy(&e.1).into_owned()).collect()
}

fn a_batch_applies_in_order<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    let mut batch = Batch::default();
    batch.put(Cf::Kv, "a", "1");
    batch.put(Cf::Kv, "b", "1");
    batch.delete(Cf::Kv, "a");
    batch.put(Cf::Events, "a", "2");
    batch.delete_range(Cf::Kv, "b", "c");
    batch.put(Cf::Kv, "b", "3");
    batch.put(Cf::Kv, "b", "4");
    batch.delete(Cf::Leases, "never there");
    engine.write(batch).expect("write");
    engine.write(Batch::default()).expect("an empty batch");
    let entry = |cf, k: &'static str, v: &'static str| (cf, Bytes::from(k), Bytes::from(v));
    assert_eq!(dump(&*engine.snapshot()), [entry(Cf::Kv, "b", "4"), entry(Cf::Events, "a", "2")]);
}

fn column_families_are_apart<S: Subject>() {
    let subject = S::create();
    for cf in Cf::ALL {
        put(subject.engine(), cf, &[("k", cf.name())]);
    }
    let snapshot = subject.engine().snapshot();
    for cf in Cf::ALL {
        assert_eq!(snapshot.get(cf, b"k").expect("get"), Some(Bytes::from(cf.name())));
        assert_eq!(snapshot.get(cf, b"j").expect("get"), None);
    }
    let mut batch = Batch::default();
    batch.delete_range(Cf::Kv, "", "z");
    subject.engine().write(batch).expect("write");
    assert_eq!(dump(&*subject.engine().snapshot()).len(), Cf::ALL.len() - 1);
}

fn ranges_are_half_open_and_may_be_reversed<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    put(engine, Cf::Kv, &[("a", ""), ("b", ""), ("b0", ""), ("c", ""), ("d", "")]);
    let mut batch = Batch::default();
    batch.delete_range(Cf::Kv, "d", "a");
    batch.delete_range(Cf::Kv, "c", "c");
    batch.put(Cf::Kv, "e", "");
    engine.write(batch).expect("write");
    assert_eq!(keys(engine, Cf::Kv), ["a", "b", "b0", "c", "d", "e"]);
    let mut batch = Batch::default();
    batch.delete_range(Cf::Kv, "b", "c");
    engine.write(batch).expect("write");
    assert_eq!(keys(engine, Cf::Kv), ["a", "c", "d", "e"]);
}

fn snapshots_stay<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    let empty = engine.snapshot();
    put(engine, Cf::Kv, &[("a", "1"), ("b", "1")]);
    let before = engine.snapshot();
    let expected = dump(&*before);
    let mut batch = Batch::default();
    batch.put(Cf::Kv, "a", "2");
    batch.delete_range(Cf::Kv, "b", "c");
    batch.put(Cf::Meta, "m", "");
    engine.write(batch).expect("write");
    engine.flush().expect("flush");
    engine.reclaim().expect("reclaim");
    assert_eq!(dump(&*empty), []);
    assert_eq!(dump(&*before), expected);
    assert_eq!(before.get(Cf::Kv, b"a").expect("get"), Some(Bytes::from("1")));
    assert_eq!(engine.snapshot().get(Cf::Kv, b"a").expect("get"), Some(Bytes::from("2")));
    assert_eq!(keys(engine, Cf::Kv), ["a"]);
}

fn cursors_find_their_place<S: Subject>() {
    let subject = S::create();
    put(subject.engine(), Cf::Kv, &[("b", "1"), ("d", "2"), ("dd", "3"), ("f", "4")]);
    let snapshot = subject.engine().snapshot();
    let mut cursor = snapshot.cursor(Cf::Kv, true);
    let cases = [
        ("", Some("b"), None),
        ("a", Some("b"), None),
        ("b", Some("b"), Some("b")),
        ("c", Some("d"), Some("b")),
        ("d", Some("d"), Some("d")),
        ("dc", Some("dd"), Some("d")),
        ("e", Some("f"), Some("dd")),
        ("f", Some("f"), Some("f")),
        ("g", None, Some("f")),
    ];
    let place = |c: &dyn Cursor| c.valid().then(|| String::from_utf8_lossy(c.key()).into_owned());
    for (key, first_at_or_after, last_at_or_before) in cases {
        cursor.seek(key.as_bytes()).expect("seek");
        assert_eq!(place(&*cursor).as_deref(), first_at_or_after, "from {key}");
        cursor.seek_for_prev(key.as_bytes()).expect("seek back");
        assert_eq!(place(&*cursor).as_deref(), last_at_or_before, "back from {key}");
    }
    cursor.seek(b"d").expect("seek");
    cursor.next().expect("next");
    assert_eq!((cursor.key(), cursor.value()), (&b"dd"[..], &b"3"[..]));
    cursor.prev().expect("prev");
    cursor.prev().expect("prev");
    assert_eq!((cursor.key(), cursor.value()), (&b"b"[..], &b"1"[..]));
    cursor.prev().expect("prev");
    assert!(!cursor.valid());
    cursor.seek(b"f").expect("an invalid cursor can be placed again");
    cursor.next().expect("next");
    assert!(!cursor.valid());
}

fn a_checkpoint_holds_everything_before_it<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    let dir = tempfile::tempdir().expect("a directory");
    for i in 0..200u32 {
        let mut batch = Batch::default();
        for cf in Cf::ALL {
            batch.put(cf, i.to_be_bytes().to_vec(), vec![i as u8; 100]);
        }
        engine.write(batch).expect("write");
        if i == 77 {
            engine.flush().expect("flush");
        }
    }
    let mut batch = Batch::default();
    batch.delete_range(Cf::Events, vec![0, 0, 0, 0], vec![0, 0, 0, 99]);
    engine.write(batch).expect("write");
    let expected = dump(&*engine.snapshot());
    let to = dir.path().join("checkpoint");
    engine.checkpoint(&to).expect("checkpoint");
    put(engine, Cf::Kv, &[("later", "")]);
    let copy = S::open_checkpoint(&to).expect("open");
    assert_eq!(dump(&*copy.snapshot()), expected);
    put(&copy, Cf::Kv, &[("mine", "")]);
    assert_eq!(engine.snapshot().get(Cf::Kv, b"mine").expect("get"), None);
    assert!(matches!(engine.checkpoint(&to), Err(Error::Storage(_))), "it exists");
}

fn a_crash_keeps_what_was_flushed<S: Subject>() {
    let subject = S::create();
    put(subject.engine(), Cf::Kv, &[("a", "1")]);
    put(subject.engine(), Cf::Meta, &[("applied", "1")]);
    subject.engine().flush().expect("flush");
    let flushed = dump(&*subject.engine().snapshot());
    put(subject.engine(), Cf::Kv, &[("a", "2")]);
    put(subject.engine(), Cf::Meta, &[("applied", "2")]);
    let after = subject.crashed();
    assert_eq!(dump(&*after.engine().snapshot()), flushed);
    subject.engine().flush().expect("flush");
    let after = subject.crashed();
    assert_eq!(dump(&*after.engine().snapshot()), dump(&*subject.engine().snapshot()));
}

fn size_follows_content<S: Subject>() {
    let subject = S::create();
    let engine = subject.engine();
    let before = engine.size().total;
    let mut batch = Batch::default();
    for i in 0..2000u32 {
        batch.put(Cf::Kv, i.to_be_bytes().to_vec(), noise(i, 1000));
    }
    engine.write(batch).expect("write");
    // Write buffers are counted roughly.
    assert!(engine.size().total > before);
    engine.flush().expect("flush");
    let full = engine.size().total;
    assert!(full >= before + 2_000_000, "{before} {full}");
    let mut batch = Batch::default();
    batch.delete_range(Cf::Kv, Bytes::new(), vec![0xff; 5]);
    engine.write(batch).expect("write");
    engine.reclaim().expect("reclaim");
    let left = engine.size().total;
    assert!(left < before + 1_000_000, "{left} of {full} left");
}

/// Bytes that do not compress.
pub(super) fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut x = u64::from(seed) * 2 + 1;
    let step = |_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    };
    (0..len).map(step).collect()
}

macro_rules! conformance {
    ($subject:ty, $module:ident: $($test:ident)*) => {
        mod $module {
            use super::*;
            $(#[test] fn $test() { super::$test::<$subject>(); })*
        }
    };
    ($($module:ident $subject:ty;)*) => {
        $(conformance! { $subject, $module:
            a_batch_applies_in_order
            column_families_are_apart
            ranges_are_half_open_and_may_be_reversed
            snapshots_stay
            cursors_find_their_place
            a_checkpoint_holds_everything_before_it
            a_crash_keeps_what_was_flushed
            size_follows_content
        })*
    };
}

conformance! {
    memory Mem;
    rocksdb Rocks;
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Op>),
    Snapshot,
    Flush,
    Reclaim,
    Checkpoint,
    Crash,
}

fn key() -> impl Strategy<Value = Bytes> {
    vec(prop_oneof![Just(0u8), Just(1), Just(b'a'), Just(0xff)], 0..4).prop_map(Bytes::from)
}

fn cf() -> impl Strategy<Value = Cf> {
    prop::sample::select(Cf::ALL.to_vec())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (cf(), key(), vec(any::<u8>(), 0..20)).prop_map(|(cf, k, v)| Op::Put(cf, k, v.into())),
        2 => (cf(), key()).prop_map(|(cf, k)| Op::Delete(cf, k)),
        1 => (cf(), key(), key()).prop_map(|(cf, a, b)| Op::DeleteRange(cf, a, b)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => vec(op(), 0..12).prop_map(Step::Write),
        4 => Just(Step::Snapshot),
        3 => Just(Step::Flush),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ]
}

/// Both engines; the memory engine is the model.
struct Pair {
    rocks: Rocks,
    mem: MemEngine,
    snapshots: Vec<(Arc<dyn Snapshot>, Arc<dyn Snapshot>)>,
    /// The model after the last flush and after every batch since.
    since_flush: Vec<Arc<dyn Snapshot>>,
}

impl Pair {
    fn new() -> Self {
        let (rocks, mem) = (Rocks::create(), MemEngine::new());
        let since_flush = vec![mem.snapshot()];
        Self { rocks, mem, snapshots: Vec::new(), since_flush }
    }

    fn run(&mut self, step: Step) {
        let rocks = self.rocks.engine();
        match step {
            Step::Write(ops) => {
                rocks.write(Batch { ops: ops.clone() }).expect("write");
                self.mem.write(Batch { ops }).expect("write");
                self.since_flush.push(self.mem.snapshot());
            }
            Step::Snapshot => self.snapshots.push((rocks.snapshot(), self.mem.snapshot())),
            Step::Flush => {
                rocks.flush().expect("flush");
                self.since_flush = vec![self.mem.snapshot()];
            }
            Step::Reclaim => {
                rocks.reclaim().expect("reclaim");
                self.since_flush = vec![self.mem.snapshot()];
            }
            Step::Checkpoint => self.checkpoint(),
            Step::Crash => {
                let left = dump(&*self.rocks.crashed().engine().snapshot());
                assert!(self.since_flush.iter().any(|s| dump(&**s) == left), "not a state that was");
            }
        }
    }

    fn checkpoint(&self) {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        self.rocks.engine().checkpoint(&a).expect("checkpoint");
        self.mem.checkpoint(&b).expect("checkpoint");
        let (a, b) = (Rocks::open_checkpoint(&a).expect("open"), Mem::open_checkpoint(&b).expect("open"));
        assert_eq!(dump(&*a.snapshot()), dump(&*self.mem.snapshot()));
        assert_eq!(dump(&*b.snapshot()), dump(&*self.mem.snapshot()));
        assert_eq!(b.size(), self.mem.size());
    }

    fn finish(self, probes: &[(Cf, Bytes)]) {
        assert_eq!(dump(&*self.rocks.engine().snapshot()), dump(&*self.mem.snapshot()));
        for (rocks, mem) in &self.snapshots {
            assert_eq!(dump(&**rocks), dump(&**mem));
            for (cf, key) in probes {
                assert_eq!(walk(&**rocks, *cf, key), walk(&**mem, *cf, key));
            }
        }
    }
}

/// What both ways of placing a cursor at a key give, and the steps from there.
fn walk(snapshot: &dyn Snapshot, cf: Cf, key: &[u8]) -> Vec<Option<(Bytes, Bytes)>> {
    let mut cursor = snapshot.cursor(cf, true);
    let mut seen = Vec::new();
    let mut look = |cursor: &dyn Cursor| seen.push(cursor.valid().then(|| at(cursor)));
    for forwards in [true, false] {
        if forwards { cursor.seek(key) } else { cursor.seek_for_prev(key) }.expect("seek");
        for turn in [true, true, false, true, false, false] {
            look(&*cursor);
            if !cursor.valid() {
                break;
            }
            if turn == forwards { cursor.next() } else { cursor.prev() }.expect("step");
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn rocksdb_equals_memory(steps in vec(step(), 1..60), probes in vec((cf(), key()), 1..10)) {
        let mut pair = Pair::new();
        steps.into_iter().for_each(|step| pair.run(step));
        pair.finish(&probes);
    }
}

#[test]
fn a_damaged_memory_checkpoint_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = MemEngine::new();
    put(&engine, Cf::Kv, &[("a", "1"), ("b", "2")]);
    put(&engine, Cf::Meta, &[("m", "")]);
    let to = dir.path().join("checkpoint");
    engine.checkpoint(&to).expect("checkpoint");
    let file = to.join("state");
    let good = std::fs::read(&file).expect("read");
    let version = 8..12;
    for i in (0..good.len()).filter(|i| !version.contains(i)) {
        let mut bad = good.clone();
        bad[i] ^= 0x10;
        std::fs::write(&file, &bad).expect("write");
        assert!(matches!(MemEngine::open_checkpoint(&to), Err(Error::Corruption(_))), "byte {i}");
        std::fs::write(&file, &good[..i]).expect("write");
        assert!(matches!(MemEngine::open_checkpoint(&to), Err(Error::Corruption(_))), "cut at {i}");
    }
    let mut newer = good.clone();
    newer[8] = 2;
    std::fs::write(&file, &newer).expect("write");
    let refused = MemEngine::open_checkpoint(&to).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(refused.contains("format 2"), "{refused}");
}
