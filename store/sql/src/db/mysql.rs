//! The driver for MySQL and MariaDB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode,
};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Row as _, TypeInfo, ValueRef};

use super::dialect::{Mariadb, Mysql};
use super::pool::{Driver, Pool};
use super::{Database, DbError, DbErrorKind, Dialect, PoolOptions, Row, Value};
use crate::endpoint::{MysqlAddress, MysqlEndpoint, MysqlTls};

/// TLS is required here.
const INSECURE: &str = "3159";
/// Unknown database.
const NO_DATABASE: &str = "1049";

/// What every session has: times in UTC, text as UTF-8, errors instead of
/// silently changed data, and `||` and quotes as the server has them by default.
const SETUP: &str = "SET NAMES utf8mb4, SESSION time_zone = '+00:00', \
     SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO', \
     SESSION autocommit = 1, SESSION net_read_timeout = 30, SESSION net_write_timeout = 30, \
     SESSION innodb_lock_wait_timeout = 20";

/// Begin and end a transaction, and what follows its end.
struct Bounds {
    begin: &'static str,
    commit: &'static str,
    rollback: &'static str,
    settle: Option<&'static str>,
}

/// A server that vanishes in a transaction keeps its locks for half a minute,
/// not for the hours after which an idle session is closed. Between
/// transactions it may be idle for as long as before (see [`IDLE`]).
const ALONE: Bounds = Bounds {
    begin: "START TRANSACTION; SET SESSION wait_timeout = 30",
    commit: "SET SESSION wait_timeout = @skiff_wait_timeout; COMMIT",
    rollback: "ROLLBACK; SET SESSION wait_timeout = @skiff_wait_timeout",
    settle: None,
};

/// Galera undoes a transaction at any moment, for what another node has
/// committed. Were one statement not told, the rest would be a transaction of
/// its own: a savepoint shows that it is still the same one, and no statement
/// commits by itself. Nothing may follow COMMIT in one text: MariaDB then
/// does not tell that it failed.
const GALERA: Bounds = Bounds {
    begin: "START TRANSACTION; SET SESSION wait_timeout = 30, SESSION autocommit = 0; SAVEPOINT skiff",
    commit: "RELEASE SAVEPOINT skiff; COMMIT",
    rollback: "ROLLBACK",
    settle: Some("SET SESSION wait_timeout = @skiff_wait_timeout, SESSION autocommit = 1"),
};

/// Notes for how long the session may be idle.
const IDLE: &str = "SET @skiff_wait_timeout = @@SESSION.wait_timeout";

struct MysqlDriver {
    options: MySqlConnectOptions,
    connect_timeout: Duration,
    setup: String,
    mariadb: bool,
    /// Whether it is a node of a Galera cluster.
    galera: AtomicBool,
    shown: String,
}

/// Opens the database of `endpoint`, made where it is missing.
pub(super) async fn connect(
    endpoint: &MysqlEndpoint,
    options: &PoolOptions,
) -> Result<Arc<dyn Database>, DbError> {
    let mut driver = MysqlDriver {
        options: connect_options(endpoint),
        connect_timeout: endpoint.connect_timeout,
        setup: setup(endpoint),
        mariadb: false,
        galera: AtomicBool::new(false),
        shown: format!("the database {}", crate::endpoint::Endpoint::Mysql(endpoint.clone())),
    };
    let mut opened = driver.open().await;
    // MariaDB says no more than this where it insists on TLS.
    if let Err(error) = &opened
        && endpoint.tls_mode == MysqlTls::Allowed
        && (error.kind() == DbErrorKind::Denied || error.code() == Some(INSECURE))
    {
        let encrypted = driver.options.clone().ssl_mode(MySqlSslMode::Required);
        let again = driver.open_with(&encrypted).await;
        // That the database is missing is said to who may come in.
        if again.as_ref().map_or_else(|error| error.code() == Some(NO_DATABASE), |_| true) {
            (driver.options, opened) = (encrypted, again);
        }
    }
    let mut first = match opened {
        Err(error) if options.create && error.code() == Some(NO_DATABASE) => {
            create(&driver, endpoint).await?;
            driver.open().await?
        }
        other => other?,
    };
    let version = driver.query(&mut first, "SELECT VERSION()", &[]).await?;
    let version = version.first().map_or(Ok(""), |row| row.text(0))?;
    driver.mariadb = version.contains("MariaDB");
    Ok(Pool::start(driver, options, first))
}

