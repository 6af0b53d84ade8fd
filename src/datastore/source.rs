//! What is moved: a replica of the source that nobody else knows.

use std::path::Path;
use std::sync::Arc;

use skiff_sql::db::{self, PoolOptions};
use skiff_sql::transfer::Reader;
use skiff_store::archive::Checksum;
use skiff_store::engine::rocks::{RocksEngine, RocksOptions};
use skiff_store::mvcc::{Mvcc, MvccConfig};

use super::blocking;
use super::following::Following;
use super::place::Place;
use crate::util::arguments::Arguments;
use crate::util::source as files;

/// A source that is open.
pub(super) enum Source {
    /// A database, and what follows it.
    Database(Reader),
    /// A running etcd.
    Etcd(Box<Following>),
    /// Files, which do not change.
    Files { mvcc: Arc<Mvcc>, _opened: Box<files::Source> },
}

impl Source {
    /// Reads all that the place holds into a replica below `scratch`.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn open(place: &Place, scratch: &Path, arguments: &Arguments) -> Result<Self, String> {
        let dir = scratch.join("source");
        match place {
            Place::Database(endpoint) => {
                // A database that is to be read is not to be made.
                let options = PoolOptions { create: false, ..PoolOptions::default() };
                let db = db::connect(endpoint, &options).await.map_err(|e| e.to_string())?;
                Reader::open(db, dir).await.map(Source::Database).map_err(|error| error.to_string())
            }
            Place::Etcd(etcd, login) => {
                Following::start(etcd, login, dir).await.map(Box::new).map(Source::Etcd)
            }
            Place::DataDir(path) => opened(files::Place::DataDir(path.clone()), arguments).await,
            Place::Snapshot(path) => opened(files::Place::Snapshot(path.clone()), arguments).await,
        }
    }

    /// The replica.
    pub(super) fn mvcc(&self) -> &Arc<Mvcc> {
        match self {
            Source::Database(reader) => reader.mvcc(),
            Source::Etcd(following) => following.mvcc(),
            Source::Files { mvcc, .. } => mvcc,
        }
    }

    /// What tells this store from others; 0 where nothing does.
    pub(super) fn identity(&self) -> u64 {
        match self {
            Source::Database(reader) => reader.identity(),
            Source::Etcd(following) => following.identity(),
            Source::Files { .. } => 0,
        }
    }

    /// Brings the replica to where the source is now.
    ///
    /// # Errors
    /// A sentence; what passes has been tried again before.
    pub(super) async fn advance(&mut self) -> Result<(), String> {
        match self {
            Source::Database(reader) => reader.advance().await.map_err(|error| error.to_string()),
            Source::Etcd(following) => following.advance().await,
            Source::Files { .. } => Ok(()),
        }
    }

    /// As [`Source::advance`], with what a source does not tell by the way:
    /// leases without keys.
    ///
    /// # Errors
    /// As [`Source::advance`].
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        self.arrive().await?;
        match self {
            Source::Etcd(following) => following.settle().await,
            _ => Ok(()),
        }
    }

    /// As [`Source::advance`], and waits for what may still be on its way.
    ///
    /// # Errors
    /// As [`Source::advance`].
    pub(super) async fn arrive(&mut self) -> Result<(), String> {
        match self {
            Source::Database(reader) => reader.settle().await.map_err(|error| error.to_string()),
            _ => self.advance().await,
        }
    }

    /// Whether something may still be written to it.
    pub(super) fn is_live(&self) -> bool {
        !matches!(self, Source::Files { .. })
    }
}

/// The state in files.
async fn opened(place: files::Place, arguments: &Arguments) -> Result<Source, String> {
    let arguments = arguments.clone();
    blocking(move || {
        let opened = files::Source::open(&place, &arguments)?;
        Ok(Source::Files { mvcc: opened.state()?.mvcc, _opened: Box::new(opened) })
    })
    .await
}

/// The state in a snapshot, unpacked in `dir`.
pub(super) fn unpacked(path: &Path, dir: &Path) -> Result<Arc<Mvcc>, String> {
    let failed = |error: skiff_store::Error| format!("{}: {error}", path.display());
    let file = files::open_snapshot(path)?;
    files::unpack_snapshot(file, Checksum::Compare, dir).map_err(failed)?;
    let options = RocksOptions { compact: false, ..RocksOptions::default() };
    let engine = RocksEngine::open(dir, &options).map_err(failed)?;
    Mvcc::open(Arc::new(engine), MvccConfig::default()).map_err(failed)
}
