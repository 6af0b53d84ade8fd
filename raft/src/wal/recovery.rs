//! Reading the log back. What may be cut off and what is refused is reasoned
//! out in the essay of [`super`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, BatchKind, DATA_START, FORMAT_VERSION, HeaderError, LogEntry,
    MAX_BATCH_BYTES, MAX_SEGMENT_BYTES, Record, SegmentHeader, decode_record,
};
use super::options::WalOptions;
use super::segment::{Location, Segment, parse_segment_name, segment_path};
use super::spares::{Spares, write_zeros};
use super::view::View;
use super::writer::{Tail, random_salt};
use super::written::Written;
use crate::disk::{Disk, SECTOR_BYTES};

const SECTOR: u64 = SECTOR_BYTES as u64;

/// The log as found on disk, ready to be written on.
pub(super) struct Recovered {
    pub(super) view: View,
    pub(super) written: Written,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    pub(super) tail: Tail,
}

/// Reads the log in `options.dir`, or begins one where there is none.
pub(super) fn recover(disk: &dyn Disk, options: &WalOptions, spares: &Spares) -> Result<Recovered, Error> {
    let dir = &options.dir;
    let Some(found) = read_back(disk, dir, options.cache_bytes)? else {
        return begin(disk, options, spares);
    };
    let ReadBack { replay, segments, leftover, last, last_batch, end } = found;
    mend_tail(&last, last_batch, end).map_err(Error::io("mend the end of", &last.path))?;
    for sequence in leftover {
        let path = segment_path(dir, sequence);
        tracing::info!(path = %path.display(), "removing a purged log segment left by a crash");
        disk.remove(&path).map_err(Error::io("remove", &path))?;
    }
    disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
    let tail = Tail { segment: last, offset: end, poisoned: false };
    Ok(Recovered { view: replay.view, written: replay.written, segments, tail })
}

/// A log that was read back, before anything is written to it.
pub(super) struct ReadBack {
    pub(super) replay: Replay,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    /// Numbers of segments that are purged already.
    leftover: Vec<u64>,
    last: Arc<Segment>,
    /// Where in the last segment its last batch begins.
    last_batch: u64,
    /// Where in the last segment the log ends.
    end: u64,
}

/// Reads and checks the log in `dir`; `None` where there is none. Writes nothing.
pub(super) fn read_back(disk: &dyn Disk, dir: &Path, cache_bytes: usize) -> Result<Option<ReadBack>, Error> {
    let names = disk.list(dir).map_err(Error::io("list", dir))?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    sequences.sort_unstable();
    let (leftover, run) = split_at_last_gap(&sequences);
    let segments = run.iter().map(|n| open_segment(disk, dir, *n)).collect::<Result<Vec<_>, _>>()?;
    let (Some(first), Some(last)) = (segments.first(), segments.last().cloned()) else { return Ok(None) };
    let mut replay = Replay::new(cache_bytes, first.header.next_index);
    let (mut last_batch, mut end) = (DATA_START, DATA_START);
    for (at, segment) in segments.iter().enumerate() {
        let file = read_file(segment)?;
        match segments.get(at + 1) {
            Some(next) => replay.inner_segment(segment, &file, next)?,
            None => (last_batch, end) = replay.last_segment(segment, &file, dir)?,
        }
    }
    replay.check_begin(dir, first.header.sequence)?;
    let leftover = leftover.to_vec();
    let segments = segments.into_iter().map(|segment| (segment.header.sequence, segment)).collect();
    Ok(Some(ReadBack { replay, segments, leftover, last, last_batch, end }))
}

