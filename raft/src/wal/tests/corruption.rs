//! Damage is refused by name, or did not touch anything; never wrong data.

use std::path::PathBuf;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::disk::{Disk, Fault};
use crate::wal::format::{BatchHeader, DATA_START, SegmentHeader};

type Contents = (Option<Bytes>, Option<LogId>, Vec<LogEntry>);

fn contents(wal: &Wal) -> Contents {
    (wal.vote(), wal.purged(), read_all(wal))
}

/// A log of some segments with every kind of record, closed; recycled files included.
fn build(disk: &SimDisk) -> Contents {
    let wal = open(disk).expect("open");
    append_durably(&wal, (1..=120).map(|i| entry(1, i, 900)).collect());
    wal.purge(id(1, 90)).expect("purge");
    vote_durably(&wal, b"a vote");
    for i in 121..=160 {
        append_durably(&wal, vec![entry(2, i, 700)]);
    }
    wal.truncate_from(150).expect("truncate");
    append_durably(&wal, (150..=200).map(|i| entry(3, i, 600)).collect());
    wal.save_committed(id(3, 190)).expect("committed");
    append_durably(&wal, vec![entry(3, 201, 2000)]);
    wal.close();
    contents(&wal)
}

fn sample() -> (SimDisk, &'static Contents) {
    static CONTENTS: OnceLock<Contents> = OnceLock::new();
    let disk = SimDisk::new(1);
    let contents = build(&disk);
    (disk, CONTENTS.get_or_init(|| contents))
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let mut names = disk.list(Path::new(DIR)).expect("list");
    names.retain(|name| name.ends_with(".wal"));
    names.sort();
    names.iter().map(|name| Path::new(DIR).join(name)).collect()
}

fn refused_or_unharmed(disk: &SimDisk, expected: &Contents) -> Result<bool, TestCaseError> {
    match open(disk) {
        Ok(wal) => {
            prop_assert_eq!(&contents(&wal), expected);
            Ok(true)
        }
        Err(Error::Corruption { .. }) => Ok(false),
        Err(other) => Err(TestCaseError::fail(format!("{other}"))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_is_refused_or_harmless(file: prop::sample::Index, offset in 0u64..32 << 10, bit in 0u8..8) {
        let (disk, expected) = sample();
        let mut files: Vec<String> = disk.list(Path::new(DIR)).expect("list");
        files.sort();
        let path = Path::new(DIR).join(file.get(&files));
        prop_assert!(disk.flip_bit(&path, offset, bit));
        refused_or_unharmed(&disk, expected)?;
    }

    #[test]
    fn a_bit_flipped_under_a_running_log_never_gives_wrong_data(
        file: prop::sample::Index, offset in 0u64..32 << 10, bit in 0u8..8,
    ) {
        let (disk, expected) = sample();
        let wal = open(&disk).expect("open");
        let path = file.get(&segments(&disk)).clone();
        prop_assert!(disk.flip_bit(&path, offset, bit));
        match wal.plan_read(0..u64::MAX, usize::MAX).run() {
            Ok(entries) => prop_assert_eq!(&entries, &expected.2),
            Err(error) => prop_assert!(error.is_corruption(), "{}", error),
        }
    }

    #[test]
    fn a_file_cut_off_is_refused_or_harmless(file: prop::sample::Index, len in 0u64..32 << 10) {
        let (disk, expected) = sample();
        let path = file.get(&segments(&disk)).clone();
        prop_assert!(disk.truncate(&path, len));
        if refused_or_unharmed(&disk, expected)? {
            // And the log goes on as ever.
            let wal = open(&disk).expect("open");
            append_durably(&wal, (202..=300).map(|i| entry(4, i, 900)).collect());
            drop(wal);
            let wal = open(&disk.crash()).expect("open again");
            prop_assert_eq!(wal.last(), Some(id(4, 300)));
        }
    }
}

#[test]
fn every_flipped_byte_of_the_last_batch_is_refused() {
    let (disk, expected) = sample();
    let path = segments(&disk).pop().expect("a segment");
    let bytes = disk.contents(&path).expect("contents");
    let payload = &expected.2.last().expect("an entry").payload;
    let at = bytes.windows(payload.len()).position(|window| window == &payload[..]).expect("the last entry");
    for offset in at..at + payload.len() {
        assert!(disk.flip_bit(&path, offset as u64, 3));
        let error = open(&disk).err().expect("refused");
        assert!(error.is_corruption(), "offset {offset}: {error}");
        assert!(disk.flip_bit(&path, offset as u64, 3));
    }
    assert_eq!(&contents(&open(&disk).expect("mended")), expected);
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    let count = segments(&sample().0).len();
    assert!(count > 3, "{count} segments");
    for missing in 0..count {
        let (disk, _) = sample();
        let path = segments(&disk)[missing].clone();
        disk.remove(&path).expect("remove");
        match open(&disk) {
            Err(Error::Corruption { path: named, .. }) => assert_eq!(named, path),
            other => panic!("segment {missing}: {:?}", other.err()),
        }
    }
}

#[test]
fn swapped_segments_are_refused() {
    let (disk, _) = sample();
    let files = segments(&disk);
    let aside = Path::new(DIR).join("aside");
    disk.rename(&files[1], &aside).expect("rename");
    disk.rename(&files[2], &files[1]).expect("rename");
    disk.rename(&aside, &files[2]).expect("rename");
    assert!(open(&disk).err().expect("refused").is_corruption());
}

#[test]
fn a_torn_batch_is_cut_off_and_never_comes_back() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let wal = open(&disk).expect("open");
        append_durably(&wal, vec![entry(1, 1, 100)]);
        let (done, reports) = done();
        // Two entries of several sectors each, torn or lost by the crash.
        append(&wal, vec![entry(1, 2, 3000), entry(1, 3, 3000)], done).expect("append");
        let disk = disk.crash();
        drop(wal);
        let durable = wait(&reports).is_ok();
        let wal = open(&disk).expect("open again");
        let found = read_all(&wal).len();
        assert!(found == 3 || (found == 1 && !durable), "seed {seed}: {found} entries");
        // The same first entry once more, and another crash: the second one of
        // the torn batch, at the very place a batch may follow, stays gone.
        wal.truncate_from(2).expect("truncate");
        append_durably(&wal, vec![entry(1, 2, 3000)]);
        let disk = disk.crash();
        drop(wal);
        let wal = open(&disk).expect("open once more");
        assert_eq!(read_all(&wal), vec![entry(1, 1, 100), entry(1, 2, 3000)], "seed {seed}");
    }
}

