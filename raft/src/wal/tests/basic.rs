use super::*;
use crate::disk::{Disk, RealDisk};
use crate::wal::Health;

#[test]
fn a_new_log_is_empty_and_reopens_empty() {
    let disk = SimDisk::new(1);
    for _ in 0..3 {
        let wal = open(&disk).expect("open");
        assert_eq!((wal.vote(), wal.committed(), wal.purged(), wal.last()), (None, None, None, None));
        assert!(read_all(&wal).is_empty());
        wal.close();
    }
}

#[test]
fn everything_comes_back_after_a_close() {
    let disk = SimDisk::new(2);
    let wal = open(&disk).expect("open");
    vote_durably(&wal, b"first");
    let entries: Vec<LogEntry> = (1..=200).map(|i| entry(1 + i / 60, i, 700)).collect();
    append_durably(&wal, entries.clone());
    vote_durably(&wal, b"second");
    wal.save_committed(id(2, 100)).expect("save committed");
    assert_eq!(read_all(&wal), entries);
    wal.close();

    let wal = open(&disk).expect("open again");
    assert_eq!(wal.vote().as_deref(), Some(&b"second"[..]));
    assert_eq!(wal.committed(), Some(id(2, 100)));
    assert_eq!(wal.last(), Some(id(4, 200)));
    assert_eq!(read_all(&wal), entries);
    assert!(wal.disk_bytes() > 4 * (32 << 10), "it took several segments");
}

#[test]
fn entries_are_readable_before_they_are_durable_and_from_disk_after() {
    let disk = SimDisk::new(3);
    let wal = open(&disk).expect("open");
    let (done, reports) = done();
    let entries: Vec<LogEntry> = (1..=50).map(|i| entry(1, i, 1000)).collect();
    append(&wal, entries.clone(), done).expect("append");
    assert_eq!(read_all(&wal), entries);
    wait(&reports).expect("durable");
    assert!(wal.cached_bytes() <= 4 << 10);
    let plan = wal.plan_read(1..51, usize::MAX);
    assert!(plan.needs_disk());
    assert_eq!(plan.run().expect("read"), entries);
    assert!(!wal.plan_read(49..51, usize::MAX).needs_disk());
}

#[test]
fn a_read_is_bounded_in_bytes_but_never_empty() {
    let disk = SimDisk::new(4);
    let wal = open(&disk).expect("open");
    append_durably(&wal, (1..=10).map(|i| entry(1, i, 1000)).collect());
    assert_eq!(wal.plan_read(1..11, 2500).len(), 2);
    assert_eq!(wal.plan_read(3..11, 1).len(), 1);
    assert!(wal.plan_read(5..5, 1000).is_empty());
    assert!(wal.plan_read(11..20, 1000).is_empty());
}

#[test]
fn truncation_replaces_the_end() {
    let disk = SimDisk::new(5);
    let wal = open(&disk).expect("open");
    append_durably(&wal, (1..=100).map(|i| entry(1, i, 800)).collect());
    wal.truncate_from(41).expect("truncate");
    assert_eq!(wal.last(), Some(id(1, 40)));
    append_durably(&wal, (41..=60).map(|i| entry(3, i, 10)).collect());
    let expected: Vec<LogEntry> =
        (1..=40).map(|i| entry(1, i, 800)).chain((41..=60).map(|i| entry(3, i, 10))).collect();
    assert_eq!(read_all(&wal), expected);
    assert_eq!(wal.leaders(1, 60), vec![id(1, 40), id(3, 60)]);
    wal.close();
    let wal = open(&disk).expect("open again");
    assert_eq!(read_all(&wal), expected);
    assert_eq!(wal.leaders(10, 50), vec![id(1, 40), id(3, 50)]);
}

#[test]
fn a_gap_is_refused() {
    let wal = open(&SimDisk::new(6)).expect("open");
    append_durably(&wal, vec![entry(1, 1, 10)]);
    let refused = append(&wal, vec![entry(1, 3, 10)], done().0);
    assert!(matches!(refused, Err(Error::Gap { index: 3, expected: 2 })), "{refused:?}");
    let refused = append(&wal, vec![entry(1, 2, 10), entry(1, 2, 10)], done().0);
    assert!(matches!(refused, Err(Error::Gap { index: 2, expected: 3 })), "{refused:?}");
    append_durably(&wal, vec![entry(1, 2, 10)]);
}

#[test]
fn an_entry_larger_than_a_batch_is_refused() {
    let wal = open(&SimDisk::new(7)).expect("open");
    let refused = append(&wal, vec![entry(1, 1, 40 << 10)], done().0);
    assert!(matches!(refused, Err(Error::EntryTooLarge { index: 1, .. })), "{refused:?}");
    append_durably(&wal, vec![entry(1, 1, 20 << 10)]);
}

