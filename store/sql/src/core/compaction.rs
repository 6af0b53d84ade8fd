//! Giving space back in the database: rows that nothing can read any more, in
//! small transactions, by one server at a time.
//!
//! What may go is what [`skiff_store::mvcc`] says of its own rows: up to the
//! compacted revision C every version that a later change at or before C
//! replaced, and deletions before C.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skiff_store::Result;
use skiff_store::mvcc::Unreadable;

use super::failure::Failure;
use super::{Core, blocking, rows, schema, statements};
use crate::db::{DbError, Session, Value};
use crate::metrics::METRICS;

/// How often a compaction is looked for.
const TICK: Duration = Duration::from_millis(100);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How long giving space back may take, for each table.
const RECLAIM_LIMIT: Duration = Duration::from_secs(3600);

/// Compacts until the store stops.
pub(crate) async fn run(core: Arc<Core>) {
    // A server may have died in the middle.
    let mut looked_at = i64::MIN;
    while core.sleep(TICK).await {
        let target = core.mvcc.compact_revision();
        if target <= 0 || target == looked_at {
            continue;
        }
        match compact(&core, target).await {
            Ok(()) => {
                looked_at = target;
                METRICS.compactions.with_label_values(&["success"]).inc();
            }
            Err(error) => {
                METRICS.compactions.with_label_values(&["error"]).inc();
                match &error {
                    Failure::Database(error) => {
                        tracing::warn!(%error, target, "compaction failed; trying again");
                    }
                    Failure::Store(error) => {
                        tracing::warn!(%error, target, "compaction failed; trying again");
                    }
                    _ => {}
                }
                if !core.sleep(PAUSE).await {
                    return;
                }
            }
        }
    }
}

async fn compact(core: &Arc<Core>, target: i64) -> Result<(), Failure> {
    let mut session = core.db.session().await?;
    ensure_progress(core, session.as_mut()).await?;
    while !*core.stop.borrow() {
        session.begin().await?;
        let done = locked_progress(core, session.as_mut()).await?;
        if done >= target {
            session.rollback().await?;
            break;
        }
        // A database that was taken over may have few rows below, and billions of ids.
        let sql = "SELECT MIN(id) FROM kine WHERE id > ?";
        let rows = session.query(sql, &[Value::Int(done)]).await?;
        let next = rows.first().map(|row| row.opt_int(0)).transpose()?.flatten().unwrap_or(target);
        let through = target.min((next - 1).max(done).saturating_add(core.config.compaction_batch));
        step(core, session.as_mut(), done, through, target).await?;
        let sql = "UPDATE skiff_progress SET value = ? WHERE name = ?";
        session.execute(sql, &[Value::Int(through), Value::Text(schema::COMPACTED.to_owned())]).await?;
        session.commit().await?;
    }
    replica(core).await?;
    core.compacted.send_replace(target);
    give_space_back(core, session.as_mut()).await;
    Ok(())
}

/// As far as it goes: what is not given back now is at the next compaction.
async fn give_space_back(core: &Core, session: &mut dyn Session) {
    session.set_limit(RECLAIM_LIMIT);
    for sql in schema::TABLES.iter().flat_map(|table| core.db.dialect().reclaim_sql(table)) {
        let Some(done) = core.until_stop(session.execute(&sql, &[])).await else { return };
        if let Err(error) = done {
            tracing::warn!(%error, "space of compacted rows is not given back");
            return;
        }
    }
}

/// Compacts the replica as well.
async fn replica(core: &Arc<Core>) -> Result<()> {
    loop {
        let mvcc = core.mvcc.clone();
        if !blocking(move || mvcc.compact_step()).await? {
            return Ok(());
        }
    }
}

async fn ensure_progress(core: &Core, session: &mut dyn Session) -> Result<(), DbError> {
    let name = Value::Text(schema::COMPACTED.to_owned());
    let sql = "SELECT value FROM skiff_progress WHERE name = ?";
    if session.query(sql, std::slice::from_ref(&name)).await?.is_empty() {
        let sql = core.db.dialect().upsert("skiff_progress", &["name"], &["value"]);
        session.execute(&sql, &[name, Value::Int(0)]).await?;
    }
    Ok(())
}

async fn locked_progress(core: &Core, session: &mut dyn Session) -> Result<i64, DbError> {
    let lock = core.db.dialect().for_update();
    let sql = format!("SELECT value FROM skiff_progress WHERE name = ?{lock}");
    let rows = session.query(&sql, &[Value::Text(schema::COMPACTED.to_owned())]).await?;
    rows.first().map_or(Ok(0), |row| row.int(0))
}

/// Looks at the changes from `done` on (deletions there were kept) through
/// `through`, and removes what they replaced.
async fn step(
    core: &Arc<Core>,
    session: &mut dyn Session,
    done: i64,
    through: i64,
    target: i64,
) -> Result<(), Failure> {
    let range = [Value::Int(done), Value::Int(through)];
    // An old kine could name a row of another key there, whose name it took for a pattern's match.
    let sql = "SELECT earlier.id FROM kine AS later JOIN kine AS earlier ON earlier.id = later.prev_revision \
               AND earlier.name = later.name WHERE later.id >= ? AND later.id <= ? AND later.created = 0 AND \
               later.prev_revision > 0 AND later.name <> 'compact_rev_key'";
    let mut doomed = ids(session.query(sql, &range).await?)?;
    let sql = "SELECT id FROM kine WHERE id >= ? AND id < ? AND deleted <> 0";
    doomed.extend(ids(session.query(sql, &range).await?)?);
    let mvcc = core.mvcc.clone();
    let unreadable = blocking(move || mvcc.unreadable(done, through, target)).await?;
    // Rows of `kine` do not tell what replaced them where that is beside them. kine writes
    // names that we would not put there: which of the two tables has those is not known.
    let first = unreadable.iter().filter(|version| version.sub == 0);
    doomed.extend(first.map(|version| Value::Int(version.revision)));
    delete(session, &doomed).await?;
    let dialect = core.db.dialect();
    let extra: Vec<_> =
        unreadable.into_iter().filter(|version| !rows::is_in_kine(dialect, version)).collect();
    delete_extra(session, &extra).await
}

/// Removes changes that `kine` could not hold.
async fn delete_extra(session: &mut dyn Session, extra: &[Unreadable]) -> Result<(), Failure> {
    let mut by_sub: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
    for version in extra {
        by_sub.entry(version.sub).or_default().push(Value::Int(version.revision));
    }
    for (sub, revisions) in by_sub {
        let sql = "DELETE FROM skiff_row WHERE revision IN ({}) AND sub = ?";
        statements::for_each_with(session, sql, &revisions, &[Value::Int(i64::from(sub))]).await?;
    }
    Ok(())
}

fn ids(rows: Vec<crate::db::Row>) -> Result<Vec<Value>, DbError> {
    rows.iter().map(|row| row.int(0).map(Value::Int)).collect()
}

async fn delete(session: &mut dyn Session, ids: &[Value]) -> Result<(), DbError> {
    // A key may be of the revision that is the id of kine's own row.
    let sql = "DELETE FROM kine WHERE id IN ({}) AND name <> 'compact_rev_key'";
    statements::for_each(session, sql, ids).await?;
    statements::for_each(session, "DELETE FROM skiff_version WHERE id IN ({})", ids).await?;
    Ok(())
}
