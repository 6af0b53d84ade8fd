//! What only RocksDB can show: files, crashes, damage.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::engine::conformance::{Dump, Subject, dump, noise};

/// The engine under test, in a directory of its own.
pub(in crate::engine) struct Rocks {
    engine: RocksEngine,
    dir: TempDir,
}

pub(super) fn small() -> RocksOptions {
    RocksOptions { memtable_bytes: 1 << 20, block_cache_bytes: 1 << 20, ..RocksOptions::default() }
}

fn open(dir: &Path) -> Result<RocksEngine> {
    RocksEngine::open(dir, &RocksOptions { verify: true, ..small() })
}

impl Subject for Rocks {
    type Engine = RocksEngine;

    fn create() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = open(&dir.path().join("db")).expect("open");
        Self { engine, dir }
    }

    fn engine(&self) -> &RocksEngine {
        &self.engine
    }

    fn open_checkpoint(dir: &Path) -> Result<RocksEngine> {
        open(dir)
    }

    fn crashed(&self) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        self.engine.db.disable_file_deletions().expect("keep files");
        copy(&self.dir.path().join("db"), &dir.path().join("db"));
        self.engine.db.enable_file_deletions().expect("give files free");
        let engine = open(&dir.path().join("db")).expect("open after a crash");
        Self { engine, dir }
    }
}

/// Copies a database: what names files first, so that all of them are there.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    let mut names = files(from);
    names.sort_by_key(|name| (name != "CURRENT", !name.starts_with("MANIFEST")));
    for name in names.iter().filter(|name| *name != "LOCK") {
        // A file that was temporary may be gone.
        if let Err(e) = fs::copy(from.join(name), to.join(name)) {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("list");
    entries.map(|e| e.expect("list").file_name().to_string_lossy().into_owned()).collect()
}

fn write(engine: &RocksEngine, i: u32, value: usize) {
    let mut batch = Batch::default();
    for cf in [Cf::Kv, Cf::Events] {
        batch.put(cf, i.to_be_bytes().to_vec(), noise(i, value));
    }
    batch.put(Cf::Leases, "last", i.to_be_bytes().to_vec());
    batch.put(Cf::Meta, "last", i.to_be_bytes().to_vec());
    engine.write(batch).expect("write");
}

#[test]
fn a_crash_leaves_the_state_of_one_moment() {
    let rocks = Rocks::create();
    let mut kept = 0;
    // Several times the memtables: flushes happen by themselves, at any moment.
    for i in 1..=3000u32 {
        write(&rocks.engine, i, 1000);
        if i % 600 != 0 {
            continue;
        }
        let after = rocks.crashed();
        let snapshot = after.engine.snapshot();
        let last = |cf| {
            let value = snapshot.get(cf, b"last").expect("get");
            value.map_or(0, |v| u32::from_be_bytes(v[..].try_into().expect("four bytes")))
        };
        let at = last(Cf::Meta);
        assert_eq!(at, last(Cf::Leases));
        assert!(at >= kept && at <= i, "{kept} {at} {i}");
        kept = at;
        let entries = dump(&*snapshot);
        for cf in [Cf::Kv, Cf::Events] {
            let keys = entries.iter().filter(|e| e.0 == cf).map(|e| &e.1[..]);
            assert!(keys.eq((1..=at).map(u32::to_be_bytes)), "all up to {at}, none after");
        }
    }
    assert!(kept > 0, "nothing was flushed by itself");
}

#[test]
fn closing_keeps_everything() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = open(dir.path()).expect("open in an empty directory");
    (0..10).for_each(|i| write(&engine, i, 10));
    let expected = dump(&*engine.snapshot());
    drop(engine);
    let engine = open(dir.path()).expect("open again");
    assert_eq!(dump(&*engine.snapshot()), expected);
}

