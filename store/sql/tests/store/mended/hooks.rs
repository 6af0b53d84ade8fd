//! A database that does something of a test's at certain statements.

use std::sync::Arc;

use async_trait::async_trait;
use skiff_sql::db::{Database, DbError, Dialect, Listener, Row, Session, Value};
use skiff_sql::{SqlConfig, SqlStore};
use skiff_store::clock::SystemClock;

use crate::base::Base;

/// What a test does. Transactions begin and end with `BEGIN`, `COMMIT` and
/// `ROLLBACK` here.
#[async_trait]
pub(super) trait Hook: Send + Sync + 'static {
    /// Before a statement, on the connection that runs it.
    async fn before(&self, _sql: &str, _session: &mut dyn Session) -> Result<(), DbError> {
        Ok(())
    }

    /// After one that went well, with the number of rows it returned.
    async fn after(&self, _sql: &str, _rows: usize) -> Result<(), DbError> {
        Ok(())
    }

    /// What is run in its place.
    fn instead(&self, sql: &str) -> String {
        sql.to_owned()
    }
}

/// The database of a base, with a hook.
pub(super) struct Hooked<H> {
    inner: Arc<dyn Database>,
    hook: Arc<H>,
}

/// Opens a store on a database with a hook.
pub(super) async fn server<H: Hook>(base: &Base, hook: &Arc<H>, config: SqlConfig) -> Arc<SqlStore> {
    let hooked = Hooked { inner: base.database().await, hook: hook.clone() };
    let clock = Arc::new(SystemClock::default());
    SqlStore::open(Arc::new(hooked), config, clock).await.expect("a store")
}

#[async_trait]
impl<H: Hook> Database for Hooked<H> {
    fn dialect(&self) -> &dyn Dialect {
        self.inner.dialect()
    }

    async fn session(&self) -> Result<Box<dyn Session>, DbError> {
        Ok(Box::new(HookedSession { inner: self.inner.session().await?, hook: self.hook.clone() }))
    }

    async fn listen(&self, channel: &str) -> Result<Option<Box<dyn Listener>>, DbError> {
        self.inner.listen(channel).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct HookedSession<H> {
    inner: Box<dyn Session>,
    hook: Arc<H>,
}

#[async_trait]
impl<H: Hook> Session for HookedSession<H> {
    fn commit_needs_proof(&self) -> bool {
        self.inner.commit_needs_proof()
    }

    async fn query(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, DbError> {
        self.hook.before(sql, self.inner.as_mut()).await?;
        let rows = self.inner.query(&self.hook.instead(sql), args).await?;
        self.hook.after(sql, rows.len()).await?;
        Ok(rows)
    }

    async fn execute(&mut self, sql: &str, args: &[Value]) -> Result<u64, DbError> {
        self.hook.before(sql, self.inner.as_mut()).await?;
        let count = self.inner.execute(&self.hook.instead(sql), args).await?;
        self.hook.after(sql, 0).await?;
        Ok(count)
    }

    async fn begin(&mut self) -> Result<(), DbError> {
        self.hook.before("BEGIN", self.inner.as_mut()).await?;
        self.inner.begin().await?;
        self.hook.after("BEGIN", 0).await
    }

    async fn begin_snapshot(&mut self) -> Result<(), DbError> {
        self.inner.begin_snapshot().await
    }

    async fn commit(&mut self) -> Result<(), DbError> {
        self.hook.before("COMMIT", self.inner.as_mut()).await?;
        self.inner.commit().await?;
        self.hook.after("COMMIT", 0).await
    }

    async fn rollback(&mut self) -> Result<(), DbError> {
        self.hook.before("ROLLBACK", self.inner.as_mut()).await?;
        self.inner.rollback().await
    }

    fn in_transaction(&self) -> bool {
        self.inner.in_transaction()
    }

    fn set_limit(&mut self, limit: std::time::Duration) {
        self.inner.set_limit(limit);
    }
}
