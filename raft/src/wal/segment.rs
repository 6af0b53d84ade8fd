use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::format::{DATA_START, LogEntry, Record, SegmentHeader, decode_record};
use crate::disk::DiskFile;

const SUFFIX: &str = ".wal";

/// Where a durable entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u64,
    pub(super) offset: u32,
    /// Bytes of the record.
    pub(super) len: u32,
}

/// A segment file in use.
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

impl Segment {
    /// Position in the log of an offset in this file.
    pub(super) fn position(&self, offset: u64) -> u64 {
        self.header.start_position + offset - DATA_START
    }

    /// Reads the entry at `location`, checking it.
    pub(super) fn read_entry(&self, location: Location) -> Result<LogEntry, Error> {
        let offset = u64::from(location.offset);
        let mut buf = vec![0; location.len as usize];
        let read = self.file.read_at(&mut buf, offset).map_err(Error::io("read", &self.path))?;
        buf.truncate(read);
        self.decode_entry(offset, &Bytes::from(buf))
    }

    fn decode_entry(&self, offset: u64, bytes: &Bytes) -> Result<LogEntry, Error> {
        let damaged = |reason: String| Error::corruption(&self.path, offset, reason);
        match decode_record(self.header.salt, self.position(offset), bytes, 0) {
            Ok((Record::Entry(entry), _)) => Ok(entry),
            Ok(_) => Err(damaged("an entry was expected".to_string())),
            Err(reason) => Err(damaged(reason)),
        }
    }
}

/// Path of the segment with that number.
pub(super) fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}{SUFFIX}"))
}

/// Number of the segment of that file name, if it is one.
pub(super) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}