#[test]
fn a_snapshot_outlives_its_engine() {
    let rocks = Rocks::create();
    write(&rocks.engine, 1, 10);
    let snapshot = rocks.engine.snapshot();
    let Rocks { engine, dir: _dir } = rocks;
    drop(engine);
    assert_eq!(dump(&*snapshot).len(), 4);
}

#[test]
fn creation_that_was_interrupted_starts_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let half = dir.path().join("db.new");
    fs::create_dir(&half).expect("create");
    fs::write(half.join("MANIFEST-000001"), b"half").expect("write");
    drop(open(&dir.path().join("db")).expect("open"));
    assert!(!half.exists());
}

#[test]
fn two_at_once_are_refused() {
    let rocks = Rocks::create();
    let second = open(&rocks.dir.path().join("db"));
    assert!(matches!(second, Err(Error::Storage(_))), "{:?}", second.err());
}

/// A closed database with tables on more than one level; and its states after
/// each flush, the last one first.
fn sample() -> (TempDir, PathBuf, Vec<Dump>) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let engine = open(&path).expect("open");
    let mut states = vec![dump(&*engine.snapshot())];
    for round in 0..4u32 {
        (0..150).for_each(|i| write(&engine, round * 100 + i, 100));
        let mut batch = Batch::default();
        batch.delete_range(Cf::Events, 0u32.to_be_bytes().to_vec(), (round * 50).to_be_bytes().to_vec());
        batch.delete(Cf::Kv, (round * 30).to_be_bytes().to_vec());
        engine.write(batch).expect("write");
        engine.flush().expect("flush");
        states.push(dump(&*engine.snapshot()));
        if round == 1 {
            engine.reclaim().expect("reclaim");
        }
    }
    drop(engine);
    states.reverse();
    (dir, path, states)
}

/// What came of opening and reading a damaged copy.
#[derive(Debug, PartialEq)]
enum Found {
    Refused,
    Same,
    Older,
}

fn look(dir: &Path, states: &[Dump], what: &str) -> Found {
    match open(dir) {
        Err(Error::Corruption(_)) => Found::Refused,
        Err(other) => panic!("{what}: {other}"),
        Ok(engine) => {
            let found = dump(&*engine.snapshot());
            match states.iter().position(|state| *state == found) {
                Some(0) => Found::Same,
                Some(_) => Found::Older,
                None => panic!("{what}: wrong data"),
            }
        }
    }
}

/// Runs a case on a copy whose file `name` was changed.
fn damaged(path: &Path, states: &[Dump], name: &str, what: &str, change: impl FnOnce(&Path)) -> Found {
    let dir = tempfile::tempdir().expect("a directory");
    let copied = dir.path().join("db");
    copy(path, &copied);
    change(&copied.join(name));
    look(&copied, states, &format!("{name}: {what}"))
}

fn flip(file: &Path, at: usize, bit: u32) {
    let mut bytes = fs::read(file).expect("read");
    bytes[at] ^= 1 << bit;
    fs::write(file, bytes).expect("write");
}

fn tables(path: &Path) -> Vec<String> {
    files(path).into_iter().filter(|name| name.ends_with(".sst")).collect()
}

#[test]
fn flipped_bits_in_tables_are_refused() {
    let (_dir, path, states) = sample();
    let mut refused = 0;
    for name in tables(&path) {
        let len = fs::metadata(path.join(&name)).expect("stat").len() as usize;
        for at in (0..len).step_by(len / 24 + 1).chain([len - 1]) {
            let what = format!("bit of byte {at} of {len}");
            let found = damaged(&path, &states, &name, &what, |file| flip(file, at, (at % 8) as u32));
            // A filter or a hint may be damaged without a wrong answer.
            assert_ne!(found, Found::Older, "{name} {what}");
            refused += usize::from(found == Found::Refused);
        }
    }
    assert!(refused > 50, "only {refused} refused");
}

