//! Statements of many rows.

use crate::db::{DbError, Session, Value};

/// Arguments of one statement, at most: SQLite takes 32,766, the others 65,535.
const MAX_ARGUMENTS: usize = 8_000;
/// Bytes of one statement, about: below what MySQL takes by default.
const MAX_BYTES: usize = 4 << 20;

/// Inserts rows, as many at a time as one statement may hold. `insert` ends
/// with "VALUES"; `after` follows the rows.
///
/// The numbers of rows in a statement are powers of two, so that a server has
/// few statements to prepare.
pub(crate) async fn insert(
    session: &mut dyn Session,
    insert: &str,
    after: &str,
    rows: Vec<Vec<Value>>,
) -> Result<(), DbError> {
    let mut rows = rows.into_iter().peekable();
    let mut chunk: Vec<Vec<Value>> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next() {
        bytes += row.iter().map(size).sum::<usize>();
        let width = row.len();
        chunk.push(row);
        if (chunk.len() + 1) * width > MAX_ARGUMENTS || bytes >= MAX_BYTES || rows.peek().is_none() {
            bytes = 0;
            insert_chunk(session, insert, after, std::mem::take(&mut chunk)).await?;
        }
    }
    Ok(())
}

async fn insert_chunk(
    session: &mut dyn Session,
    insert: &str,
    after: &str,
    mut rows: Vec<Vec<Value>>,
) -> Result<(), DbError> {
    while !rows.is_empty() {
        let count = 1 << rows.len().ilog2();
        let rest = rows.split_off(count);
        let row = format!("({})", marks(rows[0].len()));
        let sql = format!("{insert} {}{after}", vec![row; count].join(", "));
        let arguments: Vec<Value> = rows.into_iter().flatten().collect();
        session.execute(&sql, &arguments).await?;
        rows = rest;
    }
    Ok(())
}

/// Runs a statement for many values of one list: `sql` has `{}` where the list
/// of marks goes.
pub(crate) async fn for_each(session: &mut dyn Session, sql: &str, values: &[Value]) -> Result<u64, DbError> {
    for_each_with(session, sql, values, &[]).await
}

/// As [`for_each`]; of the arguments `more` follow the list.
pub(crate) async fn for_each_with(
    session: &mut dyn Session,
    sql: &str,
    values: &[Value],
    more: &[Value],
) -> Result<u64, DbError> {
    let mut count = 0;
    for chunk in powers_of_two(values) {
        let arguments = [chunk, more].concat();
        count += session.execute(&sql.replace("{}", &marks(chunk.len())), &arguments).await?;
    }
    Ok(count)
}

/// As [`for_each_with`], with rows as answers.
pub(crate) async fn query_each(
    session: &mut dyn Session,
    sql: &str,
    values: &[Value],
    more: &[Value],
) -> Result<Vec<crate::db::Row>, DbError> {
    let mut rows = Vec::new();
    for chunk in powers_of_two(values) {
        let arguments = [chunk, more].concat();
        rows.extend(session.query(&sql.replace("{}", &marks(chunk.len())), &arguments).await?);
    }
    Ok(rows)
}

/// Pieces whose lengths are powers of two, up to 512.
fn powers_of_two(mut values: &[Value]) -> Vec<&[Value]> {
    let mut pieces = Vec::new();
    while !values.is_empty() {
        let (piece, rest) = values.split_at((1 << values.len().ilog2()).min(512));
        pieces.push(piece);
        values = rest;
    }
    pieces
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::NoBytes | Value::Int(_) => 8,
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
    }
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}
