//! Another program that follows kine's protocol writes into the same table:
//! its rows become entries of the log.
//!
//! Such rows take their ids from the table's own counter, without our lock. An
//! id that is left out may still be on its way; as in kine's protocol it is
//! taken by a gap row, which waits for a row that is being written there and
//! then fails, or keeps the id for good. So a revision is decided before any
//! later one is shown.

use bytes::Bytes;
use skiff_store::mvcc::{Entry, Mvcc};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::mvccpb::KeyValue;
use skiff_store::pb::skiff::v1::command::Op;
use skiff_store::pb::skiff::v1::{Adopt, AdoptedChange, Command, CommandBatch};

use super::batch::Batch;
use super::failure::Failure;
use super::head::Head;
use super::replica::Replica;
use super::rows::{self, Rows};
use super::writer::transaction_name;
use super::{Core, TERM, blocking, foreign, log, names, statements};
use crate::db::{DbError, DbErrorKind, Row, Session, Value};
use crate::metrics::METRICS;

/// Rows taken over together, and the bytes of their values: they become one
/// entry of the log.
pub(crate) const PAGE: usize = 500;
const MAX_BYTES: usize = 4 << 20;

/// What of another program's rows becomes commands.
pub(crate) struct Found {
    /// The commands.
    pub(crate) commands: Vec<Command>,
    /// The revision they lead to.
    pub(crate) through: i64,
    rows: usize,
}

impl Found {
    /// Notes that they are in the log, and renews what they renew.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn finish(&self, core: &Core, session: &mut dyn Session) -> Result<(), DbError> {
        METRICS.adopted.inc_by(self.rows as u64);
        renew(core, session, &self.commands).await
    }
}

/// Sees to it that rows that are to be taken over are still there.
///
/// # Errors
/// Those of the database; [`Failure::Again`] where they are gone, which is noted
/// then.
pub(crate) async fn check_there(core: &Core, session: &mut dyn Session, head: &Head) -> Result<(), Failure> {
    if foreign::unnoted(session, core.db.dialect()).await?.is_none_or(|compacted| compacted <= head.revision)
    {
        return Ok(());
    }
    session.rollback().await?;
    foreign::note(core.db.as_ref()).await?;
    Err(Failure::Again)
}

/// Takes over what follows the head, within the transaction that holds it, and
/// ends the transaction.
///
/// # Errors
/// Those of the database; [`Failure::Again`] after a gap was filled.
pub(crate) async fn adopt(
    core: &Core,
    session: &mut dyn Session,
    replica: &mut Replica,
    head: &Head,
) -> Result<(), Failure> {
    let found = find(core, session, head, i64::MAX).await?;
    if found.rows == 0 {
        session.rollback().await?;
        fill_gap(session, head.revision + 1).await?;
        return Err(Failure::Again);
    }
    commit(core, session, replica, head, found).await
}

/// The next rows of `kine` after an id, as [`commands`] takes them.
///
/// # Errors
/// The database failed.
pub(crate) async fn rows_after(session: &mut dyn Session, id: i64, before: i64) -> Result<Vec<Row>, DbError> {
    let sql = format!(
        "SELECT id, {}, created, deleted, create_revision, lease, value FROM kine WHERE id > ? AND id < ? \
         ORDER BY id LIMIT {PAGE}",
        names::NAME
    );
    session.query(&sql, &[Value::Int(id), Value::Int(before)]).await
}

/// What follows the head without a gap, before an id; may not be all of it.
///
/// # Errors
/// Those of the database.
pub(crate) async fn find(
    core: &Core,
    session: &mut dyn Session,
    head: &Head,
    before: i64,
) -> Result<Found, DbError> {
    let rows = rows_after(session, head.revision, before).await?;
    let mut next = head.revision;
    let mut bytes = 0;
    let mut decided = Vec::new();
    for row in &rows {
        let id = row.int(0)?;
        if id != next + 1 || bytes > MAX_BYTES {
            break;
        }
        next = id;
        bytes += row.opt_bytes(6)?.map_or(0, |value| value.len());
        decided.push(row);
    }
    let commands = if decided.is_empty() { Vec::new() } else { commands(&core.mvcc, &decided, next)? };
    Ok(Found { commands, through: next, rows: decided.len() })
}

