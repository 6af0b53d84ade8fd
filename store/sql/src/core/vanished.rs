//! Keys that another program deleted, and whose deletions it compacted before we
//! saw them, as after a pause of this server: no row tells of them any more.
//!
//! What tells is that the row of the key is gone and no later one has come. The
//! deletion takes the place of a row that is missing: each left one behind.

use std::collections::HashSet;

use bytes::Bytes;
use skiff_store::api::{Read, ReadReply};
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{Error, Result};

use super::writer::Failure;
use super::{Core, blocking, names};
use crate::db::{DbError, Session, Value};

/// Rows read at once.
const PAGE: i64 = 10_000;

/// Finds up to `limit` keys of the replica, which stands at `revision`, that were
/// deleted by what is compacted; with a revision for each deletion, in order.
///
/// # Errors
/// Those of the database and the replica.
pub(super) async fn find(
    core: &Core,
    session: &mut dyn Session,
    revision: i64,
    compacted: i64,
    limit: usize,
) -> Result<Vec<(i64, Bytes)>, Failure> {
    if compacted <= revision {
        return Ok(Vec::new());
    }
    let there = ids(session, "", 0, revision).await?;
    let mut keys = Vec::new();
    for (key, id) in live(core).await? {
        if keys.len() == limit {
            break;
        }
        if !there.contains(&id) && is_of_kine(core, &key, id).await? && !has_rows(session, core, &key).await?
        {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    // A gap row is none: it may have come after the deletion was gone.
    let taken = ids(session, " AND name NOT LIKE 'gap-%'", revision, compacted).await?;
    let missing = (revision + 1..=compacted).filter(|id| !taken.contains(id));
    Ok(missing.zip(keys).collect())
}

/// The ids of `kine` after one and up to another.
async fn ids(
    session: &mut dyn Session,
    which: &str,
    mut after: i64,
    through: i64,
) -> Result<HashSet<i64>, DbError> {
    let mut ids = HashSet::new();
    loop {
        let sql = format!("SELECT id FROM kine WHERE id > ? AND id <= ?{which} ORDER BY id LIMIT {PAGE}");
        let rows = session.query(&sql, &[Value::Int(after), Value::Int(through)]).await?;
        let Some(last) = rows.last() else { return Ok(ids) };
        after = last.int(0)?;
        for row in &rows {
            ids.insert(row.int(0)?);
        }
    }
}

/// The keys of the replica, and their revisions.
async fn live(core: &Core) -> Result<Vec<(Bytes, i64)>> {
    let everything = Bytes::from_static(b"\0");
    let request = pb::RangeRequest {
        key: everything.clone(),
        range_end: everything,
        keys_only: true,
        serializable: true,
        ..Default::default()
    };
    let mvcc = core.mvcc.clone();
    match blocking(move || mvcc.read(None, &Read::Range(request))).await? {
        ReadReply::Range(all) => Ok(all.kvs.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect()),
        _ => Err(Error::Other("a range was not answered by one".into())),
    }
}

/// Whether the newest version of a key is a row of `kine`: the first change of
/// its revision, and of a name that fits there.
async fn is_of_kine(core: &Core, key: &Bytes, revision: i64) -> Result<bool> {
    if names::name_of(core.db.dialect(), key).is_none() {
        return Ok(false);
    }
    let (mvcc, key) = (core.mvcc.clone(), key.clone());
    Ok(blocking(move || mvcc.version_at(&key, revision)).await? == Some((revision, 0)))
}

/// Whether a row of a key is there.
async fn has_rows(session: &mut dyn Session, core: &Core, key: &[u8]) -> Result<bool, DbError> {
    let Some(name) = names::name_of(core.db.dialect(), key) else { return Ok(false) };
    let sql = format!("SELECT {} FROM kine WHERE name = ?", names::NAME);
    let rows = session.query(&sql, &[Value::Text(name.to_owned())]).await?;
    Ok(rows.iter().any(|row| row.text(0).is_ok_and(|found| found == name)))
}
