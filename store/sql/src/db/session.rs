//! One lent connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use super::observe::observe;
use super::pool::{Driver, Pool, Pooled};
use super::{DbError, DbErrorKind, Row, Session, Value};

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside of a transaction, and whole.
    Idle,
    /// In a transaction.
    Open,
    /// In a transaction of which a statement failed.
    Spoilt,
    /// In the middle of a call, or after one that was given up or broke.
    Broken,
}

/// A connection that goes back to its pool on drop if it is idle and whole, and
/// is closed otherwise.
pub(super) struct PooledSession<D: Driver> {
    pool: Arc<Pool<D>>,
    pooled: Option<Pooled<D::Connection>>,
    state: State,
    limit: Duration,
    /// The place in the queue of writers, while in a transaction.
    writer: Option<OwnedSemaphorePermit>,
    // After `pooled`, so that a connection is gone before its place is free.
    _permit: OwnedSemaphorePermit,
}

/// Bounds a call, and turns running out of time into a lost connection.
async fn bounded<T>(limit: Duration, call: impl Future<Output = Result<T, DbError>>) -> Result<T, DbError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(DbError::new(
            DbErrorKind::ConnectionLost,
            format!("the database did not answer within {limit:?}"),
        ))
    })
}

impl<D: Driver> PooledSession<D> {
    pub(super) fn new(
        pool: Arc<Pool<D>>,
        pooled: Pooled<D::Connection>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let limit = pool.options.statement_limit;
        Self { pool, pooled: Some(pooled), state: State::Idle, limit, writer: None, _permit: permit }
    }

    /// Notes that a call begins; its end sets the state again. A call that is
    /// given up half way leaves the connection broken.
    fn enter(&mut self) -> Result<State, DbError> {
        match self.state {
            State::Broken => Err(DbError::new(
                DbErrorKind::ConnectionLost,
                "this connection to the database broke earlier",
            )),
            before => {
                self.state = State::Broken;
                Ok(before)
            }
        }
    }

    fn leave(&mut self, before: State, error: Option<&DbError>) {
        self.state = match error {
            None => before,
            Some(error) if error.is_fatal() => State::Broken,
            Some(_) if before == State::Idle => State::Idle,
            Some(_) => State::Spoilt,
        };
    }

    async fn simple(&mut self, sql: &str) -> Result<u64, DbError> {
        let pooled = connection(&mut self.pooled)?;
        let call = bounded(self.limit, self.pool.driver.simple(pooled, sql));
        observe(&self.pool.options, sql, call).await
    }

    async fn begin_with(&mut self, sql: &str) -> Result<(), DbError> {
        if self.state != State::Idle {
            return Err(match self.enter() {
                Err(error) => error,
                Ok(before) => {
                    self.state = before;
                    DbError::new(DbErrorKind::Other, "a transaction is open already")
                }
            });
        }
        self.enter()?;
        let result = self.simple(sql).await;
        self.leave(State::Idle, result.as_ref().err());
        result?;
        self.state = State::Open;
        Ok(())
    }

    async fn end_with(&mut self, sql: &str) -> Result<(), DbError> {
        self.enter()?;
        // After an error nobody knows what is still open: only a success is
        // idle again.
        let result = self.simple(sql).await;
        match &result {
            Ok(_) => self.state = if self.settle().await { State::Idle } else { State::Broken },
            // Undone for certain: rolling back clears the rest.
            Err(error) if error.kind() == DbErrorKind::Retry => self.state = State::Spoilt,
            Err(_) => {}
        }
        self.writer = None;
        result.map(drop)
    }

    /// Makes the session what it is between transactions; false where it cannot be used any more. That a
    /// transaction has ended well is not touched by it.
    async fn settle(&mut self) -> bool {
        match self.pool.driver.settle_sql() {
            Some(sql) => self.simple(sql).await.is_ok(),
            None => true,
        }
    }

    /// Whether a call needs a transaction around it, which it then begins.
    async fn wrap(&mut self) -> Result<bool, DbError> {
        let wrap = self.state == State::Idle && self.pool.driver.lone_needs_transaction();
        if wrap {
            self.begin_with(self.pool.driver.begin_sql()).await?;
        }
        Ok(wrap)
    }

