//! Giving space back in the database: rows that nothing can read any more, in
//! small transactions, by one server at a time.
//!
//! What may go is what [`skiff_store::mvcc`] says of its own rows: up to the
//! compacted revision C every version that a later change at or before C
//! replaced, and deletions before C.

use std::sync::Arc;
use std::time::Duration;

use skiff_store::Result;

use super::writer::Failure;
use super::{Core, blocking, names, schema, statements};
use crate::db::{DbError, DialectKind, Session, Value};
use crate::metrics::METRICS;

/// How often a compaction is looked for.
const TICK: Duration = Duration::from_millis(100);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// How long giving space back may take, for each table.
const RECLAIM_LIMIT: Duration = Duration::from_secs(3600);
/// Rows of `skiff_row` looked at together.
const EXTRA_PAGE: i64 = 500;

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
        step(core, session.as_mut(), done, through).await?;
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
async fn step(core: &Arc<Core>, session: &mut dyn Session, done: i64, through: i64) -> Result<(), Failure> {
    let range = [Value::Int(done), Value::Int(through)];
    // An old kine could name a row of another key there, whose name it took for a pattern's match.
    let sql = "SELECT earlier.id FROM kine AS later JOIN kine AS earlier ON earlier.id = later.prev_revision \
               AND earlier.name = later.name WHERE later.id >= ? AND later.id <= ? AND later.created = 0 AND \
               later.prev_revision > 0 AND later.name <> 'compact_rev_key'";
    let mut doomed = ids(session.query(sql, &range).await?)?;
    let sql = "SELECT id FROM kine WHERE id >= ? AND id < ? AND deleted <> 0";
    doomed.extend(ids(session.query(sql, &range).await?)?);
    delete(session, &doomed).await?;
    extra_rows(core, session, done, through).await
}

fn ids(rows: Vec<crate::db::Row>) -> Result<Vec<Value>, DbError> {
    rows.iter().map(|row| row.int(0).map(Value::Int)).collect()
}

async fn delete(session: &mut dyn Session, ids: &[Value]) -> Result<(), DbError> {
    statements::for_each(session, "DELETE FROM kine WHERE id IN ({})", ids).await?;
    statements::for_each(session, "DELETE FROM skiff_version WHERE id IN ({})", ids).await?;
    Ok(())
}

/// The changes that `kine` could not hold: few, so each is asked for by name.
async fn extra_rows(
    core: &Arc<Core>,
    session: &mut dyn Session,
    done: i64,
    through: i64,
) -> Result<(), Failure> {
    let mut after = (0, -1);
    loop {
        let sql = format!(
            "SELECT revision, sub, name FROM skiff_row WHERE (revision > ? OR (revision = ? AND sub > ?)) \
             AND revision <= ? ORDER BY revision, sub LIMIT {EXTRA_PAGE}"
        );
        let first = Value::Int(after.0);
        let arguments = [first.clone(), first, Value::Int(after.1), Value::Int(through)];
        let rows = session.query(&sql, &arguments).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = (last.int(0)?, last.int(1)?);
        for row in &rows {
            let (revision, sub) = (row.int(0)?, row.int(1)?);
            let key = row.bytes(2)?;
            if revision >= done {
                replaced_by_extra(core, session, &key, revision).await?;
            }
            let (mvcc, at) = (core.mvcc.clone(), core.mvcc.compact_revision());
            let newest = blocking(move || mvcc.version_at(&key, at)).await?;
            if revision < at && newest != Some((revision, sub as u32)) {
                let sql = "DELETE FROM skiff_row WHERE revision = ? AND sub = ?";
                session.execute(sql, &[Value::Int(revision), Value::Int(sub)]).await?;
            }
        }
    }
}

/// Rows of `kine` do not say that such a change replaced them.
async fn replaced_by_extra(
    core: &Core,
    session: &mut dyn Session,
    key: &[u8],
    revision: i64,
) -> Result<(), DbError> {
    // kine may have written rows that we would not: each is compared by its bytes here.
    let Some(name) = names::text_of(key) else { return Ok(()) };
    if !name.is_ascii() && !has_wide_names(core.db.dialect().kind(), session).await? {
        return Ok(());
    }
    let sql = format!("SELECT id, {} FROM kine WHERE name = ? AND id < ?", names::NAME);
    let arguments = [Value::Text(name.to_owned()), Value::Int(revision)];
    let mut doomed = Vec::new();
    for row in session.query(&sql, &arguments).await? {
        if row.text(1)? == name {
            doomed.push(Value::Int(row.int(0)?));
        }
    }
    delete(session, &doomed).await
}

/// Whether the column of names takes more than ASCII. Where it does not, MySQL
/// does not even compare it with such a name.
async fn has_wide_names(kind: DialectKind, session: &mut dyn Session) -> Result<bool, DbError> {
    if !matches!(kind, DialectKind::Mysql | DialectKind::Mariadb) {
        return Ok(true);
    }
    let sql = "SELECT CAST(character_set_name AS CHAR) FROM information_schema.columns WHERE table_schema = \
               DATABASE() AND table_name = 'kine' AND column_name = 'name'";
    let rows = session.query(sql, &[]).await?;
    Ok(rows
        .first()
        .map(|row| row.opt_text(0))
        .transpose()?
        .flatten()
        .is_some_and(|set| set.starts_with("utf8")))
}
