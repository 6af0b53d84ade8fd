//! Segments that no correct writer left: recovery refuses them or takes them,
//! and whatever it takes can be read; it never panics, and never takes memory
//! for what only a header declares.

use proptest::prelude::*;
use skiff_store::conformance::fuzz::mutated;

use super::*;
use crate::disk::Disk;
use crate::wal::LogImage;
use crate::wal::format::{BatchKind, DATA_START, Record, SegmentHeader, encode_batch, encode_mark};
use crate::wal::segment::segment_path;

const SALT: u64 = 9;

fn disk_with(segments: &[(u64, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).expect("a directory");
    for (sequence, bytes) in segments {
        let file = disk.create(&segment_path(Path::new(DIR), *sequence)).expect("a file");
        file.write_at(bytes, 0).expect("a write");
    }
    disk
}

/// Opens a log every way there is and reads what it has.
fn read_back(disk: &SimDisk) {
    if let Ok(image) = LogImage::open(disk, Path::new(DIR)) {
        for index in image.range().take(100) {
            image.entry(index).expect("what was recovered can be read");
        }
    }
    if let Ok(wal) = open(disk) {
        let _ = wal.plan_read(0..u64::MAX, usize::MAX).run();
        let _ = wal.leaders(0, u64::MAX);
        wal.close();
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..12,
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 62),
        Just((1 << 62) - 1),
        any::<u64>(),
    ]
}

fn any_id() -> impl Strategy<Value = LogId> {
    (number(), number(), number()).prop_map(|(term, leader, index)| LogId { term, leader, index })
}

fn any_record() -> impl Strategy<Value = Record> {
    let payload = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    prop_oneof![
        4 => (any_id(), any::<u8>(), payload.clone())
            .prop_map(|(id, kind, payload)| Record::Entry(LogEntry { id, kind, payload })),
        3 => (1u64..6).prop_map(|index| Record::Entry(entry(1, index, 10))),
        1 => payload.prop_map(Record::Vote),
        1 => any_id().prop_map(Record::Committed),
        2 => number().prop_map(Record::TruncateFrom),
        2 => any_id().prop_map(Record::Purged),
    ]
}

fn any_header(sequence: u64) -> impl Strategy<Value = SegmentHeader> {
    let likely = Just(32 << 10);
    let sizes = prop_oneof![3 => likely, 1 => 0u64..100_000, 1 => Just(u64::from(u32::MAX)), 1 => number()];
    let starts = prop_oneof![3 => Just(0), 1 => number()];
    (sizes, starts, prop::option::of(number())).prop_map(move |(file_bytes, start_position, next_index)| {
        SegmentHeader { sequence, salt: SALT, next_index, start_position, file_bytes }
    })
}

/// A segment whose checksums are right, whatever it says.
fn segment(header: SegmentHeader, batches: &[Vec<Record>], mark: Option<BatchKind>) -> Vec<u8> {
    let mut bytes = header.encode();
    let mut batch = Vec::new();
    let place = |bytes: &Vec<u8>| header.start_position.wrapping_add(bytes.len() as u64 - DATA_START);
    for records in batches {
        if place(&bytes) > u64::MAX / 2 {
            break;
        }
        encode_batch(SALT, place(&bytes), records.iter(), &mut batch);
        bytes.extend_from_slice(&batch);
    }
    if let Some(kind) = mark {
        let mark = encode_mark(kind, SALT, place(&bytes));
        bytes.extend(mark);
    }
    if bytes.len() < 32 << 10 {
        bytes.resize(32 << 10, 0);
    }
    bytes
}

fn any_mark() -> impl Strategy<Value = Option<BatchKind>> {
    prop_oneof![Just(None), Just(Some(BatchKind::Synced)), Just(Some(BatchKind::Sealed))]
}

fn any_batches() -> impl Strategy<Value = Vec<Vec<Record>>> {
    prop::collection::vec(prop::collection::vec(any_record(), 0..5), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn strange_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..9000), name in number()) {
        read_back(&disk_with(&[(name, bytes)]));
    }

    #[test]
    fn strange_records_never_panic(
        first in any_header(1),
        second in any_header(2),
        batches in any_batches(),
        more in prop::option::of(any_batches()),
        mark in any_mark(),
    ) {
        let mut segments = vec![(1, segment(first, &batches, mark))];
        segments.extend(more.map(|batches| (2, segment(second, &batches, None))));
        read_back(&disk_with(&segments));
    }

    #[test]
    fn changed_segments_never_panic(
        batches in any_batches(),
        seed: u64,
        mark in any_mark(),
    ) {
        let header =
            SegmentHeader { sequence: 1, salt: SALT, next_index: None, start_position: 0, file_bytes: 32 << 10 };
        let bytes = segment(header, &batches, mark);
        let used = bytes.len().min(8192);
        let mut changed = mutated(&bytes[..used], seed);
        changed.extend_from_slice(&bytes[used..]);
        read_back(&disk_with(&[(1, changed)]));
    }
}

/// The index behind the last possible one does not exist.
#[test]
fn the_last_index_of_all_is_refused() {
    let header =
        SegmentHeader { sequence: 1, salt: SALT, next_index: None, start_position: 0, file_bytes: 32 << 10 };
    let last = LogEntry { id: id(1, u64::MAX), kind: 1, payload: Bytes::new() };
    for record in [Record::Purged(id(1, u64::MAX)), Record::Entry(last)] {
        let error = open(&disk_with(&[(1, segment(header, &[vec![record]], Some(BatchKind::Synced)))])).err();
        assert!(error.is_some_and(|error| error.is_corruption()));
    }
}
