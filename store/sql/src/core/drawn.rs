//! Ids drawn from the counter of the table `kine`, as kine draws its own.
//!
//! Where a kine beside us writes all the time, the id after the newest row is
//! nearly always another's already, on its way. So a writer that comes too late
//! too often takes a place in the same queue: rows that stand for nothing, in its
//! own transaction, have their ids from the counter; nobody else can have these.
//! What lies before them is finite: it is waited for, or gets a gap row, within
//! the transaction. Then it is taken over together with what the writer writes,
//! at the ids drawn. No lock keeps kine from writing meanwhile.

use std::collections::BTreeSet;

use super::rows::gap_row;
use super::statements;
use crate::db::{DbError, Dialect, DialectKind, Session, Value};

/// The name of rows that take an id; they never outlive their transaction.
const NAME: &str = "gap-0";

/// Consecutive ids that nobody else has.
pub(crate) struct Drawn {
    /// The first.
    pub(crate) first: i64,
    /// How many, at least 1; may be fewer than asked for.
    pub(crate) count: usize,
}

/// Draws up to `count` ids.
///
/// # Errors
/// The database failed.
pub(crate) async fn draw(session: &mut dyn Session, count: usize) -> Result<Option<Drawn>, DbError> {
    let insert = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, \
                  old_value) VALUES";
    let row = |number: usize| {
        let (zero, one) = (Value::Int(0), Value::Int(1));
        let number = Value::Int(number as i64);
        let name = Value::Text(NAME.to_owned());
        vec![name, zero.clone(), one, zero.clone(), number, zero, Value::NoBytes, Value::NoBytes]
    };
    statements::insert(session, insert, "", (1..=count).map(row).collect()).await?;
    let name = [Value::Text(NAME.to_owned())];
    let rows = session.query("SELECT id FROM kine WHERE name = ? ORDER BY id", &name).await?;
    let ids = rows.iter().map(|row| row.int(0)).collect::<Result<Vec<_>, _>>()?;
    session.execute("DELETE FROM kine WHERE name = ?", &name).await?;
    let Some(first) = ids.first().copied() else { return Ok(None) };
    let count = ids.iter().zip(first..).take_while(|(id, expected)| *id == expected).count();
    Ok(Some(Drawn { first, count }))
}

/// Waits for what is on its way between two ids, and takes the ids that are left
/// out. Between them nothing can appear any more then.
///
/// # Errors
/// The database failed.
pub(crate) async fn decide(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    after: i64,
    before: i64,
) -> Result<(), DbError> {
    let sql = "SELECT id FROM kine WHERE id > ? AND id < ?";
    let rows = session.query(sql, &[Value::Int(after), Value::Int(before)]).await?;
    let there = rows.iter().map(|row| row.int(0)).collect::<Result<BTreeSet<_>, _>>()?;
    let missing: Vec<_> = (after + 1..before).filter(|id| !there.contains(id)).map(gap_row).collect();
    let columns =
        "kine (id, name, created, deleted, create_revision, prev_revision, lease, value, old_value)";
    let (insert, otherwise) = match dialect.kind() {
        DialectKind::Mysql | DialectKind::Mariadb => ("INSERT IGNORE INTO", ""),
        DialectKind::Postgres | DialectKind::Sqlite => ("INSERT INTO", " ON CONFLICT (id) DO NOTHING"),
    };
    statements::insert(session, &format!("{insert} {columns} VALUES"), otherwise, missing).await
}

#[cfg(test)]
mod tests {
    use super::NAME;
    use crate::core::names;

    #[test]
    fn a_row_that_takes_an_id_is_no_key() {
        assert!(names::is_gap(NAME));
    }
}
