//! Reading a database that only kine has written to, and following kine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use skiff_store::mvcc::{Entry, Filler, Mvcc, MvccConfig};
use skiff_store::pb::etcdserverpb::CompactionRequest;
use skiff_store::pb::skiff::v1::command::Op;
use skiff_store::pb::skiff::v1::{Command, StoredState};
use skiff_store::{Error, Result};

use crate::core::{Engines, TERM, adopt, blocking, foreign, store_error};
use crate::db::{Database, DbError, Session, Value};

/// How far back an id that was left out may still be on its way.
const UNDECIDED: i64 = 1000;
/// How long a transaction of kine may take that has drawn an id.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between looks at ids that are on their way.
const PAUSE: Duration = Duration::from_millis(100);
/// How often progress is told.
const REPORT: Duration = Duration::from_secs(3);

/// A replica of a kine's database. kine draws ids from the table's counter, and
/// some of them late: an id that is left out is waited for, for a while.
pub struct KineReader {
    db: Arc<dyn Database>,
    mvcc: Arc<Mvcc>,
    _engines: Engines,
    /// Ids below this that are left out stay so.
    dead_below: i64,
    /// The newest id when it was last looked at, and when that was.
    horizon: (i64, Instant),
    index: u64,
}

impl KineReader {
    pub(super) async fn open(db: Arc<dyn Database>, dir: PathBuf) -> Result<Self> {
        let mut engines = Engines::new(Some(dir))?;
        let engine = engines.make()?;
        engines.installed();
        let mut filler = Filler::new(engine.clone())?;
        // Unlike in etcd's, a key may have been written at revision 1.
        filler.fresh_state(StoredState { compact_revision: -1, sparse: true, ..Default::default() });
        filler.finish()?;
        let mvcc = blocking(move || Mvcc::open(engine, MvccConfig::default())).await?;
        let mut reader =
            Self { db, mvcc, _engines: engines, dead_below: 0, horizon: (0, Instant::now()), index: 0 };
        let mut session = reader.db.session().await.map_err(failed)?;
        let newest = newest_id(session.as_mut()).await.map_err(failed)?;
        drop(session);
        reader.dead_below = newest - UNDECIDED;
        reader.horizon = (newest, Instant::now());
        reader.reach(newest).await?;
        Ok(reader)
    }

    pub(super) fn mvcc(&self) -> &Arc<Mvcc> {
        &self.mvcc
    }

    /// Goes on until everything up to an id is decided and taken.
    async fn reach(&mut self, newest: i64) -> Result<()> {
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

    pub(super) async fn advance(&mut self) -> Result<()> {
        let mut session = self.db.session().await.map_err(failed)?;
        self.move_horizon(session.as_mut()).await.map_err(failed)?;
        let compacted = foreign::compacted(session.as_mut()).await.map_err(failed)?;
        loop {
            let before = self.mvcc.revision();
            let found = adopt::rows_after(session.as_mut(), before, i64::MAX).await.map_err(failed)?;
            let mut next = before;
            let mut decided = Vec::new();
            for row in &found {
                let id = row.int(0).map_err(failed)?;
                if id != next + 1 && id > self.dead_below.max(compacted + 1) {
                    break;
                }
                next = id;
                decided.push(row);
            }
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

fn failed(error: DbError) -> Error {
    store_error(&error)
}

async fn newest_id(session: &mut dyn Session) -> Result<i64, DbError> {
    let none: [Value; 0] = [];
    let rows = session.query("SELECT MAX(id) FROM kine", &none).await?;
    Ok(rows.first().map(|row| row.opt_int(0)).transpose()?.flatten().unwrap_or(0))
}
