use std::ops::Range;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::Error;
use super::format::{LogEntry, LogId, Record};
use super::health::Health;
use super::options::WalOptions;
use super::reader::{Item, ReadPlan};
use super::recovery::recover;
use super::shared::{Done, Op, Shared, State};
use super::spares::Spares;
use super::writer::Writer;
use crate::disk::Disk;

/// Longest vote record, in bytes: a segment begins with it.
const VOTE_LIMIT_BYTES: usize = 1024;

/// The write-ahead log. Clones are handles of the same log; the last one
/// dropped closes it.
///
/// Writes become visible to readers in the order of the calls, as soon as the
/// call returns, and durable in the same order, a little later: the `done` of
/// each tells when. There is one stream of writes: callers that write from
/// several tasks must order them themselves.
#[derive(Clone)]
pub struct Wal {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Wal {
    /// Opens the log in `options.dir`, beginning one where there is none, and
    /// starts its threads. Blocks: it reads the whole log. The caller holds the
    /// lock of the data directory: two openers at once would ruin the log.
    ///
    /// # Errors
    ///
    /// [`Error::Corruption`] when something durable is damaged,
    /// [`Error::NewerFormat`] when a newer release wrote it, [`Error::Io`] when
    /// the disk fails.
    pub fn open(disk: Arc<dyn Disk>, options: WalOptions) -> Result<Self, Error> {
        options.validate()?;
        let dir = options.dir.clone();
        disk.create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let spares = Spares::open(disk.clone(), &dir, options.segment_bytes, options.spare_segments)?;
        let spares = Arc::new(spares);
        let found = recover(&*disk, &options, &spares)?;
        let background = options.background_spares;
        let shared = Arc::new(Shared::new(options, found.view, found.written, found.segments));
        let writer = Writer {
            shared: shared.clone(),
            disk,
            spares: spares.clone(),
            tail: found.tail,
            buf: Vec::new(),
        };
        let mut threads = vec![spawn("wal-writer", &dir, move || writer.run())?];
        if background {
            let (spares, shared) = (spares.clone(), shared.clone());
            threads.push(spawn("wal-spares", &dir, move || spares.run(&shared))?);
        }
        Ok(Self { inner: Arc::new(Inner { shared, spares, threads: Mutex::new(threads) }) })
    }

    /// Appends entries that follow the last one. They are readable when this
    /// returns and durable when `done` is called. Waits while more than
    /// [`WalOptions::queue_bytes`] are queued.
    ///
    /// # Errors
    ///
    /// [`Error::Gap`], [`Error::EntryTooLarge`], [`Error::Closed`]; nothing was
    /// appended then and `done` is dropped.
    pub async fn append(&self, entries: Vec<LogEntry>, done: Done) -> Result<(), Error> {
        let shared = &self.inner.shared;
        let ops = split(entries, shared)?;
        let permits = shared.permits(ops.iter().flatten().map(Record::encoded_len).sum());
        let granted = shared.room.acquire_many(permits as u32).await.map_err(|_| Error::Closed)?;
        let mut state = self.open_state()?;
        check_order(&state, &ops)?;
        granted.forget();
        let last = ops.len() - 1;
        let mut done = Some(done);
        for (at, records) in ops.into_iter().enumerate() {
            let ticket = state.next_ticket();
            for record in &records {
                if let Record::Entry(entry) = record {
                    state.view.push(entry, ticket);
                }
            }
            let is_last = at == last;
            let done = if is_last { done.take() } else { None };
            state.enqueue(Op { records, done, permits: if is_last { permits } else { 0 } });
        }
        drop(state);
        shared.wake_writer();
        Ok(())
    }

    /// Replaces the vote. Readable when this returns, durable when `done` is called.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]; [`Error::Options`] for a vote of more than 1 KiB.
    pub fn save_vote(&self, vote: Bytes, done: Done) -> Result<(), Error> {
        if vote.len() > VOTE_LIMIT_BYTES {
            return Err(Error::Options(format!("a vote of {} bytes", vote.len())));
        }
        let mut state = self.open_state()?;
        state.view.vote = Some(vote.clone());
        self.enqueue(&mut state, Record::Vote(vote), Some(done));
        Ok(())
    }

    /// Notes what is known to be committed. It becomes durable along with the
    /// next write or a [`Wal::close`]: it never causes a sync of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn save_committed(&self, id: LogId) -> Result<(), Error> {
        self.open_state()?.set_committed(id);
        Ok(())
    }

