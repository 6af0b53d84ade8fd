//! Tests of the whole log, on a simulated disk.

mod basic;
mod corruption;
mod crash;
mod failing;
mod fuzz;

use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, mpsc::Receiver};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Done, Error, LogEntry, LogId, Wal, WalOptions};
use crate::disk::SimDisk;

const DIR: &str = "/member/wal";
/// Long enough for any machine; nothing waits that long unless it fails.
const DEADLINE: Duration = Duration::from_secs(60);

/// Small segments, so that a test sees many.
fn options() -> WalOptions {
    WalOptions {
        segment_bytes: 32 << 10,
        cache_bytes: 4 << 10,
        queue_bytes: 1 << 20,
        retry_min: Duration::from_millis(1),
        retry_max: Duration::from_millis(5),
        background_spares: false,
        ..WalOptions::new(DIR)
    }
}

fn open(disk: &SimDisk) -> Result<Wal, Error> {
    Wal::open(Arc::new(disk.clone()), options())
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, leader: 0, index }
}

/// An entry whose payload follows from its id and size.
fn entry(term: u64, index: u64, size: usize) -> LogEntry {
    let byte = (term * 31 + index * 7) as u8;
    LogEntry { id: id(term, index), kind: 1, payload: Bytes::from(vec![byte; size]) }
}

/// A callback and where it reports.
fn done() -> (Done, Receiver<std::io::Result<()>>) {
    let (tx, rx) = mpsc::channel();
    let done = Box::new(move |result| {
        let _ = tx.send(result);
    });
    (done, rx)
}

fn wait(reports: &Receiver<std::io::Result<()>>) -> std::io::Result<()> {
    reports.recv_timeout(DEADLINE).expect("the log reports")
}

/// Drives an append on this thread; the queue is never full in these tests.
fn append(wal: &Wal, entries: Vec<LogEntry>, done: Done) -> Result<(), Error> {
    futures::executor::block_on(wal.append(entries, done))
}

fn append_durably(wal: &Wal, entries: Vec<LogEntry>) {
    let (done, reports) = done();
    append(wal, entries, done).expect("append");
    wait(&reports).expect("durable");
}

fn vote_durably(wal: &Wal, vote: &'static [u8]) {
    let (done, reports) = done();
    wal.save_vote(Bytes::from_static(vote), done).expect("save vote");
    wait(&reports).expect("durable");
}

/// All entries the log has.
fn read_all(wal: &Wal) -> Vec<LogEntry> {
    wal.plan_read(0..u64::MAX, usize::MAX).run().expect("read")
}

/// Polls until the condition holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} within the deadline");
        std::thread::yield_now();
    }
}