/// A batch whose write was cut short, twice at the same place: sectors of the
/// first must not complete the second.
#[test]
fn a_torn_batch_does_not_complete_a_later_one() {
    // `None` where there were entries to begin with.
    let attempt = |disk: SimDisk, entries: Vec<LogEntry>| {
        let wal = open(&disk).expect("open");
        if wal.last().is_some() {
            return None;
        }
        // The write is done, its sync is not.
        disk.inject(Fault::LosePowerAfter(1));
        append(&wal, entries, done().0).expect("append");
        wal.close();
        Some(disk.crash())
    };
    let first = entry(1, 1, 600);
    let (lost, other) = (entry(1, 2, 600), entry(2, 2, 600));
    let mut torn = 0;
    for seed in 0..400 {
        let disk = attempt(SimDisk::new(seed), vec![first.clone(), lost.clone()]).expect("a new log");
        if let Some(disk) = attempt(disk, vec![first.clone(), other.clone()]) {
            torn += 1;
            let found = read_all(&open(&disk).expect("open again"));
            assert!(found.is_empty() || found == [first.clone(), other.clone()], "seed {seed}: {found:?}");
        }
    }
    assert!(torn > 100, "{torn} torn batches");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (disk, _) = sample();
    let path = segments(&disk).pop().expect("a segment");
    let mut head = disk.contents(&path).expect("contents")[..12].to_vec();
    head[8..12].copy_from_slice(&7u32.to_le_bytes());
    head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
    disk.open(&path).expect("open").write_at(&head, 0).expect("write");
    let error = open(&disk).err().expect("refused");
    assert!(matches!(error, Error::NewerFormat { found: 7, supported: 1, .. }), "{error}");
    let text = error.to_string();
    assert!(text.ends_with("was written by a newer skiff: format 7; this binary reads up to 1"), "{text}");
}

#[test]
fn segments_of_another_configured_size_are_read() {
    let (disk, expected) = sample();
    let options = WalOptions { segment_bytes: 64 << 10, ..options() };
    let wal = Wal::open(Arc::new(disk.clone()), options).expect("open");
    assert_eq!(&contents(&wal), expected);
    append_durably(&wal, (202..=400).map(|i| entry(5, i, 900)).collect());
    wal.close();
    assert_eq!(open(&disk).expect("open with the first size").last(), Some(id(5, 400)));
}

#[test]
fn bytes_of_a_recycled_segment_do_not_pass() {
    let mut stale = 0;
    for rounds in 6..18u64 {
        let disk = SimDisk::new(rounds);
        let wal = open(&disk).expect("open");
        for first in (0..rounds).map(|round| round * 40 + 1) {
            append_durably(&wal, (first..first + 40).map(|i| entry(1, i, 900)).collect());
            wal.purge(id(1, first + 38)).expect("purge");
            vote_durably(&wal, b"purged before this");
        }
        let last = segments(&disk).pop().expect("a segment");
        stale += u32::from(has_stale_bytes(&disk.contents(&last).expect("contents")));
        let disk = disk.crash();
        drop(wal);
        let wal = open(&disk).expect("open again");
        assert_eq!(read_all(&wal), vec![entry(1, rounds * 40, 900)]);
    }
    assert!(stale > 2, "{stale} logs ended in a recycled segment");
}

/// Whether there is anything behind the end of the log and its mark.
fn has_stale_bytes(segment: &[u8]) -> bool {
    let header = SegmentHeader::decode(segment).expect("a valid header");
    let mut at = DATA_START;
    while let Some(batch) =
        BatchHeader::decode(header.salt, header.start_position + at - DATA_START, &segment[at as usize..])
    {
        at += batch.stride();
    }
    segment[at as usize..].iter().any(|&byte| byte != 0)
}
