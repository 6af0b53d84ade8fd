//! Filling a replica from the tables, from one state of the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use skiff_store::engine::Engine;
use skiff_store::mvcc::{Filler, Version};
use skiff_store::pb::mvccpb::KeyValue;
use skiff_store::{Error, Result};

use super::hold::Hold;
use super::tail::Tail;
use super::{foreign, names, schema, store_error};
use crate::db::{Database, DbError, Row, Session, Value};

/// Rows read at once: one of the largest values each must fit into memory.
const PAGE: i64 = 200;
/// Attempts to find a moment in which no compaction of another program is news.
const ATTEMPTS: u32 = 20;
/// How often progress is told.
const REPORT: Duration = Duration::from_secs(3);

/// Fills an empty engine. What is answered keeps the log from being pruned, for as
/// long as the replica is behind it.
///
/// # Errors
/// The database failed; its rows contradict each other; faults of the engine.
pub(crate) async fn load(db: &Arc<dyn Database>, engine: Arc<dyn Engine>) -> Result<(Loaded, Option<Hold>)> {
    // Without it filling goes well all the same, if it is quick enough.
    let hold = Hold::take(db).await;
    let hold = hold.inspect_err(|error| tracing::warn!(%error, "cannot keep the log from being pruned")).ok();
    fill(snapshot(db.as_ref()).await?, engine).await.map(|loaded| (loaded, hold))
}

/// As [`load`], for one who must not write into the database.
///
/// # Errors
/// As [`load`]; a kine has compacted what no server of ours has noted.
pub(crate) async fn read_only(db: &dyn Database, engine: Arc<dyn Engine>) -> Result<Loaded> {
    let mut session = db.session().await.map_err(failed)?;
    session.begin_snapshot().await.map_err(failed)?;
    if foreign::unnoted(session.as_mut(), db.dialect()).await.map_err(failed)?.is_some() {
        return Err(Error::Unavailable(
            "kine has compacted this database, and no skiff beside it has noted that yet: start `skiff kine` on \
             it once"
                .to_owned(),
        ));
    }
    fill(session, engine).await
}

async fn fill(mut session: Box<dyn Session>, engine: Arc<dyn Engine>) -> Result<Loaded> {
    let loaded = Loader::new(session.as_mut(), engine)?.run().await;
    let ended = session.rollback().await.map_err(failed);
    loaded.and_then(|loaded| ended.map(|()| loaded))
}

/// Where the database stood when it was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Index of the last entry.
    pub(crate) index: u64,
    /// The revision.
    pub(crate) revision: i64,
    /// The transaction that wrote the last entry, where that is still there.
    writer: Option<String>,
}

impl Loaded {
    /// Notes who wrote the last entry, once the replica is what was read.
    pub(crate) fn note(self, tail: &Tail) {
        if let Some(writer) = self.writer {
            tail.note(self.index, writer);
        }
    }
}

/// One state of the database, of which our log knows everything that is gone.
async fn snapshot(db: &dyn Database) -> Result<Box<dyn Session>> {
    for _ in 0..ATTEMPTS {
        foreign::note(db).await.map_err(failed)?;
        let mut session = db.session().await.map_err(failed)?;
        session.begin_snapshot().await.map_err(failed)?;
        match foreign::unnoted(session.as_mut(), db.dialect()).await.map_err(failed)? {
            None => return Ok(session),
            // It compacted between the two.
            Some(_) => session.rollback().await.map_err(failed)?,
        }
    }
    Err(Error::Unavailable("another program compacts the table kine all the time".into()))
}

fn failed(error: DbError) -> Error {
    store_error(&error)
}

struct Loader<'a> {
    session: &'a mut dyn Session,
    filler: Filler,
    revision: i64,
    count: u64,
    begun: Instant,
    reported: Instant,
}

impl<'a> Loader<'a> {
    fn new(session: &'a mut dyn Session, engine: Arc<dyn Engine>) -> Result<Self> {
        let now = Instant::now();
        let filler = Filler::new(engine)?;
        Ok(Self { session, filler, revision: 0, count: 0, begun: now, reported: now })
    }

    async fn run(mut self) -> Result<Loaded> {
        let sql = "SELECT revision, state, log_index, (SELECT writer FROM skiff_log WHERE idx = \
                   skiff_head.log_index) FROM skiff_head WHERE id = 1";
        let rows = self.query(sql, &[]).await?;
        let head = rows.first().ok_or_else(|| Error::Corruption("skiff_head has no row".into()))?;
        self.revision = head.int(0).map_err(failed)?;
        self.filler.state(&head.bytes(1).map_err(failed)?)?;
        let index = head.int(2).map_err(failed)? as u64;
        let writer = head.opt_text(3).map_err(failed)?.map(str::to_owned);
        self.small_rows().await?;
        self.kine_rows().await?;
        self.extra_rows().await?;
        let seconds = self.begun.elapsed().as_secs_f64();
        tracing::info!(rows = self.count, revision = self.revision, seconds, "the replica is filled");
        let loaded = Loaded { index, revision: self.revision, writer };
        self.filler.finish().map(|()| loaded)
    }

