use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::format::{BatchKind, DATA_START, Record, SegmentHeader, encode_batch, encode_mark, stride};
use super::health::{Health, Reporter, health_of};
use super::metrics::METRICS;
use super::segment::{Location, Segment, segment_path};
use super::shared::{Batch, Shared, State};
use super::spares::Spares;
use crate::disk::{Disk, SECTOR_BYTES};

/// The end of the log, where the next batch goes.
pub(super) struct Tail {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    /// A write or sync here failed: nothing more is written to this file.
    pub(super) poisoned: bool,
}

impl Tail {
    fn has_room(&self, bytes: u64) -> bool {
        self.offset + bytes <= self.segment.header.file_bytes
    }

    fn position(&self) -> u64 {
        self.segment.position(self.offset)
    }
}

/// The one thread that writes. See the module's essay for what it promises.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) spares: Arc<Spares>,
    pub(super) tail: Tail,
    /// Encoded batch, reused.
    pub(super) buf: Vec<u8>,
}

/// Where a batch ended up.
struct Placed {
    /// The segment it opened, if any.
    opened: Option<Arc<Segment>>,
    segment: u64,
    /// File offset of the batch.
    base: u64,
    offsets: Vec<u32>,
}

impl Writer {
    /// Writes batch after batch until the log is closed.
    pub(super) fn run(mut self) {
        let limit = self.shared.options.batch_limit();
        while let Some(batch) = self.shared.next_batch(limit) {
            let Some(placed) = self.persist(&batch) else {
                for done in batch.dones {
                    done(Err(super::Error::Closed.into()));
                }
                self.shared.fail_queue();
                return;
            };
            METRICS.batch_records.observe(batch.records.len() as f64);
            let purged = batch.records.iter().any(|record| matches!(record, Record::Purged(_)));
            self.shared.complete(batch, |state, records| place(state, records, placed));
            if purged {
                self.drop_purged();
            }
            if !self.shared.has_work() {
                self.write_mark();
            }
        }
        self.finish();
    }

    /// Makes a batch durable, however often it must be tried; `None` when the
    /// log was closed before that succeeded.
    fn persist(&mut self, batch: &Batch) -> Option<Placed> {
        let mut pause = Duration::ZERO;
        loop {
            let error = match self.try_persist(&batch.records) {
                Ok(placed) => {
                    self.shared.health.report(Reporter::Writer, Health::Ok);
                    return Some(placed);
                }
                Err(error) => error,
            };
            let path = &self.tail.segment.path;
            tracing::error!(%error, path = %path.display(), "cannot write to the log; trying again");
            // The first retry goes to another file and comes at once; only a
            // failure there is one of the disk.
            if !pause.is_zero() {
                self.shared.health.report(Reporter::Writer, health_of(&error));
            }
            if self.shared.pause(pause) {
                return None;
            }
            let options = &self.shared.options;
            pause = (pause * 2).clamp(options.retry_min, options.retry_max);
        }
    }

    fn try_persist(&mut self, records: &[Record]) -> io::Result<Placed> {
        let bytes = stride(records.iter().map(Record::encoded_len).sum());
        if self.tail.poisoned || !self.tail.has_room(bytes) {
            return self.open_segment(records);
        }
        let salt = self.tail.segment.header.salt;
        let offsets = encode_batch(salt, self.tail.position(), records.iter(), &mut self.buf);
        let base = self.tail.offset;
        if let Err(error) = write_and_sync(&self.shared, &self.tail.segment, &self.buf, base) {
            self.tail.poisoned = true;
            return Err(error);
        }
        self.tail.offset += self.buf.len() as u64;
        Ok(Placed { opened: None, segment: self.tail.segment.header.sequence, base, offsets })
    }

    /// Begins a segment with a batch: the state so far, then `records`.
    ///
    /// The file gets its name only once it is complete, so that a segment with
    /// a bad header is damage and never a crash.
    fn open_segment(&mut self, records: &[Record]) -> io::Result<Placed> {
        let spare = self.spares.take()?;
        let segment = self.begin_segment(&spare, records).inspect_err(|_| {
            let _ = self.disk.remove(&spare);
        })?;
        let (segment, offsets) = segment;
        let sequence = segment.header.sequence;
        let old = std::mem::replace(
            &mut self.tail,
            Tail { segment: segment.clone(), offset: DATA_START + self.buf.len() as u64, poisoned: false },
        );
        if !old.poisoned {
            write_kind(&old, BatchKind::Sealed);
        }
        tracing::debug!(sequence, "log segment opened");
        Ok(Placed { opened: Some(segment), segment: sequence, base: DATA_START, offsets })
    }

