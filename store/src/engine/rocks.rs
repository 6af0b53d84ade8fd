//! The engine of production: RocksDB.
//!
//! Its own write-ahead log is off: the replicated log above is the log. All
//! column families are flushed together (`atomic_flush`), so that a crash
//! leaves the state of one moment. Closing flushes too.
//!
//! # Damage
//!
//! RocksDB checks sums of blocks on every read, of the manifest's records at
//! opening, and that every table named by the manifest is there, with its size
//! and identity: all of these come out as [`Error::Corruption`] with the file.
//! [`RocksOptions::verify`] reads everything at opening.
//!
//! A full disk makes writes and flushes fail with [`Error::Storage`], reads go
//! on; some seconds after there is room again for half of
//! [`RocksOptions::memtable_bytes`], everything works again by itself.
//!
//! Not detected here: a manifest cut off at its end (as by a crash) takes back
//! the last flushes. The state is then an older one of the same history, and the
//! log above must notice when it cannot replay from there.

#[cfg(test)]
mod full_disk;
mod mirror;
mod options;
mod snapshot;
#[cfg(test)]
pub(in crate::engine) mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, ErrorKind, FlushOptions, WriteBatch,
    WriteOptions, properties,
};

use super::{Batch, Cf, Engine, EngineSize, Op, Snapshot};
use crate::error::{Error, Result};
use crate::metrics::COMMIT_SECONDS;
pub use mirror::mirror;
pub use options::RocksOptions;
use snapshot::RocksSnapshot;

/// About how much one step of [`RocksEngine::reclaim`] rewrites, in bytes.
const RECLAIM_STEP: u64 = 128 << 20;

/// How long a write waits before it looks again whether RocksDB has caught up.
const STALL_PAUSE: Duration = Duration::from_millis(2);
/// After how many failures in the background, one a second, such a write fails.
const FAILURES_WHILE_BEHIND: u64 = 5;

/// An [`Engine`] over RocksDB.
pub struct RocksEngine {
    db: Arc<DB>,
    write: WriteOptions,
}

impl RocksEngine {
    /// Opens the database in `dir`, or creates it where `dir` is missing or
    /// empty. Creation is atomic: `dir` never holds half a database.
    ///
    /// # Errors
    /// [`Error::Corruption`] where something in `dir` is damaged or missing;
    /// [`Error::Storage`] for the rest, a database in use by another process
    /// among it.
    pub fn open(dir: &Path, options: &RocksOptions) -> Result<Self> {
        if is_vacant(dir)? {
            create(dir, options)?;
        } else if !dir.join("CURRENT").exists() {
            return Err(Error::Corruption(format!("{}: CURRENT is missing", dir.display())));
        }
        let engine = Self::open_at(dir, options, false)?;
        if options.verify {
            engine.verify()?;
        }
        Ok(engine)
    }

    /// Opens or creates, in place.
    fn open_at(dir: &Path, options: &RocksOptions, create: bool) -> Result<Self> {
        let db = options.database(create)?;
        let db = DB::open_cf_descriptors(&db, dir, options.families()?).map_err(|e| open_error(dir, e))?;
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        // RocksDB itself would wait without end for a flush that a full disk
        // keeps from ending: `write` waits instead.
        write.set_no_slowdown(true);
        Ok(Self { db: Arc::new(db), write })
    }

    /// Reads everything, which checks the sums of all blocks that hold it.
    ///
    /// # Errors
    /// [`Error::Corruption`] naming the file, at the first damage.
    pub fn verify(&self) -> Result<()> {
        let snapshot = self.snapshot();
        for cf in Cf::ALL {
            let mut cursor = snapshot.cursor(cf, false);
            cursor.seek(&[])?;
            while cursor.valid() {
                cursor.next()?;
            }
        }
        Ok(())
    }

    /// Pieces of about [`RECLAIM_STEP`] bytes that cover a column family: the
    /// keys between them, in order.
    fn pieces(&self, cf: Cf) -> Result<Vec<Vec<u8>>> {
        let files = self.db.live_files().map_err(|e| error("list the tables", e))?;
        let mut files: Vec<_> = files
            .into_iter()
            .filter(|f| f.column_family_name == cf.name())
            .filter_map(|f| Some((f.start_key?, f.size as u64)))
            .collect();
        files.sort();
        let (mut cuts, mut size) = (Vec::new(), 0);
        for (start, bytes) in files {
            if size >= RECLAIM_STEP {
                cuts.push(start);
                size = 0;
            }
            size += bytes;
        }
        Ok(cuts)
    }

    /// As [`Engine::reclaim`], but rewrites everything, which gives back the
    /// most; tells after each piece how many of how many are done.
    ///
    /// # Errors
    /// [`Error::Storage`] where the disk fails or is full.
    pub fn reclaim_all(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
        self.compact(BottommostLevelCompaction::Force, progress)
    }

    fn compact(
        &self,
        bottommost: BottommostLevelCompaction,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        self.check_writable()?;
        let failed_before = self.background_errors();
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(bottommost);
        let cuts = Cf::ALL.iter().map(|cf| Ok((*cf, self.pieces(*cf)?))).collect::<Result<Vec<_>>>()?;
        let pieces = cuts.iter().map(|(_, cuts)| cuts.len() + 1).sum();
        let mut done = 0;
        for (cf, cuts) in cuts {
            let starts = std::iter::once(None).chain(cuts.iter().map(Some));
            let ends = cuts.iter().map(Some).chain(std::iter::once(None));
            for (start, end) in starts.zip(ends) {
                self.db.compact_range_cf_opt(family(&self.db, cf)?, start, end, &options);
                if self.background_errors() > failed_before {
                    return Err(Error::Storage(format!("reclaim {}: compaction failed", cf.name())));
                }
                done += 1;
                progress(done, pieces);
            }
        }
        Ok(())
    }

