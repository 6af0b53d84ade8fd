//! What kine does with its table, as far as others must agree with it: written
//! from the facts about its schema, for tests.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use skiff_sql::db::{DbError, DbErrorKind, Session, Value};

/// A row to put into the table of an old kine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) name: Cow<'static, str>,
    pub(crate) created: bool,
    pub(crate) deleted: bool,
    pub(crate) create_revision: i64,
    pub(crate) prev_revision: i64,
    pub(crate) lease: i64,
    pub(crate) value: Option<Cow<'static, str>>,
    pub(crate) old_value: Option<Cow<'static, str>>,
}

/// What kine writes for a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tombstones {
    /// Value, lease and create revision of what is deleted: until 0.15.
    Full,
    /// None of them.
    Bare,
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
            Value::Text(row.name.to_string()),
            Value::Int(i64::from(row.created)),
            Value::Int(i64::from(row.deleted)),
            Value::Int(row.create_revision),
            Value::Int(row.prev_revision),
            Value::Int(row.lease),
            blob(row.value.as_deref()),
            blob(row.old_value.as_deref()),
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
    let sql = "SELECT kv.id, CONCAT(kv.name, ''), kv.created, kv.create_revision, kv.value FROM kine kv JOIN (SELECT \
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
    pub(crate) tombstones: Tombstones,
}

/// The newest row of a name.
struct Newest {
    id: i64,
    deleted: bool,
    create_revision: i64,
    lease: i64,
    value: Vec<u8>,
}

impl Peer {
    async fn newest(&mut self, name: &str) -> Result<Option<Newest>, DbError> {
        let sql = "SELECT id, deleted, created, create_revision, lease, value FROM kine WHERE name = ? ORDER \
                   BY id DESC LIMIT 1";
        let rows = self.session.query(sql, &[Value::Text(name.to_owned())]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let id = row.int(0)?;
        Ok(Some(Newest {
            id,
            deleted: row.int(1)? != 0,
            create_revision: if row.int(2)? != 0 { id } else { row.int(3)? },
            lease: row.int(4)?,
            value: row.opt_bytes(5)?.unwrap_or_default().to_vec(),
        }))
    }

    /// Creates, updates, or deletes; false where somebody else was faster.
    pub(crate) async fn write(&mut self, name: &str, value: Option<&str>) -> bool {
        self.try_write(name, value).await.unwrap_or_else(|error| panic!("kine writes: {error}"))
    }

    /// As [`Peer::write`], with the errors of the database.
    pub(crate) async fn try_write(&mut self, name: &str, value: Option<&str>) -> Result<bool, DbError> {
        let newest = self.newest(name).await?;
        let prev_revision = newest.as_ref().map_or(0, |newest| newest.id);
        let live = newest.filter(|newest| !newest.deleted);
        if value.is_none() && live.is_none() {
            return Ok(false);
        }
        let sql = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, \
                   old_value) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let old = live.as_ref().map(|live| Value::Bytes(Bytes::copy_from_slice(&live.value)));
        // What the row says of the key it follows.
        let keeps = value.is_some() || self.tombstones == Tombstones::Full;
        let create_revision = live.as_ref().filter(|_| keeps).map_or(0, |live| live.create_revision);
        let deletion = match (&live, value, keeps) {
            (Some(live), None, true) => Some((live.lease, old.clone().unwrap_or(Value::Null))),
            _ => None,
        };
        let (lease, value_cell) = deletion.unwrap_or_else(|| (0, blob(value)));
        let arguments = [
            Value::Text(name.to_owned()),
            Value::Int(i64::from(live.is_none())),
            Value::Int(i64::from(value.is_none())),
            Value::Int(create_revision),
            Value::Int(prev_revision),
            Value::Int(lease),
            value_cell,
            old.unwrap_or(Value::Null),
        ];
        match self.session.execute(sql, &arguments).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), DbErrorKind::UniqueViolation | DbErrorKind::Retry) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Compacts as kine does.
    pub(crate) async fn compact(&mut self, through: i64) {
        self.session.begin().await.expect("a transaction");
        self.remove_replaced(through).await;
        self.session.commit().await.expect("kine commits");
    }

    /// Within a transaction: removes what a row names as its predecessor, and
    /// deletions, and notes it.
    pub(crate) async fn remove_replaced(&mut self, through: i64) {
        let sql = "DELETE FROM kine WHERE id IN (SELECT id FROM (SELECT prev_revision AS id FROM kine WHERE \
                   name <> 'compact_rev_key' AND prev_revision <> 0 AND id <= ? UNION SELECT id FROM kine \
                   WHERE deleted <> 0 AND id <= ?) AS gone)";
        self.session.execute(sql, &[Value::Int(through), Value::Int(through)]).await.expect("kine compacts");
        let sql = "UPDATE kine SET prev_revision = ? WHERE name = 'compact_rev_key'";
        self.session.execute(sql, &[Value::Int(through)]).await.expect("kine notes it");
    }
}
