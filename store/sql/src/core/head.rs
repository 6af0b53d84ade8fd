//! The one row of `skiff_head`: how far the log has come. Its lock is what
//! orders all servers.

use crate::db::{Database, DbError, DbErrorKind, Session};

/// Where the database stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Index of the last entry.
    pub(crate) index: u64,
    /// Revision it led to.
    pub(crate) revision: i64,
    /// Id of the newest row of `kine`; beyond the revision where another
    /// program writes there.
    pub(crate) newest_row: i64,
}

const HEAD: &str = "SELECT log_index, revision, (SELECT MAX(id) FROM kine) FROM skiff_head WHERE id = 1";

/// Reads the head.
pub(crate) async fn read_head(session: &mut dyn Session) -> Result<Head, DbError> {
    one(session, HEAD).await
}

/// Reads the head by itself.
pub(crate) async fn read_now(db: &dyn Database) -> Result<Head, DbError> {
    let mut session = db.session().await?;
    read_head(session.as_mut()).await
}

/// Locks the head until the transaction ends; waits for others that hold it.
///
/// Where this had to wait, `newest_row` may be of before.
pub(crate) async fn lock_head(session: &mut dyn Session, for_update: &str) -> Result<Head, DbError> {
    if for_update.is_empty() {
        // The transaction itself is the lock.
        return read_head(session).await;
    }
    one(session, &format!("{HEAD}{for_update}")).await
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
    })
}