    /// Removes the entries from `index` on. Durable before any later write is.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn truncate_from(&self, index: u64) -> Result<(), Error> {
        let mut state = self.open_state()?;
        if state.view.next_index().is_none_or(|next| index >= next) {
            return Ok(());
        }
        state.view.truncate_from(index);
        self.enqueue(&mut state, Record::TruncateFrom(index), None);
        Ok(())
    }

    /// Removes the entries up to `id`, inclusive; `id` may be beyond the last
    /// entry. Space is given back, in whole segments, once this is durable.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub fn purge(&self, id: LogId) -> Result<(), Error> {
        let mut state = self.open_state()?;
        if state.view.purged().is_some_and(|purged| purged.index >= id.index) {
            return Ok(());
        }
        state.view.purge(id);
        self.enqueue(&mut state, Record::Purged(id), None);
        Ok(())
    }

    /// The last vote saved.
    pub fn vote(&self) -> Option<Bytes> {
        self.inner.shared.lock().view.vote.clone()
    }

    /// The last committed id saved.
    pub fn committed(&self) -> Option<LogId> {
        self.inner.shared.lock().view.committed
    }

    /// The id up to which entries were purged.
    pub fn purged(&self) -> Option<LogId> {
        self.inner.shared.lock().view.purged()
    }

    /// The last entry's id; without entries, the last purged one's.
    pub fn last(&self) -> Option<LogId> {
        self.inner.shared.lock().view.last()
    }

    /// Indexes of the entries there are.
    pub fn range(&self) -> Range<u64> {
        self.inner.shared.lock().view.range()
    }

    /// Ids of the last entry of each leader from `from` to `to`, inclusive, in
    /// order; known without reading the disk.
    pub fn leaders(&self, from: u64, to: u64) -> Vec<LogId> {
        self.inner.shared.lock().view.leaders(from, to)
    }

    /// Plans a read of the entries there are in `range`, stopping before the
    /// entry with which payloads exceed `max_bytes`, but not before the first.
    pub fn plan_read(&self, range: Range<u64>, max_bytes: usize) -> ReadPlan {
        let shared = &self.inner.shared;
        let state = shared.lock();
        let there = state.view.range();
        let mut items = Vec::new();
        let mut bytes = 0;
        for index in range.start.max(there.start)..range.end.min(there.end) {
            let Some((item, size)) = locate(&state, index) else { break };
            bytes += size;
            if bytes > max_bytes && !items.is_empty() {
                break;
            }
            items.push(item);
        }
        ReadPlan { shared: shared.clone(), items }
    }

    /// Whether the disk takes writes; changes are published.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.shared.health.subscribe()
    }

    /// Bytes of the segment files that hold the log.
    pub fn disk_bytes(&self) -> u64 {
        let state = self.inner.shared.lock();
        state.segments.values().map(|segment| segment.header.file_bytes).sum()
    }

    /// Bytes of entries held in memory.
    pub fn cached_bytes(&self) -> usize {
        self.inner.shared.lock().view.cached_bytes()
    }

    /// Makes everything queued durable and ends the threads. Blocks for that;
    /// writes that cannot be made durable (the disk is full) fail with
    /// [`Error::Closed`]. Later writes fail, reads go on.
    pub fn close(&self) {
        self.inner.close();
    }

    fn open_state(&self) -> Result<parking_lot::MutexGuard<'_, State>, Error> {
        let state = self.inner.shared.lock();
        if state.is_closed() { Err(Error::Closed) } else { Ok(state) }
    }

    fn enqueue(&self, state: &mut State, record: Record, done: Option<Done>) {
        state.enqueue(Op { records: vec![record], done, permits: 0 });
        self.inner.shared.wake_writer();
    }
}

impl Inner {
    fn close(&self) {
        self.shared.close();
        self.spares.close();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The last handle may be dropped by a callback.
            if thread.thread().id() == std::thread::current().id() {
                continue;
            }
            if thread.join().is_err() {
                tracing::error!("a thread of the write-ahead log panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(
    name: &str,
    dir: &std::path::Path,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    Builder::new().name(name.to_string()).spawn(run).map_err(Error::io("start the writer of", dir))
}

/// Groups the entries into writes that each fit a batch; at least one, so that
/// an empty append still completes in its turn.
fn split(entries: Vec<LogEntry>, shared: &Shared) -> Result<Vec<Vec<Record>>, Error> {
    let limit = shared.options.entry_limit();
    let (mut ops, mut bytes) = (vec![Vec::new()], 0);
    for entry in entries {
        if entry.payload.len() > limit {
            return Err(Error::EntryTooLarge { index: entry.id.index, bytes: entry.payload.len(), limit });
        }
        let record = Record::Entry(entry);
        bytes += record.encoded_len();
        if bytes > shared.options.batch_limit() {
            bytes = record.encoded_len();
            ops.push(Vec::new());
        }
        if let Some(op) = ops.last_mut() {
            op.push(record);
        }
    }
    Ok(ops)
}

fn check_order(state: &State, ops: &[Vec<Record>]) -> Result<(), Error> {
    let mut expected = state.view.next_index();
    for record in ops.iter().flatten() {
        let Record::Entry(entry) = record else { continue };
        let index = entry.id.index;
        if let Some(expected) = expected.filter(|&expected| expected != index) {
            return Err(Error::Gap { index, expected });
        }
        expected = Some(index + 1);
    }
    Ok(())
}

/// Where to read an entry, and the bytes it takes.
fn locate(state: &State, index: u64) -> Option<(Item, usize)> {
    if let Some(entry) = state.view.cached(index) {
        let size = entry.payload.len();
        return Some((Item::Cached(entry), size));
    }
    let id = state.view.id(index)?;
    let location = state.written.location(index)?;
    let segment = state.segments.get(&location.segment)?.clone();
    Some((Item::OnDisk(id, location, segment), location.len as usize))
}