fn connect_options(endpoint: &MysqlEndpoint) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        .username(&endpoint.user)
        .database(&endpoint.database)
        // All of it is in `SETUP`, in one statement.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .enable_cleartext_plugin(endpoint.cleartext_password)
        .disable_statement_logging();
    options = match &endpoint.address {
        MysqlAddress::Tcp(host, port) => options.host(host).port(*port),
        MysqlAddress::Unix(path) => options.socket(path),
    };
    if let Some(password) = &endpoint.password {
        options = options.password(password.reveal());
    }
    options = options.ssl_mode(match endpoint.tls_mode {
        MysqlTls::Disabled | MysqlTls::Allowed => MySqlSslMode::Disabled,
        MysqlTls::Preferred => MySqlSslMode::Preferred,
        MysqlTls::Required => MySqlSslMode::Required,
        MysqlTls::Verified => MySqlSslMode::VerifyIdentity,
    });
    if let Some(file) = &endpoint.tls.ca_file {
        options = options.ssl_ca(file);
    }
    if let (Some(cert), Some(key)) = (&endpoint.tls.cert_file, &endpoint.tls.key_file) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

fn setup(endpoint: &MysqlEndpoint) -> String {
    let mut setup = SETUP.to_owned();
    for (name, value) in &endpoint.variables {
        setup.push_str(&format!(", {name} = {value}"));
    }
    // Last, for what is above relies on it.
    setup.push_str(&format!("; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; {IDLE}"));
    setup
}

async fn create(driver: &MysqlDriver, endpoint: &MysqlEndpoint) -> Result<(), DbError> {
    let mut connection = driver.open_with(&driver.options.clone().database("")).await?;
    let name = endpoint.database.replace('`', "``");
    let statement =
        format!("CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    driver.simple(&mut connection, &statement).await?;
    // Its work is done; a farewell that fails changes nothing.
    let _ = connection.close().await;
    Ok(())
}

impl MysqlDriver {
    fn bounds(&self) -> &'static Bounds {
        if self.galera.load(Ordering::Relaxed) { &GALERA } else { &ALONE }
    }

    async fn open_with(&self, options: &MySqlConnectOptions) -> Result<MySqlConnection, DbError> {
        let opening = async {
            let mut connection = options.connect().await.map_err(|error| failed(&error))?;
            self.simple(&mut connection, &self.setup).await?;
            let known = "SHOW VARIABLES WHERE Variable_name = 'wsrep_on'";
            for row in self.query(&mut connection, known, &[]).await? {
                let statement = match (row.text(0)?, row.text(1)?) {
                    // A read waits for what the other nodes have committed.
                    ("wsrep_on", "ON") => {
                        self.galera.store(true, Ordering::Relaxed);
                        "SET SESSION wsrep_sync_wait = 1"
                    }
                    _ => continue,
                };
                self.simple(&mut connection, statement).await?;
            }
            Ok(connection)
        };
        let limit = self.connect_timeout;
        let opened = tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            Err(DbError::new(DbErrorKind::Unreachable, format!("no answer within {limit:?}")))
        });
        opened.map_err(|error: DbError| error.while_opening(&self.shown))
    }
}

impl Driver for MysqlDriver {
    type Connection = MySqlConnection;

    fn dialect(&self) -> &dyn Dialect {
        if self.mariadb { &Mariadb } else { &Mysql }
    }

    fn open(&self) -> BoxFuture<'_, Result<MySqlConnection, DbError>> {
        Box::pin(self.open_with(&self.options))
    }

    fn query<'a>(
        &'a self,
        connection: &'a mut MySqlConnection,
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
        connection: &'a mut MySqlConnection,
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
        connection: &'a mut MySqlConnection,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<u64, DbError>> {
        Box::pin(async move {
            let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
            done.map(|done| done.rows_affected()).map_err(|error| failed(&error))
        })
    }

    fn begin_sql(&self) -> &'static str {
        self.bounds().begin
    }

    fn commit_needs_proof(&self) -> bool {
        self.galera.load(Ordering::Relaxed)
    }

    fn commit_sql(&self) -> &'static str {
        self.bounds().commit
    }

    fn rollback_sql(&self) -> &'static str {
        self.bounds().rollback
    }

    fn settle_sql(&self) -> Option<&'static str> {
        self.bounds().settle
    }

    fn snapshot_sql(&self) -> &'static str {
        // The level is that of the next transaction only; the savepoint is what ending it asks for.
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ \
         ONLY; SAVEPOINT skiff"
    }
}

