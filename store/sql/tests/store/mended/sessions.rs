//! Sessions of PostgreSQL that end in the middle of our transactions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use skiff_sql::SqlConfig;
use skiff_sql::db::{Database, DbError, Session, Value};
use skiff_store::conformance::support::*;

use super::hooks::{self, Hook};
use crate::base::{Base, Kind};
use crate::servers::{events_until, watch};

/// How the session ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Somebody ends it.
    Terminated,
    /// It did nothing for longer than it may.
    Idle,
}

/// Ends the session before a statement, once.
struct Ends {
    db: Arc<dyn Database>,
    next: Mutex<Option<(&'static str, End)>>,
}

#[async_trait]
impl Hook for Ends {
    async fn before(&self, sql: &str, session: &mut dyn Session) -> Result<(), DbError> {
        if !session.in_transaction() {
            return Ok(());
        }
        let next = self.next.lock().take_if(|(part, _)| sql.contains(*part));
        let Some((_, end)) = next else { return Ok(()) };
        let pid = session.query("SELECT pg_backend_pid()", &[]).await?[0].int(0)?;
        let mut admin = self.db.session().await?;
        match end {
            End::Terminated => {
                admin.query("SELECT pg_terminate_backend(?::int)", &[Value::Int(pid)]).await?;
            }
            End::Idle => {
                session.execute("SET LOCAL idle_in_transaction_session_timeout = '20ms'", &[]).await?;
            }
        }
        let gone = format!("SELECT COUNT(*) FROM pg_stat_activity WHERE pid = {pid}");
        let wait = async {
            while admin.query(&gone, &[]).await?[0].int(0)? > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("the session ends")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_within_a_transaction() {
    let base = Base::new(Kind::Postgres).await.unwrap();
    let ends = Arc::new(Ends { db: base.database().await, next: Mutex::default() });
    let server = hooks::server(&base, &ends, SqlConfig::default()).await;
    let mut watcher = watch(&server);
    let mut expected = 1;
    for end in [End::Terminated, End::Idle] {
        for part in ["FROM skiff_head", "INSERT INTO kine", "INSERT INTO skiff_log", "COMMIT"] {
            *ends.next.lock() = Some((part, end));
            expected += 1;
            assert_eq!(put(&*server, part, &expected.to_string()).await, expected, "{end:?} before {part}");
            assert!(ends.next.lock().is_none(), "{end:?} before {part} did not happen");
        }
    }
    // Each happened once.
    assert_eq!(events_until(&mut watcher, expected).await.len() as i64, expected - 1);
    assert_eq!(text(&get(&*server, "COMMIT").await.unwrap().value), expected.to_string());
    server.stop().await;
}
