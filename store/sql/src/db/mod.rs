//! The databases behind one thin, object-safe layer.
//!
//! What is above sees statements with `?` for arguments, plain cells, and
//! errors by kind; the driver (sqlx) shows nowhere. A [`Session`] is one
//! connection, lent from a bounded pool; it goes back only idle and whole.
//!
//! Contract on errors: inside a transaction any failed statement spoils the
//! transaction, on every database (as Postgres has it), and [`Session::commit`]
//! then rolls back and fails. A commit that fails with
//! [`DbErrorKind::ConnectionLost`] may have happened; with any other kind it
//! has not.

mod dialect;
mod error;
mod hosts;
mod mysql;
mod observe;
mod options;
mod placeholders;
mod pool;
mod postgres;
mod probe;
mod session;
mod sqlite;
mod value;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::endpoint::Endpoint;

pub use dialect::{Dialect, DialectKind};
pub use error::{DbError, DbErrorKind};
pub use options::PoolOptions;
pub use value::{Row, Value};

/// One connection, in or out of a transaction.
#[async_trait]
pub trait Session: Send {
    /// Runs a statement that returns rows.
    async fn query(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, DbError>;

    /// Runs a statement and returns how many rows it touched (or matched, for
    /// an update that changes nothing).
    async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, DbError>;

    /// Begins a writing transaction that reads what is committed (on SQLite one
    /// that holds the write lock from the start).
    async fn begin(&mut self) -> Result<(), DbError>;

    /// Begins a reading transaction whose statements all see one moment.
    async fn begin_snapshot(&mut self) -> Result<(), DbError>;

    /// Makes the transaction's work last. Fails, having undone it, where an
    /// earlier statement of it failed.
    async fn commit(&mut self) -> Result<(), DbError>;

    /// Whether a commit that succeeded is to be looked for in the database: a
    /// node of a cluster may undo it for what another node has committed.
    fn commit_needs_proof(&self) -> bool;

    /// Undoes the transaction's work.
    async fn rollback(&mut self) -> Result<(), DbError>;

    /// Whether a transaction is open.
    fn in_transaction(&self) -> bool;

    /// Sets how long one call may take before the connection counts as lost.
    fn set_limit(&mut self, limit: Duration);
}

/// A database and the pool of its connections.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// How this database's SQL differs.
    fn dialect(&self) -> &dyn Dialect;

    /// Lends a connection. Dropped inside a transaction or in the middle of a
    /// call it is closed, and the database undoes the transaction.
    async fn session(&self) -> Result<Box<dyn Session>, DbError>;

    /// Listens for notifications on `channel`; `None` where the database, or
    /// the way to it, has none.
    async fn listen(&self, channel: &str) -> Result<Option<Box<dyn Listener>>, DbError>;

    /// Closes idle connections, and the others as they come back.
    async fn close(&self);
}

/// A connection that waits for notifications.
#[async_trait]
pub trait Listener: Send {
    /// Waits for the next notification's payload. After an error nothing more
    /// comes, and notifications may have been missed.
    async fn next(&mut self) -> Result<String, DbError>;
}

/// Opens the database of `endpoint`, which it creates where it is missing (if that is wanted), and
/// makes sure that one connection works.
pub async fn connect(endpoint: &Endpoint, options: &PoolOptions) -> Result<Arc<dyn Database>, DbError> {
    match endpoint {
        Endpoint::Sqlite(endpoint) => sqlite::connect(endpoint, options).await,
        Endpoint::Postgres(endpoint) => postgres::connect(endpoint, options).await,
        Endpoint::Mysql(endpoint) => mysql::connect(endpoint, options).await,
        Endpoint::Etcd(_) => Err(DbError::new(DbErrorKind::Other, "an external etcd is not a SQL database")),
    }
}
