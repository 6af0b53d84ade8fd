//! Disks that are full, fail, or are slow.

use super::*;
use crate::disk::{Disk, Fault};
use crate::wal::Health;

#[test]
fn a_full_disk_stops_writes_until_there_is_room_again() {
    let disk = SimDisk::new(1);
    disk.set_capacity(2 * (32 << 10));
    let wal = open(&disk).expect("open");
    let health = wal.health();
    let entries: Vec<LogEntry> = (1..=120).map(|i| entry(1, i, 1000)).collect();
    let reports: Vec<_> = entries
        .iter()
        .map(|entry| {
            let (done, reports) = done();
            append(&wal, vec![entry.clone()], done).expect("append");
            reports
        })
        .collect();
    eventually("the full disk is reported", || *health.borrow() == Health::DiskFull);
    assert!(reports[119].try_recv().is_err(), "nothing is durable that has no room");
    assert_eq!(read_all(&wal), entries, "reads go on");

    disk.set_capacity(u64::MAX);
    reports.iter().for_each(|reports| wait(reports).expect("durable once there is room"));
    eventually("the disk is well again", || *health.borrow() == Health::Ok);
    drop(wal);
    let wal = open(&disk.crash()).expect("open again");
    assert_eq!(read_all(&wal), entries);
}

#[test]
fn a_full_disk_is_reported_while_there_is_room_for_the_alarm() {
    let disk = SimDisk::new(2);
    // The first segment fits, the spare does not.
    disk.set_capacity(40 << 10);
    let options = WalOptions { background_spares: true, ..options() };
    let wal = Wal::open(Arc::new(disk.clone()), options).expect("open");
    let health = wal.health();
    eventually("the full disk is reported", || *health.borrow() == Health::DiskFull);
    append_durably(&wal, vec![entry(1, 1, 1000)]);
    assert_eq!(*health.borrow(), Health::DiskFull);
    disk.set_capacity(u64::MAX);
    eventually("the disk is well again", || *health.borrow() == Health::Ok);
}

#[test]
fn closing_on_a_full_disk_reports_failure_and_ends() {
    let disk = SimDisk::new(3);
    disk.set_capacity(33 << 10);
    let wal = open(&disk).expect("open");
    let (done, reports) = done();
    append(&wal, (1..=100).map(|i| entry(1, i, 1000)).collect(), done).expect("append");
    wal.close();
    assert!(wait(&reports).is_err());
}

#[test]
fn a_failed_sync_moves_to_a_fresh_segment_and_loses_nothing() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let wal = open(&disk).expect("open");
        append_durably(&wal, (1..=5).map(|i| entry(1, i, 1000)).collect());
        disk.inject(Fault::FailSyncs(1 + seed as u32 % 3));
        append_durably(&wal, (6..=9).map(|i| entry(1, i, 1000)).collect());
        assert!(disk.list(Path::new(DIR)).expect("list").contains(&format!("{:016x}.wal", 2)));
        let disk = disk.crash();
        drop(wal);
        let wal = open(&disk).expect("open again");
        assert_eq!(read_all(&wal), (1..=9).map(|i| entry(1, i, 1000)).collect::<Vec<_>>());
    }
}

/// The batch of a failed sync may be readable from the page cache and from
/// nowhere else. A process that starts then must not count it as durable.
#[test]
fn what_only_the_page_cache_holds_is_written_again() {
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let wal = open(&disk).expect("open");
        append_durably(&wal, vec![entry(1, 1, 1000)]);
        disk.inject(Fault::FailSyncs(u32::MAX));
        let (done, reports) = done();
        append(&wal, vec![entry(1, 2, 3000)], done).expect("append");
        wal.close();
        assert!(wait(&reports).is_err());
        drop(wal);
        let disk = disk.kill();
        let mut found = None;
        // The faults of the old process end with it here.
        disk.clear_faults();
        for _ in 0..2 {
            let wal = open(&disk).expect("open again");
            let entries = read_all(&wal);
            assert!(found.is_none_or(|before: Vec<LogEntry>| before == entries));
            found = Some(entries);
        }
        let wal = open(&disk.crash()).expect("open after the power loss");
        assert_eq!(found, Some(read_all(&wal)), "seed {seed}");
    }
}

#[test]
fn a_failed_write_is_tried_again() {
    let disk = SimDisk::new(4);
    let wal = open(&disk).expect("open");
    disk.inject(Fault::FailWrites(3));
    append_durably(&wal, vec![entry(1, 1, 100)]);
    let disk = disk.crash();
    drop(wal);
    assert_eq!(read_all(&open(&disk).expect("open again")), vec![entry(1, 1, 100)]);
}

#[test]
fn a_full_queue_makes_appends_wait() {
    let disk = SimDisk::new(5);
    disk.set_capacity(33 << 10);
    let options = WalOptions { queue_bytes: 64 << 10, ..options() };
    let wal = Wal::open(Arc::new(disk.clone()), options).expect("open");
    let mut index = 0;
    let stuck = loop {
        index += 1;
        assert!(index < 1000, "the queue is bounded");
        let pending = wal.append(vec![entry(1, index, 1000)], done().0);
        let mut pending = Box::pin(pending);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match pending.as_mut().poll(&mut context) {
            std::task::Poll::Ready(result) => result.expect("append"),
            std::task::Poll::Pending => break pending,
        }
    };
    disk.set_capacity(u64::MAX);
    futures::executor::block_on(stuck).expect("append goes on once there is room");
    assert_eq!(wal.last(), Some(id(1, index)));
}
