//! The tables beside `kine`. Their layout is persisted: columns are only added.
//!
//! * `skiff_head`, one row: how far the log has come, the state's own record,
//!   the format.
//! * `skiff_log`: the commands of each entry; pruned.
//! * `skiff_state`: leases, users, roles, as the state machine stores them.
//! * `skiff_lease`: when each lease ends, by the database's clock.
//! * `skiff_version`: version and lease of rows of `kine`, where they are not 1
//!   and none.
//! * `skiff_row`: changes that `kine` cannot hold; an empty value is a deletion.
//! * `skiff_progress`: how far background work has come.

use std::time::Duration;

use sha2::{Digest, Sha256};
use skiff_store::engine::Cf;
use skiff_store::{Error, Result};

use super::{names, store_error};
use crate::db::{Database, DbError, DbErrorKind, Dialect, DialectKind, Session, Value};

/// Version of the layout. A database of a higher one is refused.
pub(crate) const FORMAT: i64 = 1;
/// The tables that grow.
pub(crate) const TABLES: [&str; 4] = ["kine", "skiff_log", "skiff_version", "skiff_row"];
/// Where Postgres notifies.
pub(crate) const CHANNEL: &str = "skiff";
/// Progress of compaction in `skiff_progress`.
pub(crate) const COMPACTED: &str = "compacted";
/// Attempts to create tables that another server is just creating.
const ATTEMPTS: u32 = 100;
/// How long one statement may take: an index of a large table of kine.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
/// Pause before the next one.
const PAUSE: Duration = Duration::from_millis(50);

/// The number of a column family in `skiff_state`.
pub(crate) fn cf_number(cf: Cf) -> i64 {
    match cf {
        Cf::Kv => 0,
        Cf::Events => 1,
        Cf::Leases => 2,
        Cf::Meta => 3,
    }
}

/// The column family of such a number.
///
/// # Errors
/// It is none.
pub(crate) fn numbered_cf(number: i64) -> Result<Cf> {
    let known = Cf::ALL.into_iter().find(|cf| cf_number(*cf) == number);
    known.ok_or_else(|| Error::Corruption(format!("skiff_state: there is no column family {number}")))
}

/// The id of a row of `skiff_state`: names may be longer than any index takes.
pub(crate) fn small_row_id(cf: Cf, key: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(cf.name());
    hash.update([0]);
    hash.update(key);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Creates what is missing and checks what is there.
///
/// # Errors
/// The database failed, or a newer version laid it out.
pub(crate) async fn prepare(db: &dyn Database) -> Result<()> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match create(db).await {
            Ok(()) => break,
            // Two servers that create a table at once collide in the catalogue.
            Err(error) if attempt < ATTEMPTS && is_collision(&error) => {
                tracing::debug!(%error, "another server creates the tables");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(store_error(&error)),
        }
    }
    check_format(db).await
}

fn is_collision(error: &DbError) -> bool {
    // Postgres may also say that the relation is there although it was not to mind.
    matches!(error.kind(), DbErrorKind::UniqueViolation | DbErrorKind::Retry) || error.code() == Some("42P07")
}

async fn create(db: &dyn Database) -> Result<(), DbError> {
    let dialect = db.dialect();
    let mut session = db.session().await?;
    session.set_limit(LIMIT);
    for sql in dialect.create_kine_table().into_iter().chain(own_tables(dialect)) {
        session.execute(&sql, &[]).await?;
    }
    let rows = session.query("SELECT id FROM kine WHERE name = ?", &[compact_name()]).await?;
    if rows.is_empty() {
        insert_compact_row(session.as_mut()).await?;
    }
    Ok(())
}

fn compact_name() -> Value {
    Value::Text(names::COMPACT_ROW.to_owned())
}

/// kine's own row: the first of a new table.
async fn insert_compact_row(session: &mut dyn Session) -> Result<(), DbError> {
    let empty = session.query("SELECT id FROM kine LIMIT 1", &[]).await?.is_empty();
    let id = if empty { "1" } else { "(SELECT id FROM (SELECT MAX(id) + 1 AS id FROM kine) AS next)" };
    let sql = format!(
        "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, \
         old_value) VALUES ({id}, ?, 1, 0, 0, 0, 0, ?, NULL)"
    );
    session.execute(&sql, &[compact_name(), Value::Bytes(bytes::Bytes::new())]).await.map(drop)
}

async fn check_format(db: &dyn Database) -> Result<()> {
    let read = async {
        let mut session = db.session().await?;
        session.query("SELECT format FROM skiff_head WHERE id = 1", &[]).await
    };
    let rows = read.await.map_err(|error| store_error(&error))?;
    let Some(row) = rows.first() else { return Ok(()) };
    let format = row.int(0).map_err(|error| store_error(&error))?;
    if format > FORMAT {
        return Err(Error::Storage(format!(
            "the database was laid out in format {format} by a newer skiff; this binary knows up to format \
             {FORMAT}: start the newer binary"
        )));
    }
    Ok(())
}

fn own_tables(dialect: &dyn Dialect) -> Vec<String> {
    let blob = dialect.blob_type();
    let mut tables = vec![
        "skiff_head (id BIGINT PRIMARY KEY, format BIGINT NOT NULL, cluster_id BIGINT NOT NULL, log_index \
         BIGINT NOT NULL, revision BIGINT NOT NULL, state BLOB NOT NULL)",
        "skiff_log (idx BIGINT PRIMARY KEY, written_at BIGINT NOT NULL, writer VARCHAR(64) NOT NULL, entry \
         BLOB NOT NULL)",
        "skiff_state (id VARCHAR(64) PRIMARY KEY, cf BIGINT NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL)",
        "skiff_lease (id BIGINT PRIMARY KEY, ttl_ms BIGINT NOT NULL, expires_at BIGINT NOT NULL)",
        "skiff_version (id BIGINT PRIMARY KEY, version BIGINT NOT NULL, lease BIGINT NOT NULL)",
        "skiff_row (revision BIGINT NOT NULL, sub BIGINT NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL, \
         PRIMARY KEY (revision, sub))",
        "skiff_progress (name VARCHAR(64) PRIMARY KEY, value BIGINT NOT NULL)",
    ]
    .into_iter()
    .map(|table| format!("CREATE TABLE IF NOT EXISTS {}", table.replace("BLOB", blob)))
    .collect::<Vec<_>>();
    let index = "skiff_lease_expires_index";
    match dialect.kind() {
        DialectKind::Mysql | DialectKind::Mariadb => {
            tables[3] = tables[3].replace("NOT NULL)", &format!("NOT NULL, INDEX {index} (expires_at))"));
        }
        _ => tables.push(format!("CREATE INDEX IF NOT EXISTS {index} ON skiff_lease (expires_at)")),
    }
    tables
}
