//! What a kine beside us has compacted: it says so in its own row alone, at any
//! time, and removes the rows at once.
//!
//! Until our log says the same, a server that fills its replica would answer for
//! revisions of which rows are gone. So it is noted before a replica is filled,
//! and looked for from time to time. No replica is needed for that: a compaction
//! changes nothing but the state's own record.

use prost::Message;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::skiff::v1::command::Op;
use skiff_store::pb::skiff::v1::{Command, CommandBatch, StoredState};

use super::batch::{self, Step};
use super::head::{Head, lock_head, read_head};
use super::writer::transaction_name;
use super::{TERM, log, names, takeover};
use crate::db::{Database, DbError, DbErrorKind, Dialect, Session, Value};

/// The compacted revision that stands in kine's own row.
///
/// # Errors
/// The database failed.
pub(crate) async fn compacted(session: &mut dyn Session) -> Result<i64, DbError> {
    // An old fault of kine's left two of these rows.
    let sql = "SELECT MAX(prev_revision) FROM kine WHERE name = ?";
    let rows = session.query(sql, &[Value::Text(names::COMPACT_ROW.to_owned())]).await?;
    rows.first().map_or(Ok(0), |row| row.opt_int(0).map(Option::unwrap_or_default))
}

/// The compacted revision where our log does not know it yet.
///
/// # Errors
/// The database failed; the record in `skiff_head` cannot be read.
pub(crate) async fn unnoted(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
) -> Result<Option<i64>, DbError> {
    let head = read_head(session, dialect).await?;
    let stored = stored(session).await?;
    news(session, &head, &stored).await
}

async fn news(session: &mut dyn Session, head: &Head, stored: &StoredState) -> Result<Option<i64>, DbError> {
    let compacted = compacted(session).await?;
    // Beyond everything that was ever written it means nothing.
    let bound = head.revision.max(head.newest_row);
    let known = stored.compact_revision.max(0);
    Ok((compacted > known && compacted <= bound).then_some(compacted))
}

async fn stored(session: &mut dyn Session) -> Result<StoredState, DbError> {
    let rows = session.query("SELECT state FROM skiff_head WHERE id = 1", &[]).await?;
    let row = rows
        .first()
        .ok_or_else(|| DbError::new(DbErrorKind::Other, "the row of the table skiff_head is gone"))?;
    StoredState::decode(row.bytes(0)?)
        .map_err(|error| DbError::new(DbErrorKind::Other, format!("the state in skiff_head: {error}")))
}

/// Puts into the log what kine has compacted, if that is news.
///
/// # Errors
/// The database failed; nothing was noted then, or all of it.
pub(crate) async fn note(db: &dyn Database) -> Result<(), DbError> {
    let mut session = db.session().await?;
    if unnoted(session.as_mut(), db.dialect()).await?.is_none() {
        return Ok(());
    }
    session.begin().await?;
    let head = lock_head(session.as_mut(), db.dialect()).await?;
    let stored = stored(session.as_mut()).await?;
    match news(session.as_mut(), &head, &stored).await? {
        None => session.rollback().await,
        Some(compacted) if compacted <= head.revision => {
            write_compaction(session.as_mut(), db, &head, stored, compacted).await
        }
        Some(compacted) => jump(session.as_mut(), db, &head, stored, compacted).await,
    }
}

async fn write_compaction(
    session: &mut dyn Session,
    db: &dyn Database,
    head: &Head,
    mut stored: StoredState,
    compacted: i64,
) -> Result<(), DbError> {
    let request = pb::CompactionRequest { revision: compacted, physical: false };
    let commands = CommandBatch { commands: vec![Command::from(Op::Compact(request))] };
    stored.compact_revision = compacted;
    advance(session, db, head.index + 1, stored, commands).await
}

/// kine went on alone and has compacted revisions that our log never saw: what
/// happened there is lost, as after a snapshot. The log leaves out an index, so
/// that every server fills its replica anew.
async fn jump(
    session: &mut dyn Session,
    db: &dyn Database,
    head: &Head,
    mut stored: StoredState,
    compacted: i64,
) -> Result<(), DbError> {
    tracing::warn!(
        revision = head.revision,
        compacted,
        "another program has written and compacted revisions that this store did not see"
    );
    takeover::take_rows(session, db.dialect(), head.revision, compacted).await?;
    stored.revision = compacted;
    stored.compact_revision = compacted;
    stored.sparse = true;
    advance(session, db, head.index + 2, stored, CommandBatch::default()).await
}

/// Writes the entry, and commits.
async fn advance(
    session: &mut dyn Session,
    db: &dyn Database,
    index: u64,
    mut stored: StoredState,
    commands: CommandBatch,
) -> Result<(), DbError> {
    stored.applied_index = index;
    stored.applied_term = TERM;
    stored.position = Default::default();
    let writer = transaction_name();
    let step = Step {
        index,
        revision: stored.revision,
        state: stored.encode_to_vec().into(),
        commands: &commands,
        writer: &writer,
    };
    batch::advance(session, db.dialect(), step).await?;
    log::commit(session, index, &writer).await
}
