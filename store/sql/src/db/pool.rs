//! A bounded pool of connections.
//!
//! Why not sqlx's own: it hides why no connection could be had behind a
//! time-out, and has no limit on idle connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::session::PooledSession;
use super::{Database, DbError, DbErrorKind, Dialect, Listener, PoolOptions, Row, Session, Value};

/// A connection that was idle for longer is asked for a sign of life first.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);

/// How long a sign of life, or a farewell, may take.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// How often expired connections are looked for, at the least.
const REAP_INTERVAL: Duration = Duration::from_secs(30);

/// What a driver gives to the pool and its sessions.
pub(super) trait Driver: Send + Sync + 'static {
    /// The driver's connection.
    type Connection: Connection + Send;

    /// The dialect of the server found.
    fn dialect(&self) -> &dyn Dialect;
    /// Opens a connection and sets it up.
    fn open(&self) -> BoxFuture<'_, Result<Self::Connection, DbError>>;
    /// Runs a statement with rows.
    fn query<'a>(
        &'a self,
        connection: &'a mut Self::Connection,
        sql: &'a str,
        args: &'a [Value],
    ) -> BoxFuture<'a, Result<Vec<Row>, DbError>>;
    /// Runs a statement without rows.
    fn execute<'a>(
        &'a self,
        connection: &'a mut Self::Connection,
        sql: &'a str,
        args: &'a [Value],
    ) -> BoxFuture<'a, Result<u64, DbError>>;
    /// Runs text without arguments, unprepared.
    fn simple<'a>(
        &'a self,
        connection: &'a mut Self::Connection,
        sql: &'a str,
    ) -> BoxFuture<'a, Result<u64, DbError>>;
    /// Begins a writing transaction.
    fn begin_sql(&self) -> &'static str;
    /// See [`Session::commit_needs_proof`].
    fn commit_needs_proof(&self) -> bool {
        false
    }
    /// Commits.
    fn commit_sql(&self) -> &'static str {
        "COMMIT"
    }
    /// Rolls back.
    fn rollback_sql(&self) -> &'static str {
        "ROLLBACK"
    }
    /// What is to follow the end of a transaction, in a call of its own.
    fn settle_sql(&self) -> Option<&'static str> {
        None
    }
    /// Begins a transaction that reads one moment.
    fn snapshot_sql(&self) -> &'static str;
    /// Whether a statement outside of a transaction needs one of its own.
    fn lone_needs_transaction(&self) -> bool {
        false
    }
    /// The queue of writing transactions, where the database has none that is
    /// fair.
    fn writer_queue(&self) -> Option<&Arc<Semaphore>> {
        None
    }
    /// Listens on `channel`.
    fn listen<'a>(&'a self, _channel: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Listener>>, DbError>> {
        Box::pin(async { Ok(None) })
    }
}

/// A connection and its age.
pub(super) struct Pooled<C> {
    pub(super) connection: C,
    opened: Instant,
    idle_since: Instant,
}

/// The pool; what sessions hold on to.
pub(super) struct Pool<D: Driver> {
    pub(super) driver: D,
    pub(super) options: PoolOptions,
    idle: Mutex<Vec<Pooled<D::Connection>>>,
    permits: Arc<Semaphore>,
    closed: AtomicBool,
}

impl<D: Driver> Pool<D> {
    /// A pool that has `first` idle.
    pub(super) fn start(driver: D, options: &PoolOptions, first: D::Connection) -> Arc<dyn Database> {
        let pool = Arc::new(Self {
            driver,
            options: options.clone(),
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(options.capacity())),
            closed: AtomicBool::new(false),
        });
        pool.put_back(Pooled { connection: first, opened: Instant::now(), idle_since: Instant::now() });
        spawn_reaper(&pool);
        Arc::new(Handle(pool))
    }

    /// Takes back a connection that is idle and whole.
    pub(super) fn put_back(&self, mut pooled: Pooled<D::Connection>) {
        pooled.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if !self.closed.load(Ordering::Relaxed)
            && idle.len() < self.options.max_idle
            && !self.too_old(&pooled)
        {
            idle.push(pooled);
        }
    }

    async fn take(&self) -> Result<(Pooled<D::Connection>, OwnedSemaphorePermit), DbError> {
        let permit = tokio::time::timeout(self.options.acquire_timeout, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| {
                DbError::new(
                    DbErrorKind::Unreachable,
                    format!(
                        "no connection to the database became free within {:?}: all {} are in use",
                        self.options.acquire_timeout,
                        self.options.capacity()
                    ),
                )
            })?
            .map_err(|_| {
                DbError::new(DbErrorKind::Unreachable, "the connections to the database are closed")
            })?;
        while let Some(mut pooled) = self.pop() {
            if self.too_old(&pooled) {
                part(pooled.connection);
            } else if pooled.idle_since.elapsed() < TRUSTED_IDLE
                || matches!(tokio::time::timeout(PING_LIMIT, pooled.connection.ping()).await, Ok(Ok(())))
            {
                return Ok((pooled, permit));
            } else {
                // The others are likely to be as dead, and each would take as long to find out.
                self.reap(true);
            }
        }
        let connection = self.driver.open().await?;
        let now = Instant::now();
        Ok((Pooled { connection, opened: now, idle_since: now }, permit))
    }

    /// The connection used last: it is the likeliest to be alive.
    fn pop(&self) -> Option<Pooled<D::Connection>> {
        self.idle.lock().pop()
    }

    fn too_old(&self, pooled: &Pooled<D::Connection>) -> bool {
        let over = |limit: Duration, since: Instant| !limit.is_zero() && since.elapsed() >= limit;
        over(self.options.max_lifetime, pooled.opened) || over(self.options.max_idle_time, pooled.idle_since)
    }

    /// Closes idle connections that are too old, or all of them.
    fn reap(&self, all: bool) {
        let mut idle = self.idle.lock();
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *idle).into_iter().partition(|pooled| all || self.too_old(pooled));
        *idle = kept;
        drop(idle);
        gone.into_iter().for_each(|pooled| part(pooled.connection));
    }
}

/// Takes leave of the server, in the background.
fn part<C: Connection + Send + 'static>(connection: C) {
    tokio::spawn(async move {
        // Where the farewell fails, the connection is closed all the same.
        let _ = tokio::time::timeout(PING_LIMIT, connection.close()).await;
    });
}

fn spawn_reaper<D: Driver>(pool: &Arc<Pool<D>>) {
    let pool = Arc::downgrade(pool);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(REAP_INTERVAL).await;
            match pool.upgrade() {
                Some(pool) if !pool.closed.load(Ordering::Relaxed) => pool.reap(false),
                _ => return,
            }
        }
    });
}

/// The pool as a [`Database`].
struct Handle<D: Driver>(Arc<Pool<D>>);

#[async_trait]
impl<D: Driver> Database for Handle<D> {
    fn dialect(&self) -> &dyn Dialect {
        self.0.driver.dialect()
    }

    async fn session(&self) -> Result<Box<dyn Session>, DbError> {
        let (pooled, permit) = self.0.take().await?;
        Ok(Box::new(PooledSession::new(self.0.clone(), pooled, permit)))
    }

    async fn listen(&self, channel: &str) -> Result<Option<Box<dyn Listener>>, DbError> {
        self.0.driver.listen(channel).await
    }

    async fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.permits.close();
        self.0.reap(true);
    }
}
