//! The first start on a database: what a table `kine` holds becomes the state
//! at the revision of its newest row.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost::Message;
use skiff_store::pb::skiff::v1::{StoredLease, StoredState};
use skiff_store::{Error, Result};

use super::repair::spelling::{Link, Rename, Spellings};
use super::{batch, foreign, names, rows, schema, statements, store_error};
use crate::db::{Database, DbError, DbErrorKind, Dialect, DialectKind, Row, Session, Value};

/// Rows read at once.
const PAGE: i64 = 1000;
/// Attempts beside others that do the same.
const ATTEMPTS: u32 = 20;
/// What etcd calls the compacted revision before the first compaction.
const NEVER_COMPACTED: i64 = -1;
/// How far back ids are checked for rows that may still be on their way.
const UNDECIDED: i64 = 1000;

/// Makes a database ours, if it is not yet.
///
/// # Errors
/// The database failed.
pub(crate) async fn take_over(db: &dyn Database, cluster_version: &str) -> Result<()> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_take_over(db, cluster_version).await {
            // Another server did it in the same moment.
            Err(error)
                if matches!(error.kind(), DbErrorKind::UniqueViolation | DbErrorKind::Retry)
                    && attempt < ATTEMPTS => {}
            done => return done.map_err(|error| store_error(&error)),
        }
    }
}

async fn try_take_over(db: &dyn Database, cluster_version: &str) -> Result<(), DbError> {
    let mut session = db.session().await?;
    let taken = session.query("SELECT id FROM skiff_head WHERE id = 1", &[]).await?;
    if !taken.is_empty() {
        return Ok(());
    }
    let newest = decide_gaps(session.as_mut()).await?;
    session.begin().await?;
    let confused = matches!(db.dialect().kind(), DialectKind::Mysql | DialectKind::Mariadb);
    let taken = Taken { spellings: confused.then(Spellings::default), ..Taken::default() };
    let take = TakeOver { db, cluster_version, newest, taken };
    take.run(session.as_mut()).await?;
    session.commit().await
}

/// Takes the rows of kine from one revision to another as they are, as far as its
/// compaction has left them: versions and leases beside them are written down.
///
/// # Errors
/// The database failed.
pub(crate) async fn take_rows(
    session: &mut dyn Session,
    dialect: &dyn Dialect,
    after: i64,
    through: i64,
) -> Result<(), DbError> {
    // Beside us the table compares names by their bytes.
    let mut taken = Taken::default();
    taken.note_versions(session, after, through).await?;
    let ids: Vec<_> = taken.leases().iter().map(|lease| Value::Int(lease.id)).collect();
    let known =
        statements::query_each(session, "SELECT id FROM skiff_lease WHERE id IN ({})", &ids, &[]).await?;
    let known = known.iter().map(|row| row.int(0)).collect::<Result<HashSet<_>, _>>()?;
    let mut leases = taken.leases();
    leases.retain(|lease| !known.contains(&lease.id));
    batch::write_taken_leases(session, dialect, &leases).await
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
    taken: Taken,
}

/// What rows of kine tell beside what is in them.
#[derive(Default)]
struct Taken {
    /// The version each name has.
    versions: HashMap<String, i64>,
    /// The TTL that the newest row of each name has.
    leased: HashMap<String, i64>,
    /// Where names may have been taken for each other.
    spellings: Option<Spellings>,
}

impl TakeOver<'_> {
    async fn run(mut self, session: &mut dyn Session) -> Result<(), DbError> {
        let dialect = self.db.dialect();
        let revision = self.newest.max(1);
        let compacted = foreign::compacted(session).await?;
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
        self.taken.note_versions(session, 0, revision).await?;
        batch::write_taken_leases(session, dialect, &self.taken.leases()).await?;
        if revision > 1 {
            tracing::info!(revision, keys = self.taken.versions.len(), "a database of kine is taken over");
        }
        Ok(())
    }
}

impl Taken {
    /// Writes down what kine does not keep: the versions, as far as the rows
    /// tell them, and which lease a row belongs to.
    async fn note_versions(
        &mut self,
        session: &mut dyn Session,
        mut after: i64,
        through: i64,
    ) -> Result<(), DbError> {
        loop {
            // Of all values only those that tell a version.
            let sql = format!(
                "SELECT id, {}, created, deleted, lease, create_revision, prev_revision, CASE WHEN name = ? \
                 THEN value END FROM kine WHERE id > ? AND id <= ? ORDER BY id LIMIT {PAGE}",
                names::NAME
            );
            let telling = Value::Text(names::API_SERVER_ROW.to_owned());
            let rows = session.query(&sql, &[telling, Value::Int(after), Value::Int(through)]).await?;
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
        self.leased.insert(name.to_owned(), ttl);
        let noted = version > 1 || ttl > 0;
        Ok(noted.then(|| vec![Value::Int(id), Value::Int(version), Value::Int(ttl)]))
    }

    /// kine's leases are their TTLs: one lease for each, from now on.
    fn leases(&self) -> Vec<StoredLease> {
        let ttls: BTreeMap<i64, ()> =
            self.leased.values().filter(|ttl| **ttl > 0).map(|ttl| (*ttl, ())).collect();
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