    async fn query(&mut self, sql: &str, arguments: &[Value]) -> Result<Vec<Row>> {
        self.session.query(sql, arguments).await.map_err(failed)
    }

    async fn small_rows(&mut self) -> Result<()> {
        let mut after = String::new();
        loop {
            let sql =
                format!("SELECT id, cf, name, value FROM skiff_state WHERE id > ? ORDER BY id LIMIT {PAGE}");
            let rows = self.query(&sql, &[Value::Text(after)]).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.text(0).map_err(failed)?.to_owned();
            for row in &rows {
                let cf = schema::numbered_cf(row.int(1).map_err(failed)?)?;
                let (name, value) = (row.bytes(2).map_err(failed)?, row.bytes(3).map_err(failed)?);
                self.filler.small_row(cf, name, value)?;
            }
        }
    }

    async fn kine_rows(&mut self) -> Result<()> {
        let mut after = 0;
        loop {
            let sql = format!(
                "SELECT id, {}, created, deleted, create_revision, value FROM kine WHERE id > ? AND id <= ? \
                 ORDER BY id LIMIT {PAGE}",
                names::NAME
            );
            let rows = self.query(&sql, &[Value::Int(after), Value::Int(self.revision)]).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            let last = last.int(0).map_err(failed)?;
            let versions = self.versions(after, last).await?;
            for row in &rows {
                if let Some(version) = kine_version(row, &versions).map_err(failed)? {
                    self.filler.version(&version)?;
                }
            }
            after = last;
            self.report(rows.len());
        }
    }

    /// Versions and leases beside the rows of `kine` from one id to another.
    async fn versions(&mut self, after: i64, through: i64) -> Result<HashMap<i64, (i64, i64)>> {
        let sql = "SELECT id, version, lease FROM skiff_version WHERE id > ? AND id <= ?";
        let rows = self.query(sql, &[Value::Int(after), Value::Int(through)]).await?;
        let read = |row: &Row| Ok((row.int(0)?, (row.int(1)?, row.int(2)?)));
        rows.iter().map(read).collect::<Result<_, DbError>>().map_err(failed)
    }

    async fn extra_rows(&mut self) -> Result<()> {
        let mut after = (0, -1);
        loop {
            let sql = format!(
                "SELECT revision, sub, name, value FROM skiff_row WHERE (revision > ? OR (revision = ? AND \
                 sub > ?)) AND revision <= ? ORDER BY revision, sub LIMIT {PAGE}"
            );
            let (revision, sub) = (Value::Int(after.0), Value::Int(after.1));
            let arguments = [revision.clone(), revision, sub, Value::Int(self.revision)];
            let rows = self.query(&sql, &arguments).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = (last.int(0).map_err(failed)?, last.int(1).map_err(failed)?);
            for row in &rows {
                self.filler.version(&extra_version(row)?)?;
            }
            self.report(rows.len());
        }
    }

    fn report(&mut self, rows: usize) {
        self.count += rows as u64;
        if self.reported.elapsed() >= REPORT {
            self.reported = Instant::now();
            tracing::info!(rows = self.count, "filling the replica");
        }
    }
}

/// The version that a row of `kine` holds; `None` for a row that holds none.
fn kine_version(row: &Row, versions: &HashMap<i64, (i64, i64)>) -> Result<Option<Version>, DbError> {
    let id = row.int(0)?;
    let value = row.opt_bytes(5)?.unwrap_or_default();
    let Some(named) = names::key_of(row.text(1)?, value) else { return Ok(None) };
    let deleted = row.int(3)? != 0;
    let mut kv = KeyValue { key: named.key, mod_revision: id, ..Default::default() };
    if !deleted {
        let created = row.int(2)? != 0;
        let beside = versions.get(&id).copied();
        kv.value = named.value;
        kv.create_revision = if created { id } else { row.int(4)? };
        kv.version = beside.map(|(version, _)| version).or(named.version).unwrap_or(1);
        kv.lease = beside.map_or(0, |(_, lease)| lease);
    }
    Ok(Some(Version { kv, sub: 0, deleted }))
}

fn extra_version(row: &Row) -> Result<Version> {
    let (revision, sub) = (row.int(0).map_err(failed)?, row.int(1).map_err(failed)?);
    let value = row.bytes(3).map_err(failed)?;
    let deleted = value.is_empty();
    let kv = if deleted {
        KeyValue { key: row.bytes(2).map_err(failed)?, mod_revision: revision, ..Default::default() }
    } else {
        let damaged = |error| Error::Corruption(format!("skiff_row {revision}/{sub}: {error}"));
        KeyValue::decode(value).map_err(damaged)?
    };
    Ok(Version { deleted, kv, sub: sub as u32 })
}
