//! Tables of older versions of kine: what is wrong with them is found at the
//! start, and repaired where asked, or refused with the statements to run.
//!
//! kine changed its table over the years but left existing ones as they were:
//! ids of 32 bits before 0.12, names with a length limit and the database's own
//! collation before 0.13 on Postgres, names that ignore case on MySQL. The
//! first two end in refused writes one day, the last mixes keys up.
//!
//! A writer that goes on meanwhile waits for the statements, as they lock the
//! table; none of its rows is lost.

mod mysql;
mod postgres;
pub(super) mod spelling;

use std::time::Duration;

use skiff_store::{Error, Result};

use super::store_error;
use crate::db::{Database, DbError, DialectKind, Row, Session, Value};

/// How long one statement may take: some build a large table anew, or wait for
/// a transaction of a kine that runs.
const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// Something wrong with the table `kine`, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What is wrong, and what comes of it.
    pub(crate) problem: String,
    /// The statements that mend it.
    pub(crate) statements: Vec<String>,
}

/// Checks the table and mends it where that is asked for.
///
/// # Errors
/// Something is wrong and is not to be mended; the database failed.
pub(crate) async fn repair(db: &dyn Database, mend: bool) -> Result<()> {
    let failed = |error: DbError| store_error(&error);
    let kind = db.dialect().kind();
    let mut session = db.session().await.map_err(failed)?;
    session.set_limit(LIMIT);
    let found = findings(session.as_mut(), kind).await.map_err(failed)?;
    if found.is_empty() {
        return Ok(());
    }
    if !mend {
        return Err(Error::Storage(refusal(&found)));
    }
    for finding in found {
        tracing::warn!(problem = finding.problem, "repairing the table kine");
        for sql in &finding.statements {
            if let Err(error) = session.execute(sql, &[]).await {
                // Another server may have done it in the same moment.
                let left = findings(session.as_mut(), kind).await.map_err(failed)?;
                if left.contains(&finding) {
                    return Err(Error::Storage(format!("repairing the table kine: {sql}: {error}")));
                }
            }
        }
    }
    let left = findings(session.as_mut(), kind).await.map_err(failed)?;
    if left.is_empty() { Ok(()) } else { Err(Error::Storage(refusal(&left))) }
}

fn refusal(found: &[Finding]) -> String {
    let mut text = String::from("the table kine was made by an older version:");
    for finding in found {
        text.push_str(&format!(" {} (run: {});", finding.problem, finding.statements.join("; ")));
    }
    text.push_str(" or start with --schema-migration, which runs these statements");
    text
}

async fn findings(session: &mut dyn Session, kind: DialectKind) -> Result<Vec<Finding>, DbError> {
    match kind {
        DialectKind::Postgres => {
            let sql = "SELECT column_name::text, data_type::text, COALESCE(collation_name::text, '') FROM \
                       information_schema.columns WHERE table_schema = current_schema() AND table_name = \
                       'kine'";
            Ok(postgres::findings(&columns(session, sql).await?))
        }
        DialectKind::Mysql | DialectKind::Mariadb => {
            let sql = "SELECT CAST(column_name AS CHAR), CAST(column_type AS CHAR), \
                       COALESCE(CAST(collation_name AS CHAR), '') FROM information_schema.columns WHERE \
                       table_schema = DATABASE() AND table_name = 'kine'";
            let columns = columns(session, sql).await?;
            let sql = "SELECT DISTINCT CAST(index_name AS CHAR) FROM information_schema.statistics WHERE \
                       table_schema = DATABASE() AND table_name = 'kine'";
            let indexes = session.query(sql, &[]).await?;
            let indexes: Vec<String> =
                indexes.iter().map(|row| Ok(row.text(0)?.to_owned())).collect::<Result<_, DbError>>()?;
            Ok(mysql::findings(&columns, &indexes))
        }
        // Its integers have always had 64 bits, its text compares bytes, missing
        // indexes are made at every start, and names that it may take for numbers
        // are kept beside the table.
        DialectKind::Sqlite => Ok(Vec::new()),
    }
}

/// A column: name, type, collation, in small letters.
type Column = (String, String, String);

async fn columns(session: &mut dyn Session, sql: &str) -> Result<Vec<Column>, DbError> {
    let no_arguments: &[Value] = &[];
    let rows = session.query(sql, no_arguments).await?;
    let lower = |row: &Row, at| Ok::<_, DbError>(row.text(at)?.to_lowercase());
    rows.iter().map(|row| Ok((lower(row, 0)?, lower(row, 1)?, lower(row, 2)?))).collect()
}

fn column<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    columns.iter().find(|(column, ..)| column == name)
}
