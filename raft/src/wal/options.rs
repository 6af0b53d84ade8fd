use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Error;
use super::format::{
    BATCH_HEADER_BYTES, DATA_START, MAX_BATCH_BYTES, MAX_SEGMENT_BYTES, RECORD_OVERHEAD_BYTES,
};
use crate::disk::SECTOR_BYTES;

/// Room a batch keeps for the records a new segment begins with.
const CARRY_BYTES: usize = 4096;

/// Settings of the log; all defaults stand here.
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// The directory, `<data-dir>/member/wal`.
    pub dir: PathBuf,
    /// Size of a segment file. A whole segment is written with zeros once, so
    /// larger ones cost start-up time on slow disks, smaller ones change files
    /// more often.
    pub segment_bytes: u64,
    /// Segments kept ready to be written, purged ones reused first. They are
    /// the room left once the disk is full, so at least one.
    pub spare_segments: usize,
    /// Bytes of recent entries kept in memory. 64 MiB is the log of some
    /// seconds of heavy writing, so that a peer that lags by a garbage
    /// collection pause is still served from memory, and an eighth of the
    /// memory of a 512 MiB machine at worst; payloads share their buffers with
    /// the requests they came in.
    pub cache_bytes: usize,
    /// Bytes that may wait to be written; an append beyond waits. It bounds
    /// what a slow disk holds in memory. Rounded up to KiB.
    pub queue_bytes: usize,
    /// A sync slower than this is logged as a warning, as etcd does.
    pub slow_sync: Duration,
    /// First pause before a failed write is tried again; doubled up to
    /// `retry_max`.
    pub retry_min: Duration,
    /// Longest pause before a failed write is tried again.
    pub retry_max: Duration,
    /// Whether spare segments are prepared by a thread of their own. Off, the
    /// writer prepares them when it needs them: slower, but one thread only,
    /// as a simulator wants it.
    pub background_spares: bool,
}

impl WalOptions {
    /// The defaults, for a log in `dir`.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self {
            dir: dir.as_ref().to_path_buf(),
            segment_bytes: 64 << 20,
            spare_segments: 2,
            cache_bytes: 64 << 20,
            queue_bytes: 32 << 20,
            slow_sync: Duration::from_secs(1),
            retry_min: Duration::from_millis(20),
            retry_max: Duration::from_secs(2),
            background_spares: true,
        }
    }

    /// Bytes of records one batch may carry.
    pub(super) fn batch_limit(&self) -> usize {
        let segment = (self.segment_bytes - DATA_START) as usize;
        segment.min(MAX_BATCH_BYTES) - BATCH_HEADER_BYTES - CARRY_BYTES
    }

    /// Bytes the payload of one entry may take.
    pub(super) fn entry_limit(&self) -> usize {
        self.batch_limit() - RECORD_OVERHEAD_BYTES
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        let least = DATA_START + 2 * CARRY_BYTES as u64 + 4 * SECTOR_BYTES as u64;
        if self.segment_bytes < least || !self.segment_bytes.is_multiple_of(SECTOR_BYTES as u64) {
            let text = format!("segment_bytes {} is below {least} or not whole sectors", self.segment_bytes);
            return Err(Error::Options(text));
        }
        if self.segment_bytes > MAX_SEGMENT_BYTES {
            return Err(Error::Options(format!("segment_bytes {} is above 1 GiB", self.segment_bytes)));
        }
        if self.spare_segments == 0 || self.queue_bytes == 0 {
            return Err(Error::Options("spare_segments and queue_bytes must not be 0".to_string()));
        }
        Ok(())
    }
}
