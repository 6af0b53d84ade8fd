//! The driver for Postgres.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgRow, types::Oid,
};
use sqlx::{Arguments, AssertSqlSafe, Connection, Row as _, TypeInfo, ValueRef};

use super::dialect::Postgres;
use super::hosts::Hosts;
use super::placeholders::Placeholders;
use super::pool::{Driver, Pool};
use super::{Database, DbError, DbErrorKind, Dialect, Listener, PoolOptions, Row, Value, probe};
use crate::endpoint::PostgresEndpoint;

/// SQLSTATE: the database does not exist.
const NO_DATABASE: &str = "3D000";

/// SQLSTATEs of a prepared statement that is not there, or is there already:
/// somebody swaps the server's sessions under us.
const FOREIGN_STATEMENT: [&str; 2] = ["26000", "42P05"];

struct PostgresDriver {
    hosts: Hosts,
    connect_timeout: Duration,
    placeholders: Placeholders,
    /// Whether the server's session stays ours between transactions. Behind
    /// PgBouncer in transaction mode it does not.
    own_session: AtomicBool,
}

/// Opens the database of `endpoint`, made where it is missing.
pub(super) async fn connect(
    endpoint: &PostgresEndpoint,
    options: &PoolOptions,
) -> Result<Arc<dyn Database>, DbError> {
    let driver = PostgresDriver {
        hosts: Hosts::new(endpoint),
        connect_timeout: endpoint.connect_timeout,
        placeholders: Placeholders::default(),
        own_session: AtomicBool::new(endpoint.prepared_statements.unwrap_or(true)),
    };
    let mut first = match driver.open().await {
        Err(error) if options.create && error.code() == Some(NO_DATABASE) => {
            create(&driver, endpoint).await?;
            driver.open().await?
        }
        other => other?,
    };
    if endpoint.prepared_statements.is_none() && probe::sessions_are_shared(&driver, &mut first).await? {
        tracing::info!(
            "the connection to Postgres goes through a pooler that swaps sessions between transactions: \
             statements are not kept prepared, and notifications are not listened for"
        );
        driver.own_session.store(false, Ordering::Relaxed);
    }
    Ok(Pool::start(driver, options, first))
}

async fn create(driver: &PostgresDriver, endpoint: &PostgresEndpoint) -> Result<(), DbError> {
    let mut maintenance = endpoint.clone();
    maintenance.database = "postgres".to_owned();
    let mut connection = Hosts::new(&maintenance).open().await?;
    let name = endpoint.database.replace('"', "\"\"");
    match driver.simple(&mut connection, &format!("CREATE DATABASE \"{name}\"")).await {
        // Another server made it in the meantime.
        Err(error) if matches!(error.code(), Some("42P04" | "23505")) => {}
        other => drop(other?),
    }
    // Its work is done; a farewell that fails changes nothing.
    let _ = connection.close().await;
    Ok(())
}

impl PostgresDriver {
    fn keeps_statements(&self) -> bool {
        self.own_session.load(Ordering::Relaxed)
    }

    /// Classes an error, and learns from those that tell of a pooler. After
    /// them nothing has happened, so the transaction may be tried again.
    fn failed(&self, error: &sqlx::Error) -> DbError {
        let error = failed(error);
        if error.code().is_some_and(|code| FOREIGN_STATEMENT.contains(&code)) {
            self.own_session.store(false, Ordering::Relaxed);
            return error.with_kind(DbErrorKind::Retry);
        }
        error
    }
}

impl Driver for PostgresDriver {
    type Connection = PgConnection;

    fn dialect(&self) -> &dyn Dialect {
        &Postgres
    }

    fn open(&self) -> BoxFuture<'_, Result<PgConnection, DbError>> {
        Box::pin(self.hosts.open())
    }

    fn query<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        sql: &'a str,
        args: &'a [Value],
    ) -> BoxFuture<'a, Result<Vec<Row>, DbError>> {
        Box::pin(async move {
            let text = self.placeholders.rewrite(sql, args)?;
            let query =
                sqlx::query_with(AssertSqlSafe(text), bind(args)?).persistent(self.keeps_statements());
            let rows = query.fetch_all(connection).await.map_err(|error| self.failed(&error))?;
            rows.iter().map(|row| decode(row).map_err(|error| failed(&error))).collect()
        })
    }

    fn execute<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        sql: &'a str,
        args: &'a [Value],
    ) -> BoxFuture<'a, Result<u64, DbError>> {
        Box::pin(async move {
            let text = self.placeholders.rewrite(sql, args)?;
            let query =
                sqlx::query_with(AssertSqlSafe(text), bind(args)?).persistent(self.keeps_statements());
            let done = query.execute(connection).await.map_err(|error| self.failed(&error))?;
            Ok(done.rows_affected())
        })
    }

    fn simple<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<u64, DbError>> {
        Box::pin(async move {
            let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
            done.map(|done| done.rows_affected()).map_err(|error| self.failed(&error))
        })
    }

    /// A server that vanishes in a transaction must not hold its locks until
    /// the system notices, which may take hours.
    fn begin_sql(&self) -> &'static str {
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL idle_in_transaction_session_timeout = \
         '30s'; SET LOCAL lock_timeout = '20s'"
    }

    fn snapshot_sql(&self) -> &'static str {
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    }

    fn lone_needs_transaction(&self) -> bool {
        !self.keeps_statements()
    }

    fn listen<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, DbError>> {
        Box::pin(async move {
            if !self.keeps_statements() {
                return Ok(None);
            }
            // Proves that a host can be had, and says why not; the driver's
            // listener takes its connection from a pool of its own.
            let mut last = None;
            for options in self.hosts.options() {
                match listen_on(options.clone(), channel, self.connect_timeout).await {
                    Ok(listener) => return Ok(Some(Box::new(listener) as Box<dyn Listener>)),
                    Err(error) => last = Some(self.hosts.while_opening(error)),
                }
            }
            Err(last.unwrap_or_else(|| DbError::new(DbErrorKind::Other, "the endpoint names no host")))
        })
    }
}

