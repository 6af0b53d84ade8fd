//! The first start on a database: what a table `kine` holds becomes the state
//! at the revision of its newest row.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use skiff_store::pb::skiff::v1::{StoredLease, StoredState};
use skiff_store::{Error, Result};

use super::repair::spelling::{Link, Rename, Spellings};
use super::{adopt, batch, names, rows, schema, statements, store_error};
use crate::db::{Database, DbError, DbErrorKind, DialectKind, Row, Session, Value};

/// Rows read at once.
const PAGE: i64 = 1000;
/// What etcd calls the compacted revision before the first compaction.
const NEVER_COMPACTED: i64 = -1;
/// How far back ids are checked for rows that may still be on their way.
const UNDECIDED: i64 = 1000;

/// Makes a database ours, if it is not yet.
///
/// # Errors
/// The database failed.
pub(crate) async fn take_over(db: &dyn Database, cluster_version: &str) -> Result<()> {
    let failed = |error: DbError| store_error(&error);
    let mut session = db.session().await.map_err(failed)?;
    let taken = session.query("SELECT id FROM skiff_head WHERE id = 1", &[]).await.map_err(failed)?;
    if !taken.is_empty() {
        return Ok(());
    }
    let newest = decide_gaps(session.as_mut()).await.map_err(failed)?;
    session.begin().await.map_err(failed)?;
    match TakeOver::new(db, cluster_version, newest).run(session.as_mut()).await {
        Ok(()) => session.commit().await.map_err(failed),
        // Another server did it in the same moment.
        Err(error) if error.kind() == DbErrorKind::UniqueViolation => {
            session.rollback().await.map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Takes the ids that were left out lately, so that no row can appear there
/// any more; answers the newest id. What comes after it is not decided.
async fn decide_gaps(session: &mut dyn Session) -> Result<i64, DbError> {
    let newest = session.query("SELECT MAX(id) FROM kine", &[]).await?;
    let newest = newest.first().map(|row| row.opt_int(0)).transpose()?.flatten().unwrap_or(0);
    let from = (newest - UNDECIDED).max(0);
    let sql = "SELECT id FROM kine WHERE id > ? ORDER BY id";
    let rows = session.query(sql, &[Value::Int(from)]).await?;
    let ids = rows.iter().map(|row| row.int(0)).collect::<Result<std::collections::BTreeSet<_>, _>>()?;
    // What lies before the first id that is there was compacted.
    let first = ids.first().copied().unwrap_or(newest);
    for missing in (first..newest).filter(|id| !ids.contains(id)) {
        match rows::insert_gap(session, missing).await {
            Err(error) if error.kind() != DbErrorKind::UniqueViolation => return Err(error),
            _ => {}
        }
    }
    Ok(newest)
}

struct TakeOver<'a> {
    db: &'a dyn Database,
    cluster_version: &'a str,
    /// The newest id up to which all is decided.
    newest: i64,
    /// The version each name has.
    versions: HashMap<String, i64>,
    /// The TTL that the newest row of each name has, and its id.
    leased: HashMap<String, (i64, i64)>,
    /// Where names may have been taken for each other.
    spellings: Option<Spellings>,
}

impl<'a> TakeOver<'a> {
    fn new(db: &'a dyn Database, cluster_version: &'a str, newest: i64) -> Self {
        let confused = matches!(db.dialect().kind(), DialectKind::Mysql | DialectKind::Mariadb);
        Self {
            db,
            cluster_version,
            newest,
            versions: HashMap::new(),
            leased: HashMap::new(),
            spellings: confused.then(Spellings::default),
        }
    }

    async fn run(mut self, session: &mut dyn Session) -> Result<(), DbError> {
        let dialect = self.db.dialect();
        let revision = self.newest.max(1);
        let compacted = adopt::compacted_by_others(session).await?;
        keep_one_compact_row(session).await?;
        let stored = StoredState {
            revision,
            compact_revision: if compacted > 0 { compacted } else { NEVER_COMPACTED },
            cluster_version: self.cluster_version.to_owned(),
            sparse: revision > 1,
            ..Default::default()
        };
        let sql = "INSERT INTO skiff_head (id, format, cluster_id, log_index, revision, state) VALUES (1, ?, \
                   ?, 0, ?, ?)";
        let cluster = i64::from_ne_bytes(rand::random());
        let arguments = [
            Value::Int(schema::FORMAT),
            Value::Int(cluster),
            Value::Int(revision),
            Value::Bytes(stored.encode_to_vec().into()),
        ];
        session.execute(sql, &arguments).await?;
        self.note_versions(session, revision).await?;
        batch::write_taken_leases(session, dialect, &self.leases()).await?;
        if revision > 1 {
            tracing::info!(revision, keys = self.versions.len(), "a database of kine is taken over");
        }
        Ok(())
    }

    /// Writes down what kine does not keep: the versions, as far as the rows
    /// tell them, and which lease a row belongs to.
    async fn note_versions(&mut self, session: &mut dyn Session, revision: i64) -> Result<(), DbError> {
        let mut after = 0;
        loop {
            let sql = format!(
                "SELECT id, {}, created, deleted, lease, create_revision, prev_revision, CASE WHEN name = ? \
                 THEN value END FROM kine WHERE id > ? AND id <= ? ORDER BY id LIMIT {PAGE}",
                names::NAME
            );
            let telling = Value::Text(names::API_SERVER_ROW.to_owned());
            let rows = session.query(&sql, &[telling, Value::Int(after), Value::Int(revision)]).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.int(0)?;
            let (mut beside, mut renames) = (Vec::new(), Vec::new());
            for row in &rows {
                renames.extend(self.follow(row)?);
                beside.extend(self.note(row)?);
            }
            for rename in renames {
                give_name(session, rename).await?;
            }
            let sql = "INSERT INTO skiff_version (id, version, lease) VALUES";
            statements::insert(session, sql, "", beside).await?;
        }
    }

    /// Finds a key that changes its spelling with a row; what is known of it
    /// goes on under the name that it has then.
    fn follow(&mut self, row: &Row) -> Result<Option<Rename>, DbError> {
        let Some(spellings) = &mut self.spellings else { return Ok(None) };
        let link = Link {
            id: row.int(0)?,
            name: row.text(1)?,
            created: row.int(2)? != 0,
            deleted: row.int(3)? != 0,
            create_revision: row.opt_int(5)?.unwrap_or(0),
            prev_revision: row.opt_int(6)?.unwrap_or(0),
        };
        let rename = spellings.see(link);
        if let Some(Rename { old, new, .. }) = &rename {
            let ended = if link.deleted { new } else { old };
            self.leased.remove(ended);
            if let Some(version) = self.versions.remove(ended) {
                self.versions.insert(link.name.to_owned(), version);
            }
        }
        Ok(rename)
    }

    fn note(&mut self, row: &Row) -> Result<Option<Vec<Value>>, DbError> {
        let (id, name) = (row.int(0)?, row.text(1)?);
        if name == names::COMPACT_ROW || names::is_gap(name) {
            return Ok(None);
        }
        if row.int(3)? != 0 {
            self.versions.remove(name);
            self.leased.remove(name);
            return Ok(None);
        }
        let created = row.int(2)? != 0;
        let told = row.opt_bytes(7)?.and_then(|value| names::key_of(name, value)).and_then(|key| key.version);
        let counted = if created { 1 } else { self.versions.get(name).map_or(2, |version| version + 1) };
        let version = told.unwrap_or(counted);
        let ttl = row.opt_int(4)?.unwrap_or(0);
        self.versions.insert(name.to_owned(), version);
        self.leased.insert(name.to_owned(), (id, ttl));
        let noted = version > 1 || ttl > 0;
        Ok(noted.then(|| vec![Value::Int(id), Value::Int(version), Value::Int(ttl)]))
    }

    /// kine's leases are their TTLs: one lease for each, from now on.
    fn leases(&self) -> Vec<StoredLease> {
        let ttls: BTreeMap<i64, ()> =
            self.leased.values().filter(|(_, ttl)| *ttl > 0).map(|(_, ttl)| (*ttl, ())).collect();
        ttls.into_keys().map(|ttl| StoredLease { id: ttl, ttl, remaining_ttl: 0 }).collect()
    }
}

/// An old kine may have made two rows for the compacted revision; writing it
/// would make them equal, which the unique index does not have.
async fn keep_one_compact_row(session: &mut dyn Session) -> Result<(), DbError> {
    let sql = "SELECT id FROM kine WHERE name = ? ORDER BY prev_revision DESC, id";
    let rows = session.query(sql, &[Value::Text(names::COMPACT_ROW.to_owned())]).await?;
    for row in rows.iter().skip(1) {
        let id = row.int(0)?;
        // The id stays, for it may be the newest one.
        let sql = "UPDATE kine SET name = ?, created = 0, deleted = 1, prev_revision = 0, value = NULL WHERE \
                   id = ?";
        session.execute(sql, &[Value::Text(names::gap(id)), Value::Int(id)]).await?;
    }
    Ok(())
}

/// Names rows anew. Collations pad, so the bytes are compared here.
async fn give_name(session: &mut dyn Session, rename: Rename) -> Result<(), DbError> {
    let sql = format!("SELECT id, {} FROM kine WHERE name = ? AND id >= ? AND id < ?", names::NAME);
    let Rename { from, until, old, new } = rename;
    let arguments = [Value::Text(old.clone()), Value::Int(from), Value::Int(until)];
    tracing::warn!(from = old, to = new, "a key was kept under two names that differ in case");
    for row in session.query(&sql, &arguments).await? {
        if row.text(1)? == old {
            let sql = "UPDATE kine SET name = ? WHERE id = ?";
            session.execute(sql, &[Value::Text(new.clone()), Value::Int(row.int(0)?)]).await?;
        }
    }
    Ok(())
}

/// The cluster's id.
///
/// # Errors
/// The database failed, or is not ours yet.
pub(crate) async fn cluster_id(db: &dyn Database) -> Result<u64> {
    let read = async {
        let mut session = db.session().await?;
        let rows = session.query("SELECT cluster_id FROM skiff_head WHERE id = 1", &[]).await?;
        rows.first().map(|row| row.int(0)).transpose()
    };
    let id = read.await.map_err(|error| store_error(&error))?;
    id.map(|id| id as u64).ok_or_else(|| Error::Corruption("skiff_head has no row".into()))
}