/// Creates the first segment of a new log.
fn begin(disk: &dyn Disk, options: &WalOptions, spares: &Spares) -> Result<Recovered, Error> {
    let dir = &options.dir;
    let path = segment_path(dir, 1);
    let create = || {
        let spare = spares.take()?;
        let file = disk.open(&spare)?;
        let header = SegmentHeader {
            sequence: 1,
            salt: random_salt(),
            next_index: None,
            start_position: 0,
            file_bytes: file.len()?,
        };
        file.write_at(&header.encode(), 0)?;
        file.sync()?;
        disk.rename(&spare, &path)?;
        disk.sync_dir(dir)?;
        Ok((header, file))
    };
    let (header, file) = create().map_err(Error::io("create the first log segment", &path))?;
    let segment = Arc::new(Segment { header, path, file });
    Ok(Recovered {
        view: View::default(),
        written: Written::default(),
        segments: BTreeMap::from([(1, segment.clone())]),
        tail: Tail { segment, offset: DATA_START, poisoned: false },
    })
}

/// The segments before the last gap in the numbers, and those after it.
fn split_at_last_gap(sequences: &[u64]) -> (&[u64], &[u64]) {
    let gap = sequences.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
    sequences.split_at(gap.map_or(0, |at| at + 1))
}

fn open_segment(disk: &dyn Disk, dir: &Path, sequence: u64) -> Result<Arc<Segment>, Error> {
    let path = segment_path(dir, sequence);
    let file = disk.open(&path).map_err(Error::io("open", &path))?;
    let mut block = vec![0; DATA_START as usize];
    let read = file.read_at(&mut block, 0).map_err(Error::io("read", &path))?;
    let header = SegmentHeader::decode(&block[..read]).map_err(|error| match error {
        HeaderError::Newer(found) => {
            Error::NewerFormat { path: path.clone(), found, supported: FORMAT_VERSION }
        }
        HeaderError::Damaged(reason) => Error::corruption(&path, 0, reason),
    })?;
    if header.sequence != sequence {
        let reason = format!("the file is named as segment {sequence} but holds {}", header.sequence);
        return Err(Error::corruption(&path, 0, reason));
    }
    if header.file_bytes < DATA_START || header.file_bytes > MAX_SEGMENT_BYTES {
        return Err(Error::corruption(&path, 0, format!("impossible length {}", header.file_bytes)));
    }
    Ok(Arc::new(Segment { header, path, file }))
}

/// A segment's bytes, as far as the file is there. Where it was cut off,
/// nothing follows, as if nothing had been written.
struct Contents {
    bytes: Bytes,
    /// Bytes that were there.
    present: u64,
}

fn read_file(segment: &Segment) -> Result<Contents, Error> {
    // What the header declares is not believed where there is less.
    let there = segment.file.len().map_err(Error::io("look at", &segment.path))?;
    let mut bytes = vec![0; segment.header.file_bytes.min(there) as usize];
    let present = segment.file.read_at(&mut bytes, 0).map_err(Error::io("read", &segment.path))? as u64;
    Ok(Contents { bytes: Bytes::from(bytes), present })
}

/// What lies at a batch boundary.
enum Found {
    Batch {
        header: BatchHeader,
        records: Vec<(Record, Location)>,
    },
    Mark(BatchKind),
    /// Not a whole batch; bytes it takes as far as they can be told.
    Bad {
        reason: String,
        bytes: u64,
    },
}

pub(super) struct Replay {
    pub(super) view: View,
    pub(super) written: Written,
    cache_bytes: usize,
    first_index: Option<u64>,
}

impl Replay {
    fn new(cache_bytes: usize, first_index: Option<u64>) -> Self {
        let written = Written::starting_at(first_index);
        Self { view: View::starting_at(first_index), written, cache_bytes, first_index }
    }

