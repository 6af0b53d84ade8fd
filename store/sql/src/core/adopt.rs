//! Another program that follows kine's protocol writes into the same table:
//! its rows become entries of the log.
//!
//! Such rows take their ids from the table's own counter, without our lock. An
//! id that is left out may still be on its way; as in kine's protocol it is
//! taken by a gap row, which waits for a row that is being written there and
//! then fails, or keeps the id for good. So a revision is decided before any
//! later one is shown.

use bytes::Bytes;
use skiff_store::mvcc::Entry;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::mvccpb::KeyValue;
use skiff_store::pb::skiff::v1::command::Op;
use skiff_store::pb::skiff::v1::{Adopt, AdoptedChange, Command, CommandBatch};

use super::batch::Batch;
use super::head::Head;
use super::replica::Replica;
use super::rows::{self, Rows};
use super::writer::Failure;
use super::{Core, TERM, blocking, names, statements, vanished};
use crate::db::{DbError, DbErrorKind, Row, Session, Value};
use crate::metrics::METRICS;

/// Rows taken over together, and the bytes of their values: they become one
/// entry of the log.
const PAGE: usize = 500;
const MAX_BYTES: usize = 4 << 20;

/// Takes over what follows the head, within the transaction that holds it, and
/// ends the transaction.
///
/// # Errors
/// Those of the database; [`Failure::Again`] after a gap was filled.
pub(crate) async fn adopt(
    core: &Core,
    session: &mut dyn Session,
    replica: &mut Replica,
    head: Head,
) -> Result<(), Failure> {
    // Before the rows: what is compacted in between must not make a row that was
    // still on its way count as decided.
    let compacted = compacted_by_others(session).await?;
    let sql = format!(
        "SELECT id, {}, created, deleted, create_revision, lease, value FROM kine WHERE id > ? ORDER BY id \
         LIMIT {PAGE}",
        names::NAME
    );
    let found = session.query(&sql, &[Value::Int(head.revision)]).await?;
    let mut vanished = vanished::find(core, session, head.revision, compacted, PAGE).await?;
    // More of them come with the next page.
    let end = if vanished.len() == PAGE { vanished.last().map(|(revision, _)| *revision) } else { None };
    let mut next = head.revision;
    let mut bytes = 0;
    let mut decided = Vec::new();
    for row in &found {
        // What kine compacted is decided, whether it left a row or not.
        let id = row.int(0)?;
        if (id != next + 1 && id - 1 > compacted) || bytes > MAX_BYTES {
            break;
        }
        if let Some(end) = end.filter(|end| id > *end) {
            next = end;
            break;
        }
        next = id;
        bytes += row.opt_bytes(6)?.map_or(0, |value| value.len());
        decided.push(row);
    }
    if next == head.revision {
        session.rollback().await?;
        if !found.is_empty() {
            fill_gap(session, head.revision + 1).await?;
        }
        return Err(Failure::Again);
    }
    vanished.retain(|(revision, _)| *revision <= next);
    let mut commands = commands(core, &decided, vanished, next)?;
    if compacted > core.mvcc.compact_revision() && compacted <= next {
        let request = pb::CompactionRequest { revision: compacted, physical: false };
        commands.push(Command::from(Op::Compact(request)));
    }
    METRICS.adopted.inc_by(decided.len() as u64);
    commit(core, session, replica, head, CommandBatch { commands }).await
}

async fn commit(
    core: &Core,
    session: &mut dyn Session,
    replica: &mut Replica,
    head: Head,
    commands: CommandBatch,
) -> Result<(), Failure> {
    let index = head.index + 1;
    let entry = Entry { term: TERM, index, position: Bytes::new(), commands: commands.commands.clone() };
    let mvcc = core.mvcc.clone();
    let (prepared, rows) = blocking(move || {
        let prepared = mvcc.prepare(&[entry])?;
        let rows = Rows::beside(&prepared)?;
        Ok((prepared, rows))
    })
    .await?;
    let batch = Batch {
        prepared: &prepared,
        rows,
        index,
        commands: &commands,
        writer: "adopt",
        compacted_before: prepared.compact_revision(),
    };
    batch.write(session, core.db.dialect()).await?;
    renew(core, session, &commands).await?;
    session.commit().await?;
    let mvcc = core.mvcc.clone();
    let outcomes = blocking(move || mvcc.commit(prepared)).await.inspect_err(|_| replica.broken = true)?;
    replica.applied(core, &outcomes);
    Ok(())
}

/// A row of kine lives for its TTL from when it was written; all rows of one TTL
/// share a lease here, which therefore lives on with each of them.
async fn renew(core: &Core, session: &mut dyn Session, commands: &CommandBatch) -> Result<(), DbError> {
    let mut ttls: Vec<i64> = Vec::new();
    for command in &commands.commands {
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

/// The compacted revision that stands in kine's own row. An old kine may have
/// made two of them: the higher one counts, as for kine.
pub(super) async fn compacted_by_others(session: &mut dyn Session) -> Result<i64, DbError> {
    let sql = "SELECT MAX(prev_revision) FROM kine WHERE name = ?";
    let rows = session.query(sql, &[Value::Text(names::COMPACT_ROW.to_owned())]).await?;
    rows.first().map_or(Ok(0), |row| row.opt_int(0).map(Option::unwrap_or_default))
}

fn commands(
    core: &Core,
    rows: &[&Row],
    vanished: Vec<(i64, Bytes)>,
    through: i64,
) -> Result<Vec<Command>, DbError> {
    let mut commands = Vec::new();
    let mut granted = Vec::new();
    let mut changes = Vec::new();
    for row in rows {
        let value = row.opt_bytes(6)?.unwrap_or_default();
        let Some(named) = names::key_of(row.text(1)?, value) else { continue };
        // kine's lease is the TTL of the row: one lease for all of that TTL.
        let ttl = row.opt_int(5)?.unwrap_or(0);
        let deleted = row.int(3)? != 0;
        if ttl > 0 && !deleted && core.mvcc.lease(ttl).is_none() && !granted.contains(&ttl) {
            granted.push(ttl);
            commands.push(Command::from(Op::LeaseGrant(pb::LeaseGrantRequest { ttl, id: ttl })));
        }
        let kv = KeyValue {
            key: named.key,
            value: named.value,
            mod_revision: row.int(0)?,
            create_revision: if row.int(2)? != 0 { 0 } else { row.opt_int(4)?.unwrap_or(0) },
            lease: ttl,
            ..Default::default()
        };
        changes.push(AdoptedChange { kv: Some(kv), deleted });
    }
    for (mod_revision, key) in vanished {
        let kv = KeyValue { key, mod_revision, ..Default::default() };
        changes.push(AdoptedChange { kv: Some(kv), deleted: true });
    }
    changes.sort_by_key(|change| change.kv.as_ref().map(|kv| kv.mod_revision));
    commands.push(Command::from(Op::Adopt(Adopt { changes, through })));
    Ok(commands)
}
