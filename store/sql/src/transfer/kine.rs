//! Reading a database that only kine has written to, and following kine.
//!
//! kine draws ids from the table's counter, and some of them late: an id that is
//! left out is waited for, for a while. What kine compacts is gone at once: pages
//! are read in one state of the database together with how far that has come,
//! and all is read anew where it came further than this replica.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skiff_store::engine::Engine;
use skiff_store::mvcc::{Entry, Filler, Mvcc, MvccConfig};
use skiff_store::pb::etcdserverpb::CompactionRequest;
use skiff_store::pb::skiff::v1::command::Op;
use skiff_store::pb::skiff::v1::{Command, StoredState};
use skiff_store::{Error, Result};

use crate::core::{Engines, TERM, adopt, blocking, foreign, store_error};
use crate::db::{Database, DbError, Row, Session};

/// How far back an id that was left out may still be on its way.
const UNDECIDED: i64 = 1000;
/// How long a transaction of kine may take that has drawn an id.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between looks at ids that are on their way.
const PAUSE: Duration = Duration::from_millis(100);
/// How often progress is told.
const REPORT: Duration = Duration::from_secs(3);

/// A replica of a kine's database.
pub struct KineReader {
    db: Arc<dyn Database>,
    mvcc: Arc<Mvcc>,
    engines: Engines,
    /// Ids below this that are left out stay so.
    dead_below: i64,
    /// The newest id when it was last looked at, and when that was.
    horizon: (i64, Instant),
    index: u64,
}

impl KineReader {
    pub(super) async fn open(db: Arc<dyn Database>, dir: PathBuf) -> Result<Self> {
        let mut engines = Engines::new(Some(dir))?;
        let engine = empty(&mut engines)?;
        engines.installed();
        let mvcc = blocking(move || Mvcc::open(engine, MvccConfig::default())).await?;
        let mut session = db.session().await.map_err(failed)?;
        let newest = newest_id(session.as_mut()).await.map_err(failed)?;
        drop(session);
        let horizon = (newest, Instant::now());
        let mut reader = Self { db, mvcc, engines, dead_below: newest - UNDECIDED, horizon, index: 0 };
        reader.settle().await?;
        Ok(reader)
    }

    pub(super) fn mvcc(&self) -> &Arc<Mvcc> {
        &self.mvcc
    }

    /// Goes on until every id that is there now is decided and taken.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let mut session = self.db.session().await.map_err(failed)?;
        let newest = newest_id(session.as_mut()).await.map_err(failed)?;
        drop(session);
        let mut reported = Instant::now();
        loop {
            self.advance().await?;
            let revision = self.mvcc.revision();
            if revision >= newest {
                return Ok(());
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                tracing::info!(
                    revision,
                    newest,
                    "reading kine's table; ids that were left out are waited for"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes what is decided.
    pub(super) async fn advance(&mut self) -> Result<()> {
        let mut session = self.db.session().await.map_err(failed)?;
        session.begin_snapshot().await.map_err(failed)?;
        let done = self.read(session.as_mut()).await;
        let ended = session.rollback().await.map_err(failed);
        done.and(ended)
    }

    /// Reads what one state of the database has beyond the replica.
    async fn read(&mut self, session: &mut dyn Session) -> Result<()> {
        self.move_horizon(session).await.map_err(failed)?;
        let compacted = foreign::compacted(session).await.map_err(failed)?;
        if compacted > self.mvcc.revision() && self.mvcc.revision() > 0 {
            // Rows that told of deletions may be gone.
            tracing::warn!(compacted, "kine has compacted what was not read yet; reading all anew");
            let engine = empty(&mut self.engines)?;
            let mvcc = self.mvcc.clone();
            blocking(move || mvcc.install(engine)).await?;
            self.engines.installed();
        }
        loop {
            let before = self.mvcc.revision();
            let found = adopt::rows_after(session, before, i64::MAX).await.map_err(failed)?;
            let decided = self.decided(&found, before, compacted)?;
            let next = decided.last().map_or(Ok(before), |row| row.int(0)).map_err(failed)?;
            let mut commands = match next > before {
                true => adopt::commands(&self.mvcc, &decided, next).map_err(failed)?,
                false => Vec::new(),
            };
            if compacted > self.mvcc.compact_revision() && compacted <= next {
                let request = CompactionRequest { revision: compacted, physical: false };
                commands.push(Command::from(Op::Compact(request)));
            }
            if commands.is_empty() {
                return Ok(());
            }
            self.apply(commands).await?;
        }
    }

    /// The rows behind `before` up to an id that may still be on its way.
    fn decided<'a>(&self, rows: &'a [Row], before: i64, compacted: i64) -> Result<Vec<&'a Row>> {
        let mut next = before;
        let mut decided = Vec::new();
        for row in rows {
            let id = row.int(0).map_err(failed)?;
            if id != next + 1 && id > self.dead_below.max(compacted + 1) {
                break;
            }
            next = id;
            decided.push(row);
        }
        Ok(decided)
    }

    async fn apply(&mut self, commands: Vec<Command>) -> Result<()> {
        self.index += 1;
        let entry = Entry { term: TERM, index: self.index, position: Bytes::new(), commands };
        let mvcc = self.mvcc.clone();
        let outcomes = blocking(move || mvcc.apply(&[entry])).await?;
        let mut replies = outcomes.into_iter().flat_map(|outcome| outcome.replies);
        // Nothing in these commands may fail.
        replies.find_map(Result::err).map_or(Ok(()), Err)
    }

    /// An id that was left out below the newest one stays so once no
    /// transaction can be under way any more that drew it.
    async fn move_horizon(&mut self, session: &mut dyn Session) -> Result<(), DbError> {
        let (newest, seen) = self.horizon;
        if seen.elapsed() >= PATIENCE {
            self.dead_below = self.dead_below.max(newest);
            self.horizon = (newest_id(session).await?, Instant::now());
        }
        Ok(())
    }
}

/// An engine of a state in which nothing ever happened. Unlike in etcd's, a key may
/// have been written at revision 1.
fn empty(engines: &mut Engines) -> Result<Arc<dyn Engine>> {
    let engine = engines.make()?;
    let mut filler = Filler::new(engine.clone())?;
    filler.fresh_state(StoredState { compact_revision: -1, sparse: true, ..Default::default() });
    filler.finish()?;
    Ok(engine)
}

fn failed(error: DbError) -> Error {
    store_error(&error)
}

async fn newest_id(session: &mut dyn Session) -> Result<i64, DbError> {
    let rows = session.query("SELECT MAX(id) FROM kine", &[]).await?;
    Ok(rows.first().map(|row| row.opt_int(0)).transpose()?.flatten().unwrap_or(0))
}