    /// Replays a segment that has a successor: every byte of it up to where the
    /// successor takes over was durable.
    fn inner_segment(&mut self, segment: &Segment, file: &Contents, next: &Segment) -> Result<(), Error> {
        let damaged = |offset, reason: String| Err(Error::corruption(&segment.path, offset, reason));
        let until = next.header.start_position;
        let mut offset = DATA_START;
        while segment.position(offset) < until {
            match read_batch(segment, &file.bytes, offset) {
                Found::Batch { header, records } => {
                    self.apply(segment, offset, records)?;
                    offset += header.stride();
                }
                Found::Mark(_) => return damaged(offset, "the log ends before the next segment".to_string()),
                Found::Bad { reason, .. } => return damaged(offset, reason),
            }
        }
        if segment.position(offset) != until {
            let reason =
                format!("the log goes to {}, the next segment begins at {until}", segment.position(offset));
            return damaged(offset, reason);
        }
        if next.header.next_index != self.written.next_index {
            let reason = format!("the next segment begins with entry {:?}", next.header.next_index);
            return damaged(offset, format!("{reason}, this one goes to {:?}", self.written.next_index));
        }
        Ok(())
    }

    /// Replays the last segment. Returns where its last batch begins and where
    /// the log ends.
    fn last_segment(&mut self, segment: &Segment, file: &Contents, dir: &Path) -> Result<(u64, u64), Error> {
        let (mut last, mut offset) = (DATA_START, DATA_START);
        while offset + SECTOR <= segment.header.file_bytes {
            match read_batch(segment, &file.bytes, offset) {
                Found::Batch { header, records } => {
                    self.apply(segment, offset, records)?;
                    last = offset;
                    offset += header.stride();
                }
                Found::Mark(BatchKind::Sealed) => {
                    let missing = segment_path(dir, segment.header.sequence + 1);
                    return Err(Error::corruption(missing, 0, "the segment is missing"));
                }
                Found::Mark(_) => {
                    check_after(segment, file, offset, SECTOR, "the log ends here")?;
                    break;
                }
                Found::Bad { reason, bytes } => {
                    check_after(segment, file, offset, bytes, &reason)?;
                    let path = segment.path.display();
                    tracing::info!(%path, offset, reason, "the log ends here; cutting off what a crash left");
                    break;
                }
            }
        }
        Ok((last, offset))
    }

    fn apply(
        &mut self,
        segment: &Segment,
        offset: u64,
        records: Vec<(Record, Location)>,
    ) -> Result<(), Error> {
        for (record, location) in records {
            let damaged = |reason| Error::corruption(&segment.path, u64::from(location.offset), reason);
            self.written.apply(&record, location).map_err(damaged)?;
            match record {
                Record::Entry(entry) => {
                    // A copy: a slice would keep the whole segment in memory.
                    let payload = Bytes::copy_from_slice(&entry.payload);
                    self.view.push(&LogEntry { payload, ..entry }, 0);
                }
                Record::Vote(vote) => self.view.vote = Some(Bytes::copy_from_slice(&vote)),
                Record::Committed(id) => self.view.committed = Some(id),
                Record::TruncateFrom(index) => self.view.truncate_from(index),
                Record::Purged(id) => self.view.purge(id),
            }
        }
        // The copy here as well, for the same reason.
        self.written.vote.clone_from(&self.view.vote);
        self.view.evict(self.cache_bytes, 0);
        tracing::trace!(path = %segment.path.display(), offset, "replayed a batch");
        Ok(())
    }

    /// Refuses a log whose oldest segments are gone without having been purged.
    fn check_begin(&self, dir: &Path, first_segment: u64) -> Result<(), Error> {
        let whole = match self.written.purged {
            Some(purged) => self.written.first_index() == purged.index + 1,
            None => first_segment == 1,
        };
        if whole {
            return Ok(());
        }
        let missing: PathBuf = segment_path(dir, first_segment.saturating_sub(1));
        let reason = format!(
            "the segment is missing: the log begins with entry {:?}, purged is only {:?}",
            self.first_index,
            self.written.purged.map(|id| id.index)
        );
        Err(Error::corruption(missing, 0, reason))
    }
}

