//! Which rows a change becomes.
//!
//! A change that kine can hold is a row of `kine` with the revision as its id:
//! the first change of a revision, of a key that the name column can hold.
//! Versions above 1 and leases, which kine does not know, are beside it in
//! `skiff_version`. All other changes are rows of `skiff_row`; where a revision
//! has no row of `kine` a gap row takes its id, as kine itself does it, so that
//! kine's pollers do not wait for it.

use std::collections::{HashMap, HashSet};

use prost::Message;
use skiff_store::Result;
use skiff_store::mvcc::{Change, Prepared, Unreadable};

use super::names;
use crate::core::statements;
use crate::db::{DbError, Dialect, Session, Value};

/// The rows of a number of changes.
#[derive(Default)]
pub(crate) struct Rows {
    kine: Vec<Vec<Value>>,
    versions: Vec<Vec<Value>>,
    extra: Vec<Vec<Value>>,
    /// Rows of `kine` whose `prev_revision` must be looked up.
    lookups: Vec<(usize, String)>,
    /// The newest id in `kine` that is before these.
    present: i64,
}

const INSERT_KINE: &str = "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, \
                           lease, value, old_value) VALUES";
/// Position of `prev_revision` in those.
const PREV_REVISION: usize = 5;
/// In a table that we made, kine's own row has this id.
const COMPACT_ROW_ID: i64 = 1;
const INSERT_VERSION: &str = "INSERT INTO skiff_version (id, version, lease) VALUES";
const INSERT_EXTRA: &str = "INSERT INTO skiff_row (revision, sub, name, value) VALUES";

impl Rows {
    /// The rows of what was prepared; of revisions up to `present`, which are
    /// there already, what stands beside them. Reads the replica: blocks.
    ///
    /// # Errors
    /// Faults of the replica.
    pub(crate) fn of(prepared: &Prepared, dialect: &dyn Dialect, present: i64) -> Result<Self> {
        let changes = prepared.changes()?;
        let (old, new) = changes.split_at(changes.partition_point(|change| change.revision <= present));
        let mut rows = Self::of_changes(new, dialect, &|lease| prepared.lease_ttl(lease));
        rows.present = present;
        for change in old {
            if let Some(kv) = &change.kv {
                rows.add_version(change.revision, kv.version, kv.lease);
            }
        }
        Ok(rows)
    }

    /// The rows of changes in their order. `ttl` tells the granted TTL of a lease.
    pub(crate) fn of_changes(
        changes: &[Change],
        dialect: &dyn Dialect,
        ttl: &dyn Fn(i64) -> Option<i64>,
    ) -> Self {
        let mut rows = Self { present: i64::MAX, ..Self::default() };
        // Newest row of `kine` of each name within this batch.
        let mut newest: HashMap<String, i64> = HashMap::new();
        for change in changes {
            let fits = change.sub == 0 && change.revision > COMPACT_ROW_ID;
            match names::name_of(dialect, &change.key).filter(|_| fits) {
                Some(name) => {
                    rows.add(change, name, newest.get(name).copied(), ttl);
                    newest.insert(name.to_owned(), change.revision);
                }
                None => rows.add_beside(change),
            }
        }
        rows
    }

    fn add_version(&mut self, revision: i64, version: i64, lease: i64) {
        if version > 1 || lease != 0 {
            self.versions.push(vec![Value::Int(revision), Value::Int(version), Value::Int(lease)]);
        }
    }