    /// Fails while RocksDB has stopped, as after a full disk. Every flush asked
    /// for in that state takes a second of its recovery, so none may be.
    fn check_writable(&self) -> Result<()> {
        match self.db.write_opt(WriteBatch::default(), &self.write) {
            Err(e) if !is_stall(&e) => Err(error("write", e)),
            _ => Ok(()),
        }
    }

    /// A batch in RocksDB's form.
    fn translate(&self, batch: &Batch) -> Result<WriteBatch> {
        let mut out = WriteBatch::with_capacity_bytes(batch.ops.iter().map(op_size).sum());
        for op in &batch.ops {
            match op {
                Op::Put(cf, key, value) => out.put_cf(family(&self.db, *cf)?, key, value),
                Op::Delete(cf, key) => out.delete_cf(family(&self.db, *cf)?, key),
                // RocksDB fails on reversed bounds in the middle of the batch.
                Op::DeleteRange(cf, from, to) if from < to => {
                    out.delete_range_cf(family(&self.db, *cf)?, from, to);
                }
                Op::DeleteRange(..) => {}
            }
        }
        Ok(out)
    }

    /// How often work in the background failed.
    fn background_errors(&self) -> u64 {
        self.db.property_int_value(properties::BACKGROUND_ERRORS).ok().flatten().unwrap_or(0)
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: Batch) -> Result<()> {
        let _timer = COMMIT_SECONDS.start_timer();
        let mut failed_before = None;
        loop {
            let stall = match self.db.write_opt(self.translate(&batch)?, &self.write) {
                Err(e) if is_stall(&e) => e,
                done => return done.map_err(|e| error("write", e)),
            };
            let failed = self.background_errors();
            if failed >= *failed_before.get_or_insert(failed) + FAILURES_WHILE_BEHIND {
                return Err(error("write: flushes fail", stall));
            }
            std::thread::sleep(STALL_PAUSE);
        }
    }

    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(RocksSnapshot::new(self.db.clone()))
    }

    fn flush(&self) -> Result<()> {
        self.check_writable()?;
        let families = Cf::ALL.iter().map(|cf| family(&self.db, *cf)).collect::<Result<Vec<_>>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(|e| error("flush", e))
    }

    fn checkpoint(&self, dir: &Path) -> Result<()> {
        self.check_writable()?;
        // Flushes everything, all families together, before it links the tables.
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(|e| error(&format!("checkpoint to {}", dir.display()), e))
    }

    fn reclaim(&self) -> Result<()> {
        // What lies at the bottom is compact already.
        self.compact(BottommostLevelCompaction::IfHaveCompactionFilter, &mut |_, _| {})
    }

    fn size(&self) -> EngineSize {
        let property = |cf: Cf, name: &_| {
            let family = self.db.cf_handle(cf.name())?;
            self.db.property_int_value_cf(family, name).ok()?
        };
        let of = |cf: &Cf| {
            property(*cf, properties::LIVE_SST_FILES_SIZE).unwrap_or(0)
                + property(*cf, properties::CUR_SIZE_ALL_MEM_TABLES).unwrap_or(0)
        };
        EngineSize { total: Cf::ALL.iter().map(of).sum() }
    }
}

/// The handle of a column family.
fn family(db: &DB, cf: Cf) -> Result<&ColumnFamily> {
    db.cf_handle(cf.name())
        .ok_or_else(|| Error::Corruption(format!("column family {} is missing", cf.name())))
}

/// About what an operation takes in a write batch.
fn op_size(op: &Op) -> usize {
    const HEADER: usize = 12;
    HEADER
        + match op {
            Op::Put(_, key, value) => key.len() + value.len(),
            Op::Delete(_, key) => key.len(),
            Op::DeleteRange(_, from, to) => from.len() + to.len(),
        }
}

/// True where RocksDB would have had the write wait.
fn is_stall(e: &rocksdb::Error) -> bool {
    e.kind() == ErrorKind::Incomplete && e.as_ref().contains("Write stall")
}

/// Classes an error of RocksDB.
fn error(what: &str, e: rocksdb::Error) -> Error {
    match e.kind() {
        ErrorKind::Corruption => Error::Corruption(format!("{what}: {e}")),
        _ => Error::Storage(format!("{what}: {e}")),
    }
}

/// Classes an error of opening: there, a missing file is damage.
fn open_error(dir: &Path, e: rocksdb::Error) -> Error {
    const DAMAGE: [&str; 3] = ["No such file or directory", "Column family not found", "CURRENT file"];
    let what = format!("open {}", dir.display());
    if DAMAGE.iter().any(|text| e.as_ref().contains(text)) {
        return Error::Corruption(format!("{what}: {e}"));
    }
    error(&what, e)
}

/// True where there is nothing at `dir`, or an empty directory.
fn is_vacant(dir: &Path) -> Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::Storage(format!("read {}: {e}", dir.display()))),
    }
}

/// Creates a database beside `dir` and moves it there: a crash half-way leaves
/// nothing that could be taken for a damaged database.
fn create(dir: &Path, options: &RocksOptions) -> Result<()> {
    let mut name = dir.file_name().map_or_else(|| OsString::from("db"), ToOwned::to_owned);
    name.push(".new");
    let new = dir.with_file_name(name);
    let parent = match dir.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let io = |e: std::io::Error| Error::Storage(format!("create {}: {e}", dir.display()));
    std::fs::create_dir_all(&parent).map_err(io)?;
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(io)?;
    }
    drop(RocksEngine::open_at(&new, options, true)?);
    std::fs::rename(&new, dir).map_err(io)?;
    std::fs::File::open(&parent).and_then(|parent| parent.sync_all()).map_err(io)
}