fn read_batch(segment: &Segment, bytes: &Bytes, offset: u64) -> Found {
    let (salt, position) = (segment.header.salt, segment.position(offset));
    let rest = bytes.slice((offset as usize).min(bytes.len())..);
    let bad = |reason: &str, bytes| Found::Bad { reason: reason.to_string(), bytes };
    let Some(header) = BatchHeader::decode(salt, position, &rest) else {
        let empty = rest.iter().take(SECTOR_BYTES).all(|&byte| byte == 0);
        return bad(if empty { "nothing is written here" } else { "this is not a batch" }, SECTOR);
    };
    if header.kind != BatchKind::Records {
        return Found::Mark(header.kind);
    }
    let end = BATCH_HEADER_BYTES + header.body_bytes as usize;
    if end > rest.len() {
        return bad("a batch is longer than its segment", header.stride());
    }
    let body = rest.slice(..end);
    let mut records = Vec::new();
    let mut at = BATCH_HEADER_BYTES;
    while at < end {
        match decode_record(salt, position, &body, at) {
            Ok((record, len)) => {
                let file_offset = offset as u32 + at as u32;
                let segment = segment.header.sequence;
                records.push((record, Location { segment, offset: file_offset, len: len as u32 }));
                at += len;
            }
            Err(reason) => return Found::Bad { reason, bytes: header.stride() },
        }
    }
    if records.len() != header.records as usize {
        return bad("a batch has another number of records than its header says", header.stride());
    }
    Found::Batch { header, records }
}

/// Decides about the end of the log at `offset`, where `bytes` are not a batch:
/// a crash can have torn them only if nothing shows that they were durable.
fn check_after(
    segment: &Segment,
    file: &Contents,
    offset: u64,
    bytes: u64,
    reason: &str,
) -> Result<(), Error> {
    if file.present < segment.header.file_bytes && offset + bytes > file.present {
        let reason =
            format!("the file is cut off at {} of {} bytes", file.present, segment.header.file_bytes);
        return Err(Error::corruption(&segment.path, offset, reason));
    }
    let mut later = offset + SECTOR;
    while later + SECTOR <= file.bytes.len() as u64 {
        let rest = &file.bytes[later as usize..];
        let header = BatchHeader::decode(segment.header.salt, segment.position(later), rest);
        if header.is_some_and(|header| header.synced > segment.position(offset)) {
            let reason = format!("{reason}, but the log goes on at offset {later}");
            return Err(Error::corruption(&segment.path, offset, reason));
        }
        later += SECTOR;
    }
    Ok(())
}

/// Makes the end of the log safe to write on: see the essay.
fn mend_tail(segment: &Segment, last_batch: u64, end: u64) -> std::io::Result<()> {
    let file = &*segment.file;
    let file_bytes = segment.header.file_bytes;
    let mut again = vec![0; (end - last_batch) as usize];
    if file.read_at(&mut again, last_batch)? != again.len() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    file.write_at(&again, last_batch)?;
    let present = file.len()?;
    if present < file_bytes {
        write_zeros(file, present, file_bytes)?;
    }
    let window = (end + MAX_BATCH_BYTES as u64).min(file_bytes);
    let mut behind = vec![0; (window - end) as usize];
    file.read_at(&mut behind, end)?;
    if behind.iter().any(|&byte| byte != 0) {
        write_zeros(file, end, window)?;
    }
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ReadOnlyDisk;

    /// A header of some bytes once made recovery take up to four gigabytes.
    #[test]
    fn a_declared_length_is_not_believed() {
        let header = SegmentHeader {
            sequence: 1,
            salt: 7,
            next_index: None,
            start_position: 0,
            file_bytes: MAX_SEGMENT_BYTES,
        };
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(segment_path(dir.path(), 1), header.encode()).expect("a write");
        let segment = open_segment(&ReadOnlyDisk, dir.path(), 1).expect("a header");
        assert_eq!(read_file(&segment).expect("a file").bytes.len() as u64, DATA_START);
        let error = read_back(&ReadOnlyDisk, dir.path(), 0).err().expect("the file is cut off");
        assert!(error.to_string().contains("cut off at 4096 of 1073741824"), "{error}");
    }
}
