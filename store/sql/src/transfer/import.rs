//! Writing a state into an empty database.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use skiff_store::mvcc::{Change, Chronicle, Version};
use skiff_store::pb::skiff::v1::StoredState;
use skiff_store::{Error, Result};
use tokio::sync::mpsc;

use super::ours::OursReader;
use super::{IMPORT, IMPORT_COMPACTED, IMPORTED, Reader, progress};
use crate::core::rows::{self, Rows};
use crate::core::{batch, blocking, names, repair, schema, store_error};
use crate::db::{Database, DbError, DbErrorKind, DialectKind, Session, Value};

/// Changes, and bytes of them, written in one transaction, about.
const PAGE: (usize, usize) = (500, 2 << 20);
/// Pages that are ready before they are written.
const AHEAD: usize = 2;
/// Attempts for one page while the database fails in a way that passes.
const ATTEMPTS: u32 = 60;
/// Pause before the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Whose import it is while one is thrown away: nobody's.
const CLEARING: i64 = 0;

const UNFINISHED: &str = "a migration from elsewhere, or one whose source was compacted meanwhile, was left \
                          unfinished in the target database: run with --restart to throw away what it wrote";

/// A database that is being filled.
pub struct Import {
    db: Arc<dyn Database>,
    session: Option<Box<dyn Session>>,
    identity: i64,
    /// The compacted revision of the state with which it began.
    compacted: i64,
    through: i64,
}

/// Changes that are written together: whole revisions.
struct Page {
    changes: Vec<Change>,
    through: i64,
}

impl Import {
    /// Begins an import into an empty database, or goes on with one of the same
    /// `identity`: whose state it is. `compacted` is that state's compacted
    /// revision. `restart` throws away what an unfinished one wrote.
    ///
    /// # Errors
    /// The database holds something else, or failed.
    pub async fn begin(db: Arc<dyn Database>, identity: u64, compacted: i64, restart: bool) -> Result<Self> {
        schema::prepare(db.as_ref()).await?;
        repair::repair(db.as_ref(), false).await?;
        let compacted = compacted.max(0);
        let mut import = Self { db, session: None, identity: identity as i64, compacted, through: 0 };
        let begun = import.find_place(restart).await.map_err(|error| store_error(&error))?;
        begun.map_err(Error::Other)?;
        Ok(import)
    }

    /// What is there: a place to begin or to go on; or why there is none.
    async fn find_place(&mut self, restart: bool) -> Result<Result<(), String>, DbError> {
        let mut session = self.db.session().await?;
        let head = session.query("SELECT revision FROM skiff_head WHERE id = 1", &[]).await?;
        let begun = progress(session.as_mut(), IMPORT).await?;
        if let (Some(row), None) = (head.first(), begun) {
            return Ok(Err(format!(
                "the target database holds a store at revision {} already: name an empty database",
                row.int(0)?
            )));
        }
        match begun {
            Some(_) if restart => clear(session.as_mut()).await?,
            Some(found) => {
                let through = progress(session.as_mut(), IMPORTED).await?.unwrap_or(0);
                let compacted = progress(session.as_mut(), IMPORT_COMPACTED).await?.unwrap_or(0);
                // What is written is the beginning of this state too where all that is
                // missing is still kept.
                let fits = compacted == self.compacted || through >= self.compacted;
                if found != self.identity || !fits {
                    return Ok(Err(UNFINISHED.to_owned()));
                }
                (self.through, self.compacted) = (through, compacted);
                reopen(session.as_mut()).await?;
                return Ok(Ok(()));
            }
            None => {
                let sql = "SELECT id FROM kine WHERE name <> ? LIMIT 1";
                let name = Value::Text(names::COMPACT_ROW.to_owned());
                if !session.query(sql, &[name]).await?.is_empty() {
                    return Ok(Err(
                        "the target database holds rows of kine already: name an empty database".to_owned()
                    ));
                }
            }
        }
        session.begin().await?;
        set_progress(session.as_mut(), self.db.as_ref(), IMPORT, self.identity).await?;
        set_progress(session.as_mut(), self.db.as_ref(), IMPORT_COMPACTED, self.compacted).await?;
        set_progress(session.as_mut(), self.db.as_ref(), IMPORTED, 0).await?;
        session.commit().await?;
        Ok(Ok(()))
    }

    /// Up to which revision all is written.
    pub fn through(&self) -> i64 {
        self.through
    }

