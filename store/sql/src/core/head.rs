//! The one row of `skiff_head`: how far the log has come. Its lock is what
//! orders all servers.

use crate::db::{Database, DbError, DbErrorKind, Dialect, Session};

/// Where the database stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Index of the last entry.
    pub(crate) index: u64,
    /// Revision it led to.
    pub(crate) revision: i64,
    /// Id of the newest row of `kine`; beyond the revision where another
    /// program writes there.
    pub(crate) newest_row: i64,
    /// The transaction that wrote the last entry, where it could be seen.
    pub(crate) writer: Option<String>,
    /// The server that answered takes no writes, so it may be a replica that
    /// is behind.
    pub(crate) may_lag: bool,
}

/// Reads the head.
///
/// # Errors
/// Those of the database; [`DbErrorKind::ReadOnly`] from a standby, whatever it
/// says: another server may be ahead of it.
pub(crate) async fn read_head(session: &mut dyn Session, dialect: &dyn Dialect) -> Result<Head, DbError> {
    let head = one(session, &head_sql(dialect)).await?;
    if head.may_lag && dialect.standby_is_told() {
        return Err(DbError::new(
            DbErrorKind::ReadOnly,
            "the database server that answers is a standby, which may be behind",
        ));
    }
    Ok(head)
}

fn head_sql(dialect: &dyn Dialect) -> String {
    format!(
        "SELECT log_index, revision, (SELECT MAX(id) FROM kine), (SELECT writer FROM skiff_log WHERE idx = \
         skiff_head.log_index), {} FROM skiff_head WHERE id = 1",
        dialect.may_lag()
    )
}

/// Reads the head by itself.
pub(crate) async fn read_now(db: &dyn Database) -> Result<Head, DbError> {
    let mut session = db.session().await?;
    read_head(session.as_mut(), db.dialect()).await
}

/// Locks the head until the transaction ends; waits for others that hold it.
///
/// Where this had to wait, `newest_row` may be of before, and `writer` missing.
pub(crate) async fn lock_head(session: &mut dyn Session, dialect: &dyn Dialect) -> Result<Head, DbError> {
    // Where there is no such clause the transaction itself is the lock.
    one(session, &format!("{}{}", head_sql(dialect), dialect.for_update())).await
}

async fn one(session: &mut dyn Session, sql: &str) -> Result<Head, DbError> {
    let rows = session.query(sql, &[]).await?;
    let row = rows
        .first()
        .ok_or_else(|| DbError::new(DbErrorKind::Other, "the row of the table skiff_head is gone"))?;
    Ok(Head {
        index: row.int(0)? as u64,
        revision: row.int(1)?,
        newest_row: row.opt_int(2)?.unwrap_or_default(),
        writer: row.opt_text(3)?.map(str::to_owned),
        may_lag: row.int(4)? != 0,
    })
}