    fn add(&mut self, change: &Change, name: &str, in_batch: Option<i64>, ttl: &dyn Fn(i64) -> Option<i64>) {
        let id = Value::Int(change.revision);
        let lease = change.kv.as_ref().map_or(0, |kv| kv.lease);
        let version = change.kv.as_ref().map_or(0, |kv| kv.version);
        let created = change.previous.is_none();
        let before = in_batch.or(match &change.previous {
            Some((kv, 0)) => Some(kv.mod_revision),
            _ => None,
        });
        if before.is_none() {
            self.lookups.push((self.kine.len(), name.to_owned()));
        }
        let value = change.kv.as_ref().map(|kv| names::row_value(name, &kv.value, kv.version));
        let old = change.previous.as_ref().map(|(kv, _)| names::row_value(name, &kv.value, kv.version));
        // kine takes the number for the seconds that the row lives.
        let ttl = if lease == 0 { 0 } else { ttl(lease).unwrap_or(0) };
        let create_revision = change.kv.as_ref().filter(|_| !created).map_or(0, |kv| kv.create_revision);
        self.kine.push(vec![
            id,
            Value::Text(name.to_owned()),
            Value::Int(i64::from(created)),
            Value::Int(i64::from(change.kv.is_none())),
            Value::Int(create_revision),
            Value::Int(before.unwrap_or(0)),
            Value::Int(ttl.clamp(0, i64::from(i32::MAX))),
            value.map_or(Value::NoBytes, Value::Bytes),
            old.map_or(Value::NoBytes, Value::Bytes),
        ]);
        self.add_version(change.revision, version, lease);
    }

    fn add_beside(&mut self, change: &Change) {
        if change.sub == 0 && change.revision > COMPACT_ROW_ID {
            self.kine.push(gap_row(change.revision));
        }
        let value = change.kv.as_ref().map(|kv| kv.encode_to_vec()).unwrap_or_default();
        self.extra.push(vec![
            Value::Int(change.revision),
            Value::Int(i64::from(change.sub)),
            Value::Bytes(change.key.clone()),
            Value::Bytes(value.into()),
        ]);
    }

    /// Writes them.
    ///
    /// # Errors
    /// Those of the database; a unique violation where another program wrote
    /// at the same revision.
    pub(crate) async fn insert(mut self, session: &mut dyn Session) -> Result<(), DbError> {
        self.look_up(session).await?;
        statements::insert(session, INSERT_KINE, "", self.kine).await?;
        statements::insert(session, INSERT_VERSION, "", self.versions).await?;
        statements::insert(session, INSERT_EXTRA, "", self.extra).await
    }

    /// A key that is written anew follows its last deletion, as long as that is
    /// there: the unique index counts on it.
    async fn look_up(&mut self, session: &mut dyn Session) -> Result<(), DbError> {
        let names: HashSet<&String> = self.lookups.iter().map(|(_, name)| name).collect();
        let names: Vec<_> = names.into_iter().cloned().map(Value::Text).collect();
        // What another program has written since comes after these. MySQL compares
        // without blanks at the end, and would take two names for one.
        let sql = "SELECT name, MAX(id) FROM kine WHERE name IN ({}) AND id <= ? GROUP BY name, LENGTH(name)";
        let present = [Value::Int(self.present)];
        let mut newest = HashMap::new();
        for row in statements::query_each(session, sql, &names, &present).await? {
            newest.insert(row.text(0)?.to_owned(), row.int(1)?);
        }
        for (at, name) in &self.lookups {
            if let Some(id) = newest.get(name) {
                self.kine[*at][PREV_REVISION] = Value::Int(*id);
            }
        }
        Ok(())
    }
}

/// Whether a version is a row of `kine` for sure: kine writes more names than we do.
pub(crate) fn is_in_kine(dialect: &dyn Dialect, version: &Unreadable) -> bool {
    let fits = version.sub == 0 && version.revision > COMPACT_ROW_ID;
    fits && names::name_of(dialect, &version.key).is_some()
}

/// A row that stands for a revision without a change.
pub(crate) fn gap_row(revision: i64) -> Vec<Value> {
    let zero = Value::Int(0);
    vec![
        Value::Int(revision),
        Value::Text(names::gap(revision)),
        zero.clone(),
        Value::Int(1),
        zero.clone(),
        zero.clone(),
        zero,
        Value::NoBytes,
        Value::NoBytes,
    ]
}

/// Takes the id of a revision that nobody wrote. In a transaction of its own,
/// as it fails where somebody is just writing it.
///
/// # Errors
/// A unique violation where the revision was written meanwhile.
pub(crate) async fn insert_gap(session: &mut dyn Session, revision: i64) -> Result<(), DbError> {
    statements::insert(session, INSERT_KINE, "", vec![gap_row(revision)]).await
}
