//! Reading a store of ours, and following its log.

use std::path::PathBuf;
use std::sync::Arc;

use skiff_store::mvcc::{Entry, Mvcc, MvccConfig};
use skiff_store::{Error, Result};

use crate::core::tail::Tail;
use crate::core::{Engines, blocking, cluster_id, log, read_head, read_only, store_error};
use crate::db::{Database, DbError};

/// Entries read at once.
const PAGE: usize = 32;

/// A replica of a store of ours.
pub struct OursReader {
    db: Arc<dyn Database>,
    mvcc: Arc<Mvcc>,
    engines: Engines,
    cluster_id: u64,
    tail: Tail,
}

impl OursReader {
    pub(super) async fn open(db: Arc<dyn Database>, dir: PathBuf) -> Result<Self> {
        let cluster_id = cluster_id(db.as_ref()).await?;
        let mut engines = Engines::new(Some(dir))?;
        let engine = engines.make()?;
        let loaded = read_only(db.as_ref(), engine.clone()).await?;
        engines.installed();
        let tail = Tail::default();
        loaded.note(&tail);
        let mvcc = blocking(move || Mvcc::open(engine, MvccConfig::default())).await?;
        Ok(Self { db, mvcc, engines, cluster_id, tail })
    }

    pub(super) fn mvcc(&self) -> &Arc<Mvcc> {
        &self.mvcc
    }

    pub(super) fn identity(&self) -> u64 {
        self.cluster_id
    }

    pub(super) async fn advance(&mut self) -> Result<()> {
        let failed = |error: DbError| store_error(&error);
        let mut session = self.db.session().await.map_err(failed)?;
        let head = read_head(session.as_mut(), self.db.dialect()).await.map_err(failed)?;
        if head.newest_row > head.revision {
            return Err(Error::Unavailable(
                "kine writes into this database, and no skiff beside it takes its rows over: start `skiff kine` \
                 on it, or stop kine and start `skiff kine` once"
                    .to_owned(),
            ));
        }
        if head.index < self.mvcc.applied_index() || self.tail.contradicts(&head) {
            return Err(gone_back());
        }
        while self.mvcc.applied_index() < head.index {
            let applied = self.mvcc.applied_index();
            let mut entries = log::read(session.as_mut(), applied, PAGE).await.map_err(failed)?;
            if entries.first().is_some_and(|(entry, _)| entry.index == applied) {
                let (_, writer) = entries.remove(0);
                if self.tail.of(applied).is_some_and(|known| known != writer) {
                    return Err(gone_back());
                }
            }
            let (entries, writers): (Vec<Entry>, Vec<String>) = entries.into_iter().unzip();
            if entries.first().is_none_or(|entry| entry.index != applied + 1) {
                drop(session);
                return self.reload().await;
            }
            let mvcc = self.mvcc.clone();
            blocking(move || mvcc.apply(&entries)).await?;
            if let Some(writer) = writers.into_iter().next_back() {
                self.tail.note(self.mvcc.applied_index(), writer);
            }
        }
        Ok(())
    }

    /// The log does not reach back to the replica.
    async fn reload(&mut self) -> Result<()> {
        let engine = self.engines.make()?;
        let loaded = read_only(self.db.as_ref(), engine.clone()).await?;
        if loaded.index < self.mvcc.applied_index() || loaded.revision < self.mvcc.revision() {
            return Err(gone_back());
        }
        let mvcc = self.mvcc.clone();
        blocking(move || mvcc.install(engine)).await?;
        loaded.note(&self.tail);
        self.engines.installed();
        Ok(())
    }
}

fn gone_back() -> Error {
    Error::Other(
        "the source has gone back to an earlier or another state, as after a failover to a replica that was behind: \
         run again with --restart"
            .to_owned(),
    )
}
