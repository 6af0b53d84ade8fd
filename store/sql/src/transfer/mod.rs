//! Moving a whole store from one place to another.
//!
//! * [`Reader`] reads what a database holds, ours or kine's, into a replica and
//!   keeps it up to date; it writes nothing.
//! * [`Import`] writes a state into an empty database, in the order of its
//!   revisions, in pages that are durable one by one. An import that was
//!   interrupted goes on behind its last page.
//!
//! A database is marked as long as an import into it is not finished. No server
//! opens it then: to it the pages would look like all that there is.

mod import;
mod kine;
mod ours;
mod reader;

pub use import::Import;
pub use reader::Reader;

use skiff_store::{Error, Result};

use crate::core::store_error;
use crate::db::{Database, DbError, Session, Value};

/// In `skiff_progress`: whose import is unfinished.
const IMPORT: &str = "import";
/// In `skiff_progress`: up to which revision it has come.
const IMPORTED: &str = "imported";
/// In `skiff_progress`: the compacted revision with which it began.
const IMPORT_COMPACTED: &str = "import-compacted";

/// Refuses a database into which an import is not finished.
///
/// # Errors
/// It is not; the database failed.
pub(crate) async fn refuse_unfinished(db: &dyn Database) -> Result<()> {
    let read = async {
        let mut session = db.session().await?;
        progress(session.as_mut(), IMPORT).await
    };
    match read.await.map_err(|error| store_error(&error))? {
        None => Ok(()),
        Some(_) => Err(Error::Storage(
            "a migration into this database has not finished: run the same `skiff datastore migrate` again, \
             and start this server then"
                .to_owned(),
        )),
    }
}

async fn progress(session: &mut dyn Session, name: &str) -> Result<Option<i64>, DbError> {
    let sql = "SELECT value FROM skiff_progress WHERE name = ?";
    let rows = session.query(sql, &[Value::Text(name.to_owned())]).await?;
    rows.first().map(|row| row.int(0)).transpose()
}