    fn begin_segment(&mut self, spare: &Path, records: &[Record]) -> io::Result<(Arc<Segment>, Vec<u32>)> {
        let file = self.disk.open(spare)?;
        let (carry, next_index) = {
            let state = self.shared.lock();
            (state.written.carry(), state.written.next_index)
        };
        let header = SegmentHeader {
            sequence: self.tail.segment.header.sequence + 1,
            salt: random_salt(),
            next_index,
            start_position: self.tail.position(),
            file_bytes: file.len()?,
        };
        let path = segment_path(&self.shared.options.dir, header.sequence);
        let segment = Arc::new(Segment { header, path, file });
        let all = carry.iter().chain(records);
        let mut offsets = encode_batch(header.salt, header.start_position, all, &mut self.buf);
        offsets.drain(..carry.len());
        segment.file.write_at(&header.encode(), 0)?;
        write_and_sync(&self.shared, &segment, &self.buf, DATA_START)?;
        self.disk.rename(spare, &segment.path)?;
        self.disk.sync_dir(&self.shared.options.dir)?;
        Ok((segment, offsets))
    }

    /// Lets the segments go that hold nothing but purged entries.
    fn drop_purged(&self) {
        let gone: Vec<Arc<Segment>> = {
            let mut state = self.shared.lock();
            let active = self.tail.segment.header.sequence;
            let keep = state.written.oldest_segment().unwrap_or(active).min(active);
            let kept = state.segments.split_off(&keep);
            std::mem::replace(&mut state.segments, kept).into_values().collect()
        };
        if gone.is_empty() {
            return;
        }
        if let Err(error) = self.release(&gone) {
            // They are removed by the next start.
            tracing::warn!(%error, "cannot remove purged log segments");
        }
    }

    /// Oldest first: what a crash leaves is then a gapless end of the log.
    fn release(&self, gone: &[Arc<Segment>]) -> io::Result<()> {
        let mut recycled = Vec::new();
        for segment in gone {
            let reusable = segment.header.file_bytes == self.shared.options.segment_bytes;
            recycled.extend(self.spares.recycle(&segment.path, reusable)?);
        }
        self.disk.sync_dir(&self.shared.options.dir)?;
        self.spares.add(recycled);
        Ok(())
    }

    /// Notes that all so far is durable; not synced itself, see the essay.
    fn write_mark(&self) {
        if !self.tail.poisoned {
            write_kind(&self.tail, BatchKind::Synced);
        }
    }

    fn finish(&mut self) {
        self.write_mark();
        if let Err(error) = self.tail.segment.file.sync() {
            tracing::warn!(%error, "cannot sync the log's end mark");
        }
    }
}

/// Writes a mark at the tail. It only sharpens the detection of damage, so its
/// own failure does not matter.
fn write_kind(tail: &Tail, kind: BatchKind) {
    if tail.has_room(SECTOR_BYTES as u64) {
        let mark = encode_mark(kind, tail.segment.header.salt, tail.position());
        if let Err(error) = tail.segment.file.write_at(&mark, tail.offset) {
            tracing::debug!(%error, "cannot write the log's end mark");
        }
    }
}

/// Takes a durable batch into the written state.
fn place(state: &mut State, records: &[Record], placed: Placed) {
    if let Some(segment) = placed.opened {
        state.segments.insert(segment.header.sequence, segment);
    }
    for (record, &at) in records.iter().zip(&placed.offsets) {
        let location = Location {
            segment: placed.segment,
            offset: (placed.base + u64::from(at)) as u32,
            len: record.encoded_len() as u32,
        };
        if let Err(reason) = state.written.apply(record, location) {
            // The view refused it before it was queued.
            tracing::error!(reason, "log records were queued out of order");
        }
    }
}

fn write_and_sync(shared: &Shared, segment: &Segment, buf: &[u8], offset: u64) -> io::Result<()> {
    let start = Instant::now();
    segment.file.write_at(buf, offset)?;
    let written = Instant::now();
    segment.file.sync()?;
    let took = written.elapsed();
    METRICS.write_seconds.observe((written - start).as_secs_f64());
    METRICS.fsync_seconds.observe(took.as_secs_f64());
    METRICS.write_bytes.add(buf.len() as f64);
    METRICS.batch_bytes.observe(buf.len() as f64);
    if took >= shared.options.slow_sync {
        let expected = shared.options.slow_sync;
        tracing::warn!(?took, expected_duration = ?expected, path = %segment.path.display(), "slow fdatasync");
    }
    Ok(())
}

/// A number no earlier use of a file has had: from the keys std seeds its hash
/// maps with.
pub(super) fn random_salt() -> u64 {
    RandomState::new().build_hasher().finish()
}