/// Puts them into the log as an entry of their own.
///
/// # Errors
/// Those of the database, of the replica.
pub(crate) async fn commit(
    core: &Core,
    session: &mut dyn Session,
    replica: &mut Replica,
    head: &Head,
    mut found: Found,
) -> Result<(), Failure> {
    let (index, writer) = (head.index + 1, transaction_name());
    let commands = CommandBatch { commands: std::mem::take(&mut found.commands) };
    let entry = Entry { term: TERM, index, position: Bytes::new(), commands: commands.commands.clone() };
    let (mvcc, db, through) = (core.mvcc.clone(), core.db.clone(), found.through);
    let (prepared, rows) = blocking(move || {
        let prepared = mvcc.prepare(&[entry])?;
        let rows = Rows::of(&prepared, db.dialect(), through)?;
        Ok((prepared, rows))
    })
    .await?;
    let batch = Batch {
        prepared: &prepared,
        rows,
        index,
        commands: &commands,
        writer: &writer,
        compacted_before: prepared.compact_revision(),
    };
    batch.write(session, core.db.dialect()).await?;
    found.commands = commands.commands;
    found.finish(core, session).await?;
    log::commit(session, index, &writer).await?;
    let mvcc = core.mvcc.clone();
    let outcomes = blocking(move || mvcc.commit(prepared)).await.inspect_err(|_| replica.broken = true)?;
    core.tail.note(index, writer);
    replica.applied(core, &outcomes);
    Ok(())
}

/// A row of kine lives for its TTL from when it was written; all rows of one TTL
/// share a lease here, which therefore lives on with each of them.
async fn renew(core: &Core, session: &mut dyn Session, commands: &[Command]) -> Result<(), DbError> {
    let mut ttls: Vec<i64> = Vec::new();
    for command in commands {
        if let Some(Op::Adopt(adopt)) = &command.op {
            let leased = adopt.changes.iter().filter(|change| !change.deleted);
            ttls.extend(leased.filter_map(|change| change.kv.as_ref()).map(|kv| kv.lease));
        }
    }
    ttls.retain(|ttl| *ttl > 0);
    ttls.sort_unstable();
    ttls.dedup();
    let now = core.db.dialect().now_millis();
    let sql = format!("UPDATE skiff_lease SET expires_at = {now} + ttl_ms WHERE id IN ({{}})");
    let ids: Vec<_> = ttls.into_iter().map(Value::Int).collect();
    statements::for_each(session, &sql, &ids).await.map(drop)
}

async fn fill_gap(session: &mut dyn Session, revision: i64) -> Result<(), DbError> {
    match rows::insert_gap(session, revision).await {
        Err(error) if error.kind() == DbErrorKind::UniqueViolation => Ok(()),
        other => other,
    }
}

/// The commands that make the changes of rows of `kine`, up to a revision.
///
/// # Errors
/// A row is not as it should be.
pub(crate) fn commands(mvcc: &Mvcc, rows: &[&Row], through: i64) -> Result<Vec<Command>, DbError> {
    let mut commands = Vec::new();
    let mut granted = Vec::new();
    let mut changes = Vec::new();
    for row in rows {
        let value = row.opt_bytes(6)?.unwrap_or_default();
        let Some(named) = names::key_of(row.text(1)?, value) else { continue };
        // kine's lease is the TTL of the row: one lease for all of that TTL.
        let ttl = row.opt_int(5)?.unwrap_or(0);
        let deleted = row.int(3)? != 0;
        if ttl > 0 && !deleted && mvcc.lease(ttl).is_none() && !granted.contains(&ttl) {
            granted.push(ttl);
            commands.push(Command::from(Op::LeaseGrant(pb::LeaseGrantRequest { ttl, id: ttl })));
        }
        let kv = KeyValue {
            key: named.key,
            value: named.value,
            mod_revision: row.int(0)?,
            create_revision: if row.int(2)? != 0 { 0 } else { row.opt_int(4)?.unwrap_or(0) },
            lease: ttl,
            version: named.version.unwrap_or_default(),
        };
        changes.push(AdoptedChange { kv: Some(kv), deleted });
    }
    commands.push(Command::from(Op::Adopt(Adopt { changes, through })));
    Ok(commands)
}
