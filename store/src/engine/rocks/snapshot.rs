//! Snapshots and cursors of RocksDB.

use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{DB, DBRawIterator, ReadOptions};
use self_cell::self_cell;

use super::{error, family};
use crate::engine::{Cf, Cursor, Snapshot};
use crate::error::Result;
use crate::metrics::OPEN_READS;

/// A snapshot, and the options of a read through it, made once.
struct View<'a> {
    read: ReadOptions,
    snapshot: rocksdb::Snapshot<'a>,
}

self_cell!(
    /// A snapshot together with the database it borrows from.
    struct Held {
        owner: Arc<DB>,
        #[covariant]
        dependent: View,
    }
);

/// A [`Snapshot`] that keeps its database open.
pub(super) struct RocksSnapshot(Held);

impl RocksSnapshot {
    /// Takes a snapshot.
    pub(super) fn new(db: Arc<DB>) -> Self {
        OPEN_READS.inc();
        Self(Held::new(db, |db| {
            let snapshot = db.snapshot();
            let mut read = ReadOptions::default();
            read.set_snapshot(&snapshot);
            View { read, snapshot }
        }))
    }
}

impl Drop for RocksSnapshot {
    fn drop(&mut self) {
        OPEN_READS.dec();
    }
}

impl Snapshot for RocksSnapshot {
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>> {
        let db = self.0.borrow_owner();
        db.get_pinned_cf_opt(family(db, cf)?, key, &self.0.borrow_dependent().read)
            .map(|value| value.map(|v| Bytes::copy_from_slice(&v)))
            .map_err(|e| error(cf.name(), e))
    }

    fn cursor(&self, cf: Cf, fill_cache: bool) -> Box<dyn Cursor + '_> {
        let mut read = ReadOptions::default();
        read.fill_cache(fill_cache);
        let iter = family(self.0.borrow_owner(), cf)
            .map(|family| self.0.borrow_dependent().snapshot.raw_iterator_cf_opt(family, read));
        Box::new(RocksCursor { iter, cf })
    }
}

/// A [`Cursor`] over RocksDB.
struct RocksCursor<'a> {
    /// An error where the column family is missing.
    iter: Result<DBRawIterator<'a>>,
    cf: Cf,
}

impl<'a> RocksCursor<'a> {
    /// Moves; an end that is an error is not taken for the end of the data.
    fn step(&mut self, step: impl FnOnce(&mut DBRawIterator<'a>)) -> Result<()> {
        let iter = self.iter.as_mut().map_err(|e| e.clone())?;
        step(iter);
        if iter.valid() {
            return Ok(());
        }
        iter.status().map_err(|e| error(self.cf.name(), e))
    }
}

impl Cursor for RocksCursor<'_> {
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.step(|iter| iter.seek(key))
    }

    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()> {
        self.step(|iter| iter.seek_for_prev(key))
    }

    fn next(&mut self) -> Result<()> {
        self.step(DBRawIterator::next)
    }

    fn prev(&mut self) -> Result<()> {
        self.step(DBRawIterator::prev)
    }

    fn valid(&self) -> bool {
        self.iter.as_ref().is_ok_and(DBRawIterator::valid)
    }

    fn key(&self) -> &[u8] {
        self.iter.as_ref().ok().and_then(DBRawIterator::key).unwrap_or_default()
    }

    fn value(&self) -> &[u8] {
        self.iter.as_ref().ok().and_then(DBRawIterator::value).unwrap_or_default()
    }
}