fn bind(args: &[Value]) -> Result<MySqlArguments, DbError> {
    let mut bound = MySqlArguments::default();
    for arg in args {
        match arg {
            Value::Null => bound.add(None::<i64>),
            Value::NoBytes => bound.add(None::<Vec<u8>>),
            Value::Int(value) => bound.add(*value),
            Value::Text(value) => bound.add(value.as_str()),
            Value::Bytes(value) => bound.add(value.as_ref()),
        }
        .map_err(|error| DbError::new(DbErrorKind::Other, format!("passing an argument: {error}")))?;
    }
    Ok(bound)
}

fn decode(row: &MySqlRow) -> Result<Row, sqlx::Error> {
    (0..row.len()).map(|at| cell(row, at)).collect::<Result<_, _>>().map(Row)
}

fn cell(row: &MySqlRow, at: usize) -> Result<Value, sqlx::Error> {
    let wrong = |text: &str| sqlx::Error::Decode(format!("column {at} {text}").into());
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let type_info = raw.type_info();
    match type_info.name() {
        name if name.ends_with("INT UNSIGNED") => {
            let value: u64 = row.try_get_unchecked(at)?;
            i64::try_from(value).map(Value::Int).map_err(|_| wrong("is above 2^63-1"))
        }
        name if name.ends_with("INT") || name == "BOOLEAN" => row.try_get_unchecked(at).map(Value::Int),
        // What sums are; they come as text.
        "DECIMAL" => {
            let text: String = row.try_get_unchecked(at)?;
            text.parse().map(Value::Int).map_err(|_| wrong("is not a whole number"))
        }
        "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM" => {
            row.try_get_unchecked(at).map(Value::Text)
        }
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => {
            row.try_get_unchecked::<Vec<u8>, _>(at).map(|bytes| Value::Bytes(Bytes::from(bytes)))
        }
        other => Err(wrong(&format!("has the type {other}"))),
    }
}

fn failed(error: &sqlx::Error) -> DbError {
    DbError::from_driver(error, class)
}

fn class(error: &dyn DatabaseError) -> (DbErrorKind, Option<String>) {
    let Some(number) = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number) else {
        return (DbErrorKind::Other, None);
    };
    (kind_of(number, error.message()), Some(number.to_string()))
}

fn kind_of(number: u16, message: &str) -> DbErrorKind {
    match number {
        1062 | 1169 | 1586 => DbErrorKind::UniqueViolation,
        // Deadlock (also a transaction that lost against another Galera or
        // group member), lock wait, and MariaDB's and MySQL's snapshot conflicts.
        1213 | 1205 | 1020 | 3101 | 3572 | 4085 => DbErrorKind::Retry,
        // Of a savepoint: the transaction that had it was undone (see `GALERA`).
        1305 if message.contains("SAVEPOINT") => DbErrorKind::Retry,
        1290 | 1836 | 1792 | 3707 => DbErrorKind::ReadOnly,
        1021 | 1114 | 1041 | 1037 | 1038 => DbErrorKind::DiskFull,
        // "Got error 28 from storage engine": no space left on the device.
        1030 | 1026 | 3 | 14 if message.contains("28") => DbErrorKind::DiskFull,
        // Shutting down, killed, gone.
        1053 | 1079 | 1080 | 1180 | 1317 | 1927 | 2006 | 2013 | 3169 | 4031 => DbErrorKind::ConnectionLost,
        1040 | 1042 | 1043 | 1047 | 1129 | 1130 | 1203 | 1226 => DbErrorKind::Unreachable,
        1044 | 1045 | 1142 | 1143 | 1227 | 1251 | 1370 | 1698 | 3118 | 3159 => DbErrorKind::Denied,
        1049 | 1146 | 1051 => DbErrorKind::Missing,
        _ => DbErrorKind::Other,
    }
}
