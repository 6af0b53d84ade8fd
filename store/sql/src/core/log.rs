//! The table `skiff_log`: the commands of each entry, for other servers.

use bytes::Bytes;
use prost::Message;
use skiff_store::mvcc::Entry;
use skiff_store::pb::skiff::v1::CommandBatch;

use super::TERM;
use crate::db::{DbError, DbErrorKind, Session, Value};

/// The entry after `applied` that is to be written.
pub(crate) fn entry(index: u64, commands: CommandBatch) -> Entry {
    Entry { term: TERM, index, position: Bytes::new(), commands: commands.commands }
}

/// Entries from `from` on, in order, up to `limit`, each with its writer.
pub(crate) async fn read(
    session: &mut dyn Session,
    from: u64,
    limit: usize,
) -> Result<Vec<(Entry, String)>, DbError> {
    let sql = format!("SELECT idx, entry, writer FROM skiff_log WHERE idx >= ? ORDER BY idx LIMIT {limit}");
    let rows = session.query(&sql, &[Value::Int(from as i64)]).await?;
    rows.iter()
        .map(|row| {
            let index = row.int(0)? as u64;
            let batch = CommandBatch::decode(row.bytes(1)?).map_err(|error| {
                DbError::new(DbErrorKind::Other, format!("entry {index} of skiff_log: {error}"))
            })?;
            Ok((entry(index, batch), row.text(2)?.to_owned()))
        })
        .collect()
}

/// Who wrote an entry; `None` where it is not there.
pub(crate) async fn writer_of(session: &mut dyn Session, index: u64) -> Result<Option<String>, DbError> {
    let sql = "SELECT writer FROM skiff_log WHERE idx = ?";
    let rows = session.query(sql, &[Value::Int(index as i64)]).await?;
    rows.first().map(|row| Ok(row.text(0)?.to_owned())).transpose()
}

/// Commits the transaction that wrote an entry.
///
/// # Errors
/// Those of [`Session::commit`].
pub(crate) async fn commit(session: &mut dyn Session, index: u64, writer: &str) -> Result<(), DbError> {
    session.commit().await?;
    if !session.commit_needs_proof() {
        return Ok(());
    }
    match writer_of(session, index).await {
        Ok(found) if found.as_deref() == Some(writer) => Ok(()),
        Ok(_) => Err(DbError::new(DbErrorKind::Retry, "another node of the cluster was faster to commit")),
        Err(error) => Err(DbError::new(DbErrorKind::ConnectionLost, error.to_string())),
    }
}