    /// Writes everything that a state has beyond [`Import::through`].
    ///
    /// # Errors
    /// The database failed for longer than it may; faults of the state. What
    /// was written before stays.
    pub async fn append(&mut self, chronicle: Arc<Chronicle>, told: impl Fn(i64)) -> Result<()> {
        let ttls: HashMap<i64, i64> =
            chronicle.leases().into_iter().map(|lease| (lease.id, lease.ttl)).collect();
        let StoredState { revision, compact_revision, .. } = *chronicle.stored();
        if self.through < compact_revision && compact_revision != self.compacted {
            return Err(Error::Other(format!(
                "the source was compacted at revision {compact_revision}, and only what came up to {} was copied \
                 before: run again with --restart, with compactions paused meanwhile",
                self.through
            )));
        }
        let (pages, mut ready) = mpsc::channel(AHEAD);
        let after = self.through;
        let reading = tokio::spawn(blocking(move || read_pages(&chronicle, after, &pages)));
        let mut written = Ok(());
        while let Some(page) = ready.recv().await {
            written = self.write(&page, &ttls).await;
            if written.is_err() {
                break;
            }
            told(self.through);
        }
        drop(ready);
        // Where writing failed, reading ended for that reason.
        written?;
        reading.await.map_err(|error| Error::Other(format!("reading the state: {error}")))??;
        self.write(&Page { changes: Vec::new(), through: revision }, &ttls).await
    }

    /// Writes a page, over faults that pass.
    async fn write(&mut self, page: &Page, ttls: &HashMap<i64, i64>) -> Result<()> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Err(error) = self.try_write(page, ttls).await else { return Ok(()) };
            self.session = None;
            if !passes(&error) || attempt >= ATTEMPTS {
                return Err(store_error(&error));
            }
            tracing::warn!(%error, attempt, "writing a page failed; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_write(&mut self, page: &Page, ttls: &HashMap<i64, i64>) -> Result<(), DbError> {
        if self.session.is_none() {
            let mut session = self.db.session().await?;
            // A commit before this may have happened after all.
            self.through = progress(session.as_mut(), IMPORTED).await?.unwrap_or(0);
            self.session = Some(session);
        }
        if page.through <= self.through {
            return Ok(());
        }
        let Some(session) = self.session.as_deref_mut() else { return Ok(()) };
        session.begin().await?;
        let rows = Rows::of_changes(&page.changes, self.db.dialect(), &|lease| ttls.get(&lease).copied());
        rows.insert(session).await?;
        set_progress(session, self.db.as_ref(), IMPORTED, page.through).await?;
        session.commit().await?;
        self.through = page.through;
        Ok(())
    }