#[test]
fn purging_gives_space_back_and_keeps_the_vote() {
    let disk = SimDisk::new(8);
    let wal = open(&disk).expect("open");
    vote_durably(&wal, b"kept");
    for round in 0..40u64 {
        let first = round * 50 + 1;
        append_durably(&wal, (first..first + 50).map(|i| entry(1, i, 900)).collect());
        wal.purge(id(1, first + 29)).expect("purge");
    }
    vote_durably(&wal, b"after the purge");
    // The entries left, the segment written to, and the spares.
    assert!(disk.used() <= 7 * (32 << 10), "used {}", disk.used());
    let left = read_all(&wal);
    assert_eq!(left, (1981..=2000).map(|i| entry(1, i, 900)).collect::<Vec<_>>());
    wal.close();
    let wal = open(&disk).expect("open again");
    assert_eq!(wal.purged(), Some(id(1, 1980)));
    assert_eq!(read_all(&wal), left);
    assert_eq!(wal.vote().as_deref(), Some(&b"after the purge"[..]));
}

#[test]
fn a_purge_beyond_the_end_moves_the_log_there() {
    let disk = SimDisk::new(9);
    let wal = open(&disk).expect("open");
    append_durably(&wal, (1..=10).map(|i| entry(1, i, 100)).collect());
    wal.purge(id(5, 1000)).expect("purge");
    assert_eq!((wal.last(), wal.range()), (Some(id(5, 1000)), 1001..1001));
    append_durably(&wal, vec![entry(5, 1001, 10)]);
    wal.close();
    let wal = open(&disk).expect("open again");
    assert_eq!((wal.purged(), wal.last()), (Some(id(5, 1000)), Some(id(5, 1001))));
}

#[test]
fn what_is_queued_while_a_sync_runs_shares_the_next() {
    let disk = SimDisk::new(10);
    let wal = open(&disk).expect("open");
    append_durably(&wal, vec![entry(1, 1, 10)]);
    let before = disk.sync_count();
    let pending: Vec<_> = (2..=501)
        .map(|i| {
            let (done, reports) = done();
            append(&wal, vec![entry(1, i, 10)], done).expect("append");
            reports
        })
        .collect();
    pending.iter().for_each(|reports| wait(reports).expect("durable"));
    assert!(disk.sync_count() - before <= 500);
    assert_eq!(wal.last(), Some(id(1, 501)));
}

#[test]
fn callbacks_come_in_the_order_of_the_writes() {
    let wal = open(&SimDisk::new(11)).expect("open");
    let (tx, rx) = mpsc::channel();
    let report = |name: u64| -> Done {
        let tx = tx.clone();
        Box::new(move |_| {
            let _ = tx.send(name);
        })
    };
    for i in 1..=100 {
        append(&wal, vec![entry(1, i, 300)], report(2 * i)).expect("append");
        wal.save_vote(Bytes::from_static(b"v"), report(2 * i + 1)).expect("vote");
    }
    let order: Vec<u64> = (0..200).map(|_| rx.recv_timeout(DEADLINE).expect("report")).collect();
    assert_eq!(order, (2..202).collect::<Vec<_>>());
}

#[test]
fn a_closed_log_refuses_writes_and_still_reads() {
    let wal = open(&SimDisk::new(12)).expect("open");
    append_durably(&wal, vec![entry(1, 1, 10)]);
    wal.close();
    assert!(matches!(append(&wal, vec![entry(1, 2, 10)], done().0), Err(Error::Closed)));
    assert!(matches!(wal.purge(id(1, 1)), Err(Error::Closed)));
    assert_eq!(read_all(&wal).len(), 1);
}

#[test]
fn works_on_a_real_disk_with_its_threads() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = WalOptions {
        segment_bytes: 256 << 10,
        cache_bytes: 16 << 10,
        ..WalOptions::new(dir.path().join("member/wal"))
    };
    let open = || Wal::open(Arc::new(RealDisk), options.clone()).expect("open");
    let wal = open();
    for batch in 0..20u64 {
        append_durably(&wal, (0..20).map(|i| entry(1, batch * 20 + i, 2000)).collect());
    }
    wal.purge(id(1, 199)).expect("purge");
    vote_durably(&wal, b"v");
    assert_eq!(*wal.health().borrow(), Health::Ok);
    drop(wal);
    let wal = open();
    assert_eq!(read_all(&wal), (200..400).map(|i| entry(1, i, 2000)).collect::<Vec<_>>());
    assert!(RealDisk.list(&options.dir).expect("list").len() <= 5 + options.spare_segments);
}