#[test]
fn cut_or_missing_tables_are_refused() {
    let (_dir, path, states) = sample();
    for name in tables(&path) {
        let len = fs::metadata(path.join(&name)).expect("stat").len();
        for to in [0, len / 2, len - 1] {
            let found = damaged(&path, &states, &name, "cut", |file| {
                let file = fs::File::options().write(true).open(file).expect("open");
                file.set_len(to).expect("cut");
            });
            assert_eq!(found, Found::Refused, "{name} cut to {to}");
        }
        let found = damaged(&path, &states, &name, "removed", |file| fs::remove_file(file).expect("remove"));
        assert_eq!(found, Found::Refused, "{name} removed");
    }
}

fn manifest(path: &Path) -> String {
    files(path).into_iter().find(|name| name.starts_with("MANIFEST")).expect("a manifest")
}

#[test]
fn a_damaged_manifest_is_refused_or_takes_back_a_flush() {
    let (_dir, path, states) = sample();
    let name = manifest(&path);
    let len = fs::metadata(path.join(&name)).expect("stat").len() as usize;
    let mut refused = 0;
    for at in (0..len).step_by(len / 150 + 1) {
        for bit in [0, 7] {
            let what = format!("bit {bit} of byte {at} of {len}");
            let found = damaged(&path, &states, &name, &what, |file| flip(file, at, bit));
            assert_ne!(found, Found::Same, "{what}");
            refused += usize::from(found == Found::Refused);
        }
    }
    assert!(refused > 100, "only {refused} refused");
    for to in (0..len).step_by(len / 60 + 1) {
        let what = format!("cut to {to} of {len}");
        damaged(&path, &states, &name, &what, |file| {
            let file = fs::File::options().write(true).open(file).expect("open");
            file.set_len(to as u64).expect("cut");
        });
    }
    let found = damaged(&path, &states, &name, "removed", |file| fs::remove_file(file).expect("remove"));
    assert_eq!(found, Found::Refused);
}

#[test]
fn a_damaged_current_file_is_refused() {
    let (_dir, path, states) = sample();
    let len = fs::metadata(path.join("CURRENT")).expect("stat").len() as usize;
    for at in 0..len {
        for bit in 0..8 {
            let what = format!("bit {bit} of byte {at}");
            let found = damaged(&path, &states, "CURRENT", &what, |file| flip(file, at, bit));
            assert_eq!(found, Found::Refused, "{what}");
        }
        let found = damaged(&path, &states, "CURRENT", &format!("cut to {at}"), |file| {
            let file = fs::File::options().write(true).open(file).expect("open");
            file.set_len(at as u64).expect("cut");
        });
        assert_eq!(found, Found::Refused, "cut to {at}");
    }
    let found = damaged(&path, &states, "CURRENT", "removed", |file| fs::remove_file(file).expect("remove"));
    assert_eq!(found, Found::Refused);
}

#[test]
fn damage_names_the_file() {
    let (_dir, path, _) = sample();
    let name = tables(&path).remove(0);
    flip(&path.join(&name), 20, 3);
    match open(&path).err() {
        Some(Error::Corruption(text)) => assert!(text.contains(&name), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn damage_that_appears_while_open_is_an_error_of_the_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let options = RocksOptions { block_cache_bytes: 0, ..small() };
    let engine = RocksEngine::open(&path, &options).expect("open");
    (0..2000).for_each(|i| write(&engine, i, 100));
    engine.flush().expect("flush");
    for name in tables(&path) {
        let file = path.join(&name);
        let len = fs::metadata(&file).expect("stat").len() as usize;
        // The first half of a table is data.
        (0..len / 2).step_by(64).for_each(|at| {
            use std::os::unix::fs::FileExt;
            let file = fs::File::options().write(true).open(&file).expect("open");
            file.write_all_at(&[0x5a; 8], at as u64).expect("write");
        });
    }
    assert!(matches!(engine.verify(), Err(Error::Corruption(_))));
    let snapshot = engine.snapshot();
    let read = snapshot.get(Cf::Kv, &5u32.to_be_bytes());
    assert!(matches!(read, Err(Error::Corruption(_))), "{read:?}");
}