    /// Completes the store: all of the state must have been appended. No server
    /// opens it yet: [`Import::release`].
    ///
    /// # Errors
    /// The database failed.
    pub async fn finish(&mut self, chronicle: &Chronicle) -> Result<()> {
        let mut stored = chronicle.stored().clone();
        if stored.revision != self.through {
            return Err(Error::Other(format!(
                "the import is at revision {}, the state at {}",
                self.through, stored.revision
            )));
        }
        (stored.applied_index, stored.applied_term, stored.position) = (0, 0, bytes::Bytes::new());
        (stored.downgrade, stored.alarms) = (None, Vec::new());
        if stored.cluster_version.is_empty() {
            stored.cluster_version = crate::SqlConfig::default().cluster_version;
        }
        let cluster = rand::random::<i64>();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let Err(error) = self.try_finish(chronicle, &stored, cluster).await else { return Ok(()) };
            self.session = None;
            if !passes(&error) || attempt >= ATTEMPTS {
                return Err(store_error(&error));
            }
            tracing::warn!(%error, attempt, "ending the import failed; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads the completed store. The replica lies in `dir`.
    ///
    /// # Errors
    /// The database failed, or holds no whole store.
    pub async fn read_back(&self, dir: PathBuf) -> Result<Reader> {
        OursReader::open(self.db.clone(), dir).await.map(Reader::Ours)
    }

    /// Makes the completed store one like any other, which servers open.
    ///
    /// # Errors
    /// The database failed.
    pub async fn release(&self) -> Result<()> {
        let names = [IMPORT, IMPORTED, IMPORT_COMPACTED].map(|name| Value::Text(name.to_owned()));
        let work = async {
            let mut session = self.db.session().await?;
            session.execute("DELETE FROM skiff_progress WHERE name IN (?, ?, ?)", &names).await
        };
        work.await.map(drop).map_err(|error| store_error(&error))
    }

    async fn try_finish(
        &mut self,
        chronicle: &Chronicle,
        stored: &StoredState,
        cluster: i64,
    ) -> Result<(), DbError> {
        let dialect = self.db.dialect();
        let mut session = self.db.session().await?;
        let head = session.query("SELECT cluster_id FROM skiff_head WHERE id = 1", &[]).await?;
        if let Some(row) = head.first()
            && row.int(0)? == cluster
        {
            return Ok(());
        }
        session.begin().await?;
        let session = session.as_mut();
        let newest = session.query("SELECT MAX(id) FROM kine", &[]).await?;
        let newest = newest.first().map(|row| row.opt_int(0)).transpose()?.flatten().unwrap_or(0);
        if newest < stored.revision {
            // A kine beside us counts on from the newest row.
            rows::insert_gap(session, stored.revision).await?;
        }
        batch::write_taken_leases(session, dialect, &chronicle.leases()).await?;
        batch::write_small_rows(session, dialect, chronicle.small_rows()).await?;
        let sql = "UPDATE kine SET prev_revision = ? WHERE name = ?";
        let compacted = Value::Int(stored.compact_revision.max(0));
        session.execute(sql, &[compacted, Value::Text(names::COMPACT_ROW.to_owned())]).await?;
        let sql = "INSERT INTO skiff_head (id, format, cluster_id, log_index, revision, state) VALUES (1, ?, \
                   ?, 0, ?, ?)";
        let arguments = [
            Value::Int(schema::FORMAT),
            Value::Int(cluster),
            Value::Int(stored.revision),
            Value::Bytes(stored.encode_to_vec().into()),
        ];
        session.execute(sql, &arguments).await?;
        if dialect.kind() == DialectKind::Postgres {
            let sql = "SELECT setval(pg_get_serial_sequence('kine', 'id'), (SELECT MAX(id) FROM kine))";
            session.query(sql, &[]).await?;
        }
        session.commit().await
    }
}

/// Makes a completed store one that is being filled again: what was to be the
/// end may have been the end of an earlier attempt alone.
async fn reopen(session: &mut dyn Session) -> Result<(), DbError> {
    session.begin().await?;
    for table in ["skiff_head", "skiff_state", "skiff_lease"] {
        session.execute(&format!("DELETE FROM {table}"), &[]).await?;
    }
    session.commit().await
}

/// Gives the changes after a revision page by page; stops early where nobody
/// takes them.
fn read_pages(chronicle: &Chronicle, after: i64, pages: &mpsc::Sender<Page>) -> Result<()> {
    let compacted = chronicle.stored().compact_revision;
    let mut page = Page { changes: Vec::new(), through: after };
    let mut bytes = 0;
    let closed = || Error::Other("the import ended".to_owned());
    let mut visit = |version: Version| {
        let revision = version.kv.mod_revision;
        if revision <= after {
            return Ok(());
        }
        let full = page.changes.len() >= PAGE.0 || bytes >= PAGE.1;
        if full && revision > page.through {
            bytes = 0;
            let full = std::mem::replace(&mut page, Page { changes: Vec::new(), through: revision });
            pages.blocking_send(full).map_err(|_| closed())?;
        }
        let change = change(chronicle, version, compacted)?;
        bytes += change.key.len() + change.kv.as_ref().map_or(0, |kv| kv.value.len());
        bytes += change.previous.as_ref().map_or(0, |(kv, _)| kv.value.len());
        page.changes.push(change);
        page.through = revision;
        Ok(())
    };
    match after >= compacted {
        true => chronicle.since(after, &mut visit)?,
        false => chronicle.versions(&mut visit)?,
    }
    if !page.changes.is_empty() {
        pages.blocking_send(page).map_err(|_| closed())?;
    }
    Ok(())
}

fn change(chronicle: &Chronicle, version: Version, compacted: i64) -> Result<Change> {
    let Version { kv, sub, deleted } = version;
    let revision = kv.mod_revision;
    // What was before a compacted revision is not kept; a later change of the
    // same revision never becomes a row that tells it.
    let previous = match revision > compacted && sub == 0 {
        true => chronicle.before(&kv.key, revision)?,
        false => None,
    };
    // A row without a predecessor counts as the creation of its key.
    let previous = previous.or_else(|| unknown_predecessor(&kv, deleted).map(|kv| (kv, 0)));
    Ok(Change { key: kv.key.clone(), revision, sub, kv: (!deleted).then_some(kv), previous })
}

/// What stands for a predecessor that was compacted away.
fn unknown_predecessor(
    kv: &skiff_store::pb::mvccpb::KeyValue,
    deleted: bool,
) -> Option<skiff_store::pb::mvccpb::KeyValue> {
    let existed = deleted || kv.create_revision < kv.mod_revision;
    existed.then(|| skiff_store::pb::mvccpb::KeyValue { key: kv.key.clone(), ..Default::default() })
}

/// Whether the database may do it a moment later.
fn passes(error: &DbError) -> bool {
    matches!(
        error.kind(),
        DbErrorKind::Retry | DbErrorKind::ConnectionLost | DbErrorKind::Unreachable | DbErrorKind::ReadOnly
    )
}

async fn set_progress(
    session: &mut dyn Session,
    db: &dyn Database,
    name: &str,
    value: i64,
) -> Result<(), DbError> {
    let sql = db.dialect().upsert("skiff_progress", &["name"], &["value"]);
    session.execute(&sql, &[Value::Text(name.to_owned()), Value::Int(value)]).await.map(drop)
}

/// Throws away what an unfinished import wrote. Its mark stays until the next
/// one is set.
async fn clear(session: &mut dyn Session) -> Result<(), DbError> {
    session.set_limit(Duration::from_secs(3600));
    // Whoever finds it half cleared must not take it for the beginning of anything.
    let sql = "UPDATE skiff_progress SET value = ? WHERE name = ?";
    session.execute(sql, &[Value::Int(CLEARING), Value::Text(IMPORT.to_owned())]).await?;
    reopen(session).await?;
    for sql in ["DELETE FROM skiff_version", "DELETE FROM skiff_row"] {
        session.execute(sql, &[]).await?;
    }
    let name = Value::Text(names::COMPACT_ROW.to_owned());
    session.execute("DELETE FROM kine WHERE name <> ?", &[name]).await.map(drop)
}
