//! Reading a database and following what is written there.

use std::path::PathBuf;
use std::sync::Arc;

use skiff_store::mvcc::Mvcc;
use skiff_store::{Error, Result};

use super::{kine::KineReader, ours::OursReader, refuse_unfinished};
use crate::core::store_error;
use crate::db::{Database, DbErrorKind};

/// A replica of what a database holds, of which nobody else knows.
pub enum Reader {
    /// Of a store of ours.
    #[doc(hidden)]
    Ours(OursReader),
    /// Of a database that only kine has written to.
    #[doc(hidden)]
    Kine(KineReader),
}

impl Reader {
    /// Reads the database as it is now. The replica lies in `dir`.
    ///
    /// # Errors
    /// The database fails, or holds neither our tables nor kine's.
    pub async fn open(db: Arc<dyn Database>, dir: PathBuf) -> Result<Self> {
        match has_rows(db.as_ref(), "skiff_head").await? {
            Some(true) => {
                refuse_unfinished(db.as_ref()).await?;
                return OursReader::open(db, dir).await.map(Reader::Ours);
            }
            // The tables of a store that was never opened: as good as none.
            Some(false) => refuse_unfinished(db.as_ref()).await?,
            None => {}
        }
        match has_rows(db.as_ref(), "kine").await? {
            Some(true) => KineReader::open(db, dir).await.map(Reader::Kine),
            _ => Err(Error::Other("there is no table kine with rows in this database".to_owned())),
        }
    }

    /// The replica.
    pub fn mvcc(&self) -> &Arc<Mvcc> {
        match self {
            Reader::Ours(reader) => reader.mvcc(),
            Reader::Kine(reader) => reader.mvcc(),
        }
    }

    /// Tells this database from others, as far as that can be told.
    pub fn identity(&self) -> u64 {
        match self {
            Reader::Ours(reader) => reader.identity(),
            Reader::Kine(_) => 0,
        }
    }

    /// Brings the replica to where the database is now, for certain: ids that may
    /// still be on their way are waited for.
    ///
    /// # Errors
    /// As [`Reader::advance`].
    pub async fn settle(&mut self) -> Result<()> {
        match self {
            Reader::Ours(reader) => reader.advance().await,
            Reader::Kine(reader) => reader.settle().await,
        }
    }

    /// Brings the replica to where the database is now, as far as that is decided.
    ///
    /// # Errors
    /// The database failed: to be tried again.
    pub async fn advance(&mut self) -> Result<()> {
        match self {
            Reader::Ours(reader) => reader.advance().await,
            Reader::Kine(reader) => reader.advance().await,
        }
    }
}

/// Whether a table has rows; `None` where there is no such table.
async fn has_rows(db: &dyn Database, table: &str) -> Result<Option<bool>> {
    let read = async {
        let mut session = db.session().await?;
        session.query(&format!("SELECT id FROM {table} LIMIT 1"), &[]).await
    };
    match read.await {
        Ok(rows) => Ok(Some(!rows.is_empty())),
        Err(error) if error.kind() == DbErrorKind::Missing => Ok(None),
        Err(error) => Err(store_error(&error)),
    }
}
