//! Writing the outcome of a batch of commands, within its transaction.

use bytes::Bytes;
use prost::Message;
use skiff_store::mvcc::{LeaseChange, Prepared, SmallRow};
use skiff_store::pb::skiff::v1::CommandBatch;

use super::rows::Rows;
use super::{names, schema};
use crate::db::{DbError, Dialect, DialectKind, Session, Value};

/// What a batch leaves in the database.
pub(crate) struct Batch<'a> {
    /// The outcome.
    pub(crate) prepared: &'a Prepared,
    /// Its rows of the key space.
    pub(crate) rows: Rows,
    /// Index of its entry.
    pub(crate) index: u64,
    /// Its commands.
    pub(crate) commands: &'a CommandBatch,
    /// Names the transaction, for when its outcome is unknown.
    pub(crate) writer: &'a str,
    /// The compacted revision before it.
    pub(crate) compacted_before: i64,
}

impl Batch<'_> {
    /// Writes everything but the commit.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn write(
        mut self,
        session: &mut dyn Session,
        dialect: &dyn Dialect,
    ) -> Result<(), DbError> {
        let prepared = self.prepared;
        std::mem::take(&mut self.rows).insert(session).await?;
        write_small_rows(session, dialect, prepared.small_rows()).await?;
        for outcome in prepared.outcomes() {
            write_leases(session, dialect, &outcome.leases).await?;
        }
        if prepared.compact_revision() > self.compacted_before {
            // A kine beside us may be further already.
            let sql = "UPDATE kine SET prev_revision = ? WHERE name = ? AND prev_revision < ?";
            let (name, compacted) =
                (Value::Text(names::COMPACT_ROW.to_owned()), Value::Int(prepared.compact_revision()));
            session.execute(sql, &[compacted.clone(), name, compacted]).await?;
        }
        let step = Step {
            index: self.index,
            revision: prepared.revision(),
            state: prepared.stored_state(),
            commands: self.commands,
            writer: self.writer,
        };
        advance(session, dialect, step).await
    }
}

/// A step of the log.
pub(crate) struct Step<'a> {
    /// Index of the entry.
    pub(crate) index: u64,
    /// Revision it leads to.
    pub(crate) revision: i64,
    /// The state's own record from then on.
    pub(crate) state: Bytes,
    /// Its commands.
    pub(crate) commands: &'a CommandBatch,
    /// Names the transaction.
    pub(crate) writer: &'a str,
}

/// Adds the entry to the log and moves the head.
///
/// # Errors
/// Those of the database.
pub(crate) async fn advance(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    step: Step<'_>,
) -> Result<(), DbError> {
    let revision = Value::Int(step.revision);
    let log = format!(
        "INSERT INTO skiff_log (idx, written_at, writer, entry) VALUES (?, {}, ?, ?)",
        dialect.now_millis()
    );
    let log_arguments = [
        Value::Int(step.index as i64),
        Value::Text(step.writer.to_owned()),
        Value::Bytes(step.commands.encode_to_vec().into()),
    ];
    let head = "UPDATE skiff_head SET log_index = ?, revision = ?, state = ? WHERE id = 1";
    let head_arguments = [Value::Int(step.index as i64), revision.clone(), Value::Bytes(step.state)];
    if dialect.kind() == DialectKind::Postgres {
        // One round trip: both, the word to the other servers, and the sequence
        // that a kine beside us draws its ids from. That may be further already,
        // with ids on their way: it must not go back.
        let sequence = "pg_get_serial_sequence('kine', 'id')";
        let sql = format!(
            "WITH entry AS ({log}) {head} RETURNING pg_notify('{}', ?), CASE WHEN \
             COALESCE(pg_sequence_last_value({sequence}::regclass), 0) < ? THEN setval({sequence}, ?) END",
            schema::CHANNEL
        );
        let mut arguments = [&log_arguments[..], &head_arguments[..]].concat();
        arguments.extend([Value::Text(step.index.to_string()), revision.clone(), revision]);
        return session.query(&sql, &arguments).await.map(drop);
    }
    session.execute(&log, &log_arguments).await?;
    session.execute(head, &head_arguments).await.map(drop)
}

/// Writes rows that are not of the key space.
///
/// # Errors
/// Those of the database.
pub(crate) async fn write_small_rows(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    rows: Vec<SmallRow>,
) -> Result<(), DbError> {
    for row in rows {
        let id = Value::Text(schema::small_row_id(row.cf, &row.key));
        match row.value {
            Some(value) => {
                let sql = dialect.upsert("skiff_state", &["id"], &["cf", "name", "value"]);
                let cf = Value::Int(schema::cf_number(row.cf));
                session.execute(&sql, &[id, cf, Value::Bytes(row.key), Value::Bytes(value)]).await?;
            }
            None => {
                session.execute("DELETE FROM skiff_state WHERE id = ?", &[id]).await?;
            }
        }
    }
    Ok(())
}

async fn write_leases(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    changes: &[LeaseChange],
) -> Result<(), DbError> {
    for change in changes {
        match change {
            LeaseChange::Granted(lease) => {
                let ttl = Value::Int(lease.ttl.saturating_mul(1000));
                let sql = format!(
                    "INSERT INTO skiff_lease (id, ttl_ms, expires_at) VALUES (?, ?, {} + ?)",
                    dialect.now_millis()
                );
                session.execute(&sql, &[Value::Int(lease.id), ttl.clone(), ttl]).await?;
            }
            LeaseChange::Revoked(id) => {
                session.execute("DELETE FROM skiff_lease WHERE id = ?", &[Value::Int(*id)]).await?;
            }
            LeaseChange::Checkpointed(_) => {}
        }
    }
    Ok(())
}

/// Puts leases of a database that was taken over into the tables.
pub(crate) async fn write_taken_leases(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    leases: &[skiff_store::pb::skiff::v1::StoredLease],
) -> Result<(), DbError> {
    let rows = leases
        .iter()
        .map(|lease| SmallRow {
            cf: skiff_store::engine::Cf::Leases,
            key: lease.id.to_be_bytes().to_vec().into(),
            value: Some(lease.encode_to_vec().into()),
        })
        .collect();
    write_small_rows(session, dialect, rows).await?;
    let changes: Vec<_> = leases.iter().map(|lease| LeaseChange::Granted(*lease)).collect();
    write_leases(session, dialect, &changes).await
}
