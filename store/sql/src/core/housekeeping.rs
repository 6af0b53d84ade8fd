//! Small chores: the size of the database, compactions of another program, the
//! length of the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Core, foreign, hold};
use crate::db::{DbError, Session, Value};

/// How often.
const TICK: Duration = Duration::from_secs(5);
/// About how many bytes the log may hold, whatever its age: a server that falls
/// behind further fills its replica anew.
const MAX_LOG_BYTES: i64 = 256 << 20;
/// By how much longer the log may be while a server needs it that fills its
/// replica.
const HELD: i64 = 8;
/// Entries removed together.
const PAGE: i64 = 1000;

/// Does chores until the store stops.
pub(crate) async fn run(core: Arc<Core>) {
    while core.sleep(TICK).await {
        if let Err(error) = measure(&core).await {
            tracing::debug!(%error, "cannot ask for the size of the database");
        }
        if let Err(error) = foreign::note(core.db.as_ref()).await {
            tracing::debug!(%error, "cannot look for compactions of another program");
        }
        if let Err(error) = prune(&core).await {
            tracing::debug!(%error, "cannot prune the log");
        }
    }
}

/// Asks how large the database is.
pub(crate) async fn measure(core: &Core) -> Result<(), DbError> {
    let mut session = core.db.session().await?;
    let rows = session.query(core.db.dialect().size_sql(), &[]).await?;
    if let Some(size) = rows.first().map(|row| row.opt_int(0)).transpose()?.flatten() {
        core.db_size.store(size, Ordering::Relaxed);
    }
    Ok(())
}

/// How many entries fit into [`MAX_LOG_BYTES`], by the size of the newest ones.
async fn most_entries(session: &mut dyn Session) -> Result<i64, DbError> {
    let sql = "SELECT LENGTH(entry) FROM skiff_log ORDER BY idx DESC LIMIT 100";
    let rows = session.query(sql, &[]).await?;
    let sizes = rows.iter().map(|row| row.int(0)).collect::<Result<Vec<_>, _>>()?;
    let mean = sizes.iter().sum::<i64>() / (sizes.len() as i64).max(1);
    Ok(MAX_LOG_BYTES / mean.max(1))
}

/// Removes entries that every server has had the time to read. The last one
/// stays: servers see by it that they have all.
async fn prune(core: &Core) -> Result<(), DbError> {
    let mut session = core.db.session().await?;
    let dialect = core.db.dialect();
    let sql = format!("SELECT MAX(idx) FROM skiff_log WHERE written_at < {} - ?", dialect.now_millis());
    let age = Value::Int(core.config.log_retention.as_millis() as i64);
    let rows = session.query(&sql, &[age]).await?;
    let old = rows.first().map(|row| row.opt_int(0)).transpose()?.flatten().unwrap_or(0);
    let newest = core.mvcc.applied_index() as i64;
    let most = most_entries(session.as_mut()).await?;
    let mut through = old.max(newest - most).min(newest - 1);
    if let Some(held) = hold::held_after(session.as_mut(), dialect).await? {
        through = through.min(held).max(newest - most.saturating_mul(HELD));
    }
    loop {
        let first = session.query("SELECT MIN(idx) FROM skiff_log", &[]).await?;
        let Some(first) = first.first().map(|row| row.opt_int(0)).transpose()?.flatten() else {
            return Ok(());
        };
        if first > through {
            return Ok(());
        }
        let end = through.min(first + PAGE);
        session.execute("DELETE FROM skiff_log WHERE idx <= ?", &[Value::Int(end)]).await?;
    }
}
