//! The driver for SQLite. Statements run on a thread of their connection, never
//! on the workers of the runtime.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::sqlite::{
    SqliteArguments, SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Row as _, TypeInfo, ValueRef};
use tokio::sync::Semaphore;

use super::dialect::Sqlite;
use super::pool::{Driver, Pool};
use super::{Database, DbError, DbErrorKind, Dialect, PoolOptions, Row, Value};
use crate::endpoint::{SqliteEndpoint, Synchronous};

struct SqliteDriver {
    options: SqliteConnectOptions,
    /// SQLite has one writer at a time and wakes those that wait by the clock;
    /// in one process they queue here instead.
    writers: Arc<Semaphore>,
}

/// Opens the file of `endpoint`, made where it is missing.
pub(super) async fn connect(
    endpoint: &SqliteEndpoint,
    options: &PoolOptions,
) -> Result<Arc<dyn Database>, DbError> {
    let path = endpoint.path.clone();
    let make = options.create;
    let prepared = tokio::task::spawn_blocking(move || match make || path.exists() {
        true => create(&path),
        false => Err(DbError::new(DbErrorKind::Missing, format!("{} does not exist", path.display()))),
    });
    prepared.await.map_err(|error| DbError::new(DbErrorKind::Other, error.to_string()))??;
    let driver = SqliteDriver {
        options: SqliteConnectOptions::new()
            .filename(&endpoint.path)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            // kine takes NORMAL, with which a power cut may lose commits that
            // were acknowledged. etcd promises that none is lost.
            .synchronous(match endpoint.synchronous {
                Synchronous::Off => SqliteSynchronous::Off,
                Synchronous::Normal => SqliteSynchronous::Normal,
                Synchronous::Full => SqliteSynchronous::Full,
                Synchronous::Extra => SqliteSynchronous::Extra,
            })
            .busy_timeout(endpoint.busy_timeout)
            .foreign_keys(false)
            .disable_statement_logging(),
        writers: Arc::new(Semaphore::new(1)),
    };
    let first = driver.open().await?;
    Ok(Pool::start(driver, options, first))
}

/// Makes the file, readable by its owner alone, and its folder.
fn create(path: &Path) -> Result<(), DbError> {
    // What is wrong with a path does not pass by waiting.
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => DbErrorKind::Denied,
            std::io::ErrorKind::StorageFull => DbErrorKind::DiskFull,
            std::io::ErrorKind::ReadOnlyFilesystem => DbErrorKind::ReadOnly,
            _ => DbErrorKind::Other,
        };
        DbError::new(kind, format!("making the SQLite file {}: {error}", path.display()))
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

impl Driver for SqliteDriver {
    type Connection = SqliteConnection;

    fn dialect(&self) -> &dyn Dialect {
        &Sqlite
    }

    fn open(&self) -> BoxFuture<'_, Result<SqliteConnection, DbError>> {
        Box::pin(async {
            self.options.connect().await.map_err(|error| failed(&error).while_opening("the SQLite file"))
        })
    }

    fn query<'a>(
        &'a self,
        connection: &'a mut SqliteConnection,
        sql: &'a str,
        args: &'a [Value],
    ) -> BoxFuture<'a, Result<Vec<Row>, DbError>> {
        Box::pin(async move {
            let query = sqlx::query_with(AssertSqlSafe(sql.to_owned()), bind(args)?);
            let rows = query.fetch_all(connection).await.map_err(|error| failed(&error))?;
            rows.iter().map(|row| decode(row).map_err(|error| failed(&error))).collect()
        })
    }

    fn execute<'a>(
        &'a self,
        connection: &'a mut SqliteConnection,
        sql: &'a str,
        args: &'a [Value],
    ) -> BoxFuture<'a, Result<u64, DbError>> {
        Box::pin(async move {
            let query = sqlx::query_with(AssertSqlSafe(sql.to_owned()), bind(args)?);
            query.execute(connection).await.map(|done| done.rows_affected()).map_err(|error| failed(&error))
        })
    }

    fn simple<'a>(
        &'a self,
        connection: &'a mut SqliteConnection,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<u64, DbError>> {
        Box::pin(async move {
            let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
            done.map(|done| done.rows_affected()).map_err(|error| failed(&error))
        })
    }

    fn begin_sql(&self) -> &'static str {
        "BEGIN IMMEDIATE"
    }

    fn snapshot_sql(&self) -> &'static str {
        "BEGIN DEFERRED"
    }

    fn writer_queue(&self) -> Option<&Arc<Semaphore>> {
        Some(&self.writers)
    }
}

fn bind(args: &[Value]) -> Result<SqliteArguments, DbError> {
    let mut bound = SqliteArguments::default();
    for arg in args {
        match arg {
            Value::Null => bound.add(None::<i64>),
            Value::NoBytes => bound.add(None::<Vec<u8>>),
            Value::Int(value) => bound.add(*value),
            Value::Text(value) => bound.add(value.clone()),
            Value::Bytes(value) => bound.add(value.to_vec()),
        }
        .map_err(|error| DbError::new(DbErrorKind::Other, format!("passing an argument: {error}")))?;
    }
    Ok(bound)
}

fn decode(row: &SqliteRow) -> Result<Row, sqlx::Error> {
    (0..row.len())
        .map(|at| {
            let cell = row.try_get_raw(at)?;
            if cell.is_null() {
                return Ok(Value::Null);
            }
            let type_info = cell.type_info();
            match type_info.name() {
                "TEXT" => row.try_get_unchecked(at).map(Value::Text),
                "BLOB" => {
                    row.try_get_unchecked::<Vec<u8>, _>(at).map(|bytes| Value::Bytes(Bytes::from(bytes)))
                }
                "INTEGER" | "BOOLEAN" => row.try_get_unchecked(at).map(Value::Int),
                other => Err(sqlx::Error::Decode(format!("column {at} has the type {other}").into())),
            }
        })
        .collect::<Result<_, _>>()
        .map(Row)
}

fn failed(error: &sqlx::Error) -> DbError {
    DbError::from_driver(error, class)
}

fn class(error: &dyn DatabaseError) -> (DbErrorKind, Option<String>) {
    let code = error.code().map(|code| code.into_owned());
    let number: Option<u32> = code.as_deref().and_then(|code| code.parse().ok());
    let kind = match number {
        // SQLITE_CONSTRAINT_UNIQUE, _PRIMARYKEY, _ROWID
        Some(2067 | 1555 | 2579) => DbErrorKind::UniqueViolation,
        Some(number) => match number & 0xff {
            5 | 6 => DbErrorKind::Retry,
            8 => DbErrorKind::ReadOnly,
            13 => DbErrorKind::DiskFull,
            14 => DbErrorKind::Unreachable,
            3 | 23 => DbErrorKind::Denied,
            1 if error.message().starts_with("no such table") => DbErrorKind::Missing,
            _ => DbErrorKind::Other,
        },
        None => DbErrorKind::Other,
    };
    (kind, code)
}
