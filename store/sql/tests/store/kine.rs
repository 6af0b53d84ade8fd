//! What kine does with its table, as far as others must agree with it: written
//! from the facts about its schema, for tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use skiff_sql::db::{DbError, DbErrorKind, Session, Value};

/// A row to put into the table of an old kine.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) name: &'static str,
    pub(crate) created: bool,
    pub(crate) deleted: bool,
    pub(crate) create_revision: i64,
    pub(crate) prev_revision: i64,
    pub(crate) lease: i64,
    pub(crate) value: Option<&'static str>,
    pub(crate) old_value: Option<&'static str>,
}

fn blob(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |value| Value::Bytes(Bytes::copy_from_slice(value.as_bytes())))
}

/// Inserts rows as they are.
pub(crate) async fn insert(session: &mut dyn Session, rows: &[Row]) {
    for row in rows {
        let sql = "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, \
                   value, old_value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let arguments = [
            Value::Int(row.id),
            Value::Text(row.name.to_owned()),
            Value::Int(i64::from(row.created)),
            Value::Int(i64::from(row.deleted)),
            Value::Int(row.create_revision),
            Value::Int(row.prev_revision),
            Value::Int(row.lease),
            blob(row.value),
            blob(row.old_value),
        ];
        session.execute(sql, &arguments).await.expect("a row");
    }
}

/// A key as kine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) value: Vec<u8>,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
}

/// Lists everything: the newest row of each name, without those deleted.
pub(crate) async fn list(session: &mut dyn Session) -> BTreeMap<String, Listed> {
    let sql = "SELECT kv.id, kv.name, kv.created, kv.create_revision, kv.value FROM kine kv JOIN (SELECT \
               MAX(id) AS id FROM kine GROUP BY name) newest ON kv.id = newest.id WHERE kv.deleted = 0 AND \
               kv.name <> 'compact_rev_key'";
    let rows = session.query(sql, &[]).await.expect("a list");
    rows.iter()
        .map(|row| {
            let id = row.int(0).unwrap();
            let created = row.int(2).unwrap() != 0;
            let create_revision = if created { id } else { row.int(3).unwrap() };
            let value = row.opt_bytes(4).unwrap().unwrap_or_default().to_vec();
            (row.text(1).unwrap().to_owned(), Listed { value, create_revision, mod_revision: id })
        })
        .collect()
}

/// A writer that follows kine's protocol: no lock, ids from the table's own
/// counter, the unique index as the only guard.
pub(crate) struct Peer {
    pub(crate) session: Box<dyn Session>,
}

impl Peer {
    async fn newest(&mut self, name: &str) -> Result<Option<(i64, bool, i64, Vec<u8>)>, DbError> {
        let sql = "SELECT id, deleted, created, create_revision, value FROM kine WHERE name = ? ORDER BY id \
                   DESC LIMIT 1";
        let rows = self.session.query(sql, &[Value::Text(name.to_owned())]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id = row.int(0)?;
        let create_revision = if row.int(2)? != 0 { id } else { row.int(3)? };
        let value = row.opt_bytes(4)?.unwrap_or_default().to_vec();
        Ok(Some((id, row.int(1)? != 0, create_revision, value)))
    }

    /// Creates, updates, or deletes; false where somebody else was faster.
    pub(crate) async fn write(&mut self, name: &str, value: Option<&str>) -> bool {
        let newest = self.newest(name).await.expect("kine reads");
        let live = newest.clone().filter(|(_, deleted, ..)| !deleted);
        if value.is_none() && live.is_none() {
            return false;
        }
        let sql = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, \
                   old_value) VALUES (?, ?, ?, ?, ?, 0, ?, ?)";
        let create_revision = match (&live, value) {
            (Some((_, _, create_revision, _)), Some(_)) => *create_revision,
            _ => 0,
        };
        let old = live.as_ref().map(|(.., value)| Value::Bytes(Bytes::copy_from_slice(value)));
        let arguments = [
            Value::Text(name.to_owned()),
            Value::Int(i64::from(live.is_none())),
            Value::Int(i64::from(value.is_none())),
            Value::Int(create_revision),
            Value::Int(newest.map_or(0, |(id, ..)| id)),
            blob(value),
            old.unwrap_or(Value::Null),
        ];
        match self.session.execute(sql, &arguments).await {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), DbErrorKind::UniqueViolation | DbErrorKind::Retry) => false,
            Err(error) => panic!("kine writes: {error}"),
        }
    }
}
