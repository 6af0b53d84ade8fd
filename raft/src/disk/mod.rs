//! The disk, behind a seam.
//!
//! Everything the log keeps goes through [`Disk`] and [`DiskFile`], so that a
//! test or a simulator can put [`SimDisk`] there: a disk in memory that loses
//! and tears what was not synced, runs full, fails and flips bits, all from a
//! seed. [`RealDisk`] is `std::fs`.
//!
//! # The durability contract
//!
//! - What [`DiskFile::write_at`] wrote is readable at once but survives a
//!   crash only after a later [`DiskFile::sync`] of that file returned `Ok`.
//!   Until then any subset of the written sectors may be on the medium.
//! - A sector of [`SECTOR_BYTES`] holds either its old or its new bytes after
//!   a crash, nothing in between.
//! - After a `sync` that failed nothing may be concluded about the bytes
//!   written before it, not even by syncing again: the page cache may have
//!   marked them clean. They must be written again elsewhere.
//! - Names (create, rename, remove) survive a crash only after a later
//!   [`Disk::sync_dir`] of their directory returned `Ok`; until then a prefix
//!   of the changes, in their order, may be on the medium. A rename is atomic.
//!
//! The calls block and belong on a dedicated thread, never on an async worker.

mod read_only;
mod real;
mod sim;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use read_only::ReadOnlyDisk;
pub use real::RealDisk;
pub use sim::{Fault, SimDisk};

/// What a disk writes as a whole: 512 bytes, the smallest logical sector in use.
pub const SECTOR_BYTES: usize = 512;

/// A file system, as far as the log needs one.
pub trait Disk: Send + Sync + 'static {
    /// Creates `dir` and its parents where they are missing.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Names (not paths) of the files in `dir`, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens an existing file to read and write; `NotFound` where there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates an empty file, replacing one of that name.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name in the same directory, replacing one of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; files still open stay readable through their handle.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. All calls take positions: there is no cursor to share.
pub trait DiskFile: Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads until `buf` is full or the file ends; returns the bytes read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf`, growing the file where it ends before.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the written bytes, and the length needed to read them, durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
}