    async fn unwrap<T>(&mut self, wrapped: bool, result: Result<T, DbError>) -> Result<T, DbError> {
        if wrapped {
            match &result {
                Ok(_) => self.end_with(self.pool.driver.commit_sql()).await?,
                // The first error is the one to tell.
                Err(_) => drop(self.rollback().await),
            }
        }
        result
    }

    async fn join_writers(&mut self) -> Result<(), DbError> {
        if let Some(queue) = self.pool.driver.writer_queue() {
            let place = tokio::time::timeout(self.limit, queue.clone().acquire_owned()).await;
            self.writer = Some(place.ok().and_then(Result::ok).ok_or_else(|| {
                DbError::new(
                    DbErrorKind::Retry,
                    format!("another transaction held the database for more than {:?}", self.limit),
                )
            })?);
        }
        Ok(())
    }
}

fn connection<C>(pooled: &mut Option<Pooled<C>>) -> Result<&mut C, DbError> {
    match pooled {
        Some(pooled) => Ok(&mut pooled.connection),
        None => Err(DbError::new(DbErrorKind::ConnectionLost, "the connection to the database is closed")),
    }
}

#[async_trait]
impl<D: Driver> Session for PooledSession<D> {
    async fn query(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, DbError> {
        let wrapped = self.wrap().await?;
        let before = self.enter()?;
        let connection = connection(&mut self.pooled)?;
        let call = bounded(self.limit, self.pool.driver.query(connection, sql, args));
        let result = observe(&self.pool.options, sql, call).await;
        self.leave(before, result.as_ref().err());
        self.unwrap(wrapped, result).await
    }

    async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, DbError> {
        // Without arguments nothing is prepared, and no transaction is needed
        // (nor allowed, for VACUUM).
        let wrapped = !args.is_empty() && self.wrap().await?;
        let before = self.enter()?;
        let result = if args.is_empty() {
            self.simple(sql).await
        } else {
            let connection = connection(&mut self.pooled)?;
            let call = bounded(self.limit, self.pool.driver.execute(connection, sql, args));
            observe(&self.pool.options, sql, call).await
        };
        self.leave(before, result.as_ref().err());
        self.unwrap(wrapped, result).await
    }

    async fn begin(&mut self) -> Result<(), DbError> {
        if self.state == State::Idle {
            self.join_writers().await?;
        }
        let result = self.begin_with(self.pool.driver.begin_sql()).await;
        if !self.in_transaction() {
            self.writer = None;
        }
        result
    }

    async fn begin_snapshot(&mut self) -> Result<(), DbError> {
        self.begin_with(self.pool.driver.snapshot_sql()).await
    }

    async fn commit(&mut self) -> Result<(), DbError> {
        match self.state {
            State::Open => self.end_with(self.pool.driver.commit_sql()).await,
            State::Spoilt => {
                self.rollback().await?;
                Err(DbError::new(
                    DbErrorKind::Other,
                    "the transaction is rolled back, because a statement of it failed",
                ))
            }
            State::Idle => Err(DbError::new(DbErrorKind::Other, "no transaction is open")),
            State::Broken => self.enter().map(drop),
        }
    }

    async fn rollback(&mut self) -> Result<(), DbError> {
        match self.state {
            State::Idle => Ok(()),
            State::Broken => self.enter().map(drop),
            State::Open | State::Spoilt => self.end_with(self.pool.driver.rollback_sql()).await,
        }
    }

    fn in_transaction(&self) -> bool {
        matches!(self.state, State::Open | State::Spoilt)
    }

    fn commit_needs_proof(&self) -> bool {
        self.pool.driver.commit_needs_proof()
    }

    fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }
}

impl<D: Driver> Drop for PooledSession<D> {
    fn drop(&mut self) {
        if self.state == State::Idle
            && let Some(pooled) = self.pooled.take()
        {
            self.pool.put_back(pooled);
        }
    }
}