async fn listen_on(
    options: PgConnectOptions,
    channel: &str,
    limit: Duration,
) -> Result<PostgresListener, DbError> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(limit).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await.map_err(|error| match error {
        sqlx::Error::PoolTimedOut => {
            DbError::new(DbErrorKind::Unreachable, format!("no connection within {limit:?}"))
        }
        error => failed(&error),
    })?;
    listener.eager_reconnect(false);
    listener.listen(channel).await.map_err(|error| failed(&error))?;
    Ok(PostgresListener { listener, lost: false })
}

struct PostgresListener {
    listener: PgListener,
    lost: bool,
}

#[async_trait]
impl Listener for PostgresListener {
    async fn next(&mut self) -> Result<String, DbError> {
        let lost =
            || DbError::new(DbErrorKind::ConnectionLost, "the connection that listens to Postgres broke");
        if self.lost {
            return Err(lost());
        }
        match self.listener.try_recv().await {
            Ok(Some(notification)) => Ok(notification.payload().to_owned()),
            Ok(None) => {
                self.lost = true;
                Err(lost())
            }
            Err(error) => {
                self.lost = true;
                Err(failed(&error))
            }
        }
    }
}

fn bind(args: &[Value]) -> Result<PgArguments, DbError> {
    let mut bound = PgArguments::default();
    for arg in args {
        match arg {
            // Written into the text; see `Placeholders`.
            Value::Null => Ok(()),
            Value::NoBytes => bound.add(None::<Vec<u8>>),
            Value::Int(value) => bound.add(*value),
            Value::Text(value) => bound.add(value.as_str()),
            Value::Bytes(value) => bound.add(value.as_ref()),
        }
        .map_err(|error| DbError::new(DbErrorKind::Other, format!("passing an argument: {error}")))?;
    }
    Ok(bound)
}

fn decode(row: &PgRow) -> Result<Row, sqlx::Error> {
    (0..row.len()).map(|at| cell(row, at)).collect::<Result<_, _>>().map(Row)
}

fn cell(row: &PgRow, at: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let type_info = raw.type_info();
    match type_info.name() {
        "INT8" => row.try_get(at).map(Value::Int),
        "INT4" => row.try_get::<i32, _>(at).map(|value| Value::Int(value.into())),
        "INT2" => row.try_get::<i16, _>(at).map(|value| Value::Int(value.into())),
        "BOOL" => row.try_get::<bool, _>(at).map(|value| Value::Int(value.into())),
        "OID" => row.try_get::<Oid, _>(at).map(|value| Value::Int(value.0.into())),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" => row.try_get_unchecked(at).map(Value::Text),
        "BYTEA" => row.try_get::<Vec<u8>, _>(at).map(|bytes| Value::Bytes(Bytes::from(bytes))),
        "VOID" => Ok(Value::Null),
        other => Err(sqlx::Error::Decode(format!("column {at} has the type {other}").into())),
    }
}

pub(super) fn failed(error: &sqlx::Error) -> DbError {
    DbError::from_driver(error, class)
}

fn class(error: &dyn DatabaseError) -> (DbErrorKind, Option<String>) {
    let code = error.code().map(|code| code.into_owned());
    (code.as_deref().map_or(DbErrorKind::Other, |code| kind_of(code, error.message())), code)
}

fn kind_of(code: &str, message: &str) -> DbErrorKind {
    match code {
        "23505" => DbErrorKind::UniqueViolation,
        "40003" => DbErrorKind::ConnectionLost,
        "40001" | "40P01" | "55P03" => DbErrorKind::Retry,
        "25006" => DbErrorKind::ReadOnly,
        // A standby says so of a transaction that is to write.
        "0A000" if message.contains("recovery") => DbErrorKind::ReadOnly,
        "53100" | "53200" | "53400" => DbErrorKind::DiskFull,
        // Shut down or crashed in the middle of a call.
        "57P01" | "57P02" | "25P03" | "25P04" => DbErrorKind::ConnectionLost,
        "57P03" | "53300" | "57P05" => DbErrorKind::Unreachable,
        "42501" => DbErrorKind::Denied,
        "3D000" | "42P01" | "42704" => DbErrorKind::Missing,
        _ if code.starts_with("08") => DbErrorKind::ConnectionLost,
        _ if code.starts_with("28") => DbErrorKind::Denied,
        _ => DbErrorKind::Other,
    }
}
