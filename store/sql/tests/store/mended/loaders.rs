//! A server that takes longer to fill its replica than the log is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use skiff_sql::SqlConfig;
use skiff_sql::db::{DbError, Session};
use skiff_store::conformance::support::*;
use tokio::sync::Semaphore;

use super::hooks::{self, Hook};
use super::{number, until};
use crate::base::Base;

crate::on_each! { the_log_is_kept_while_a_replica_is_filled }

/// Stands still in the middle of filling.
struct Slow {
    filling: AtomicBool,
    go_on: Semaphore,
}

#[async_trait]
impl Hook for Slow {
    async fn before(&self, sql: &str, _session: &mut dyn Session) -> Result<(), DbError> {
        if sql.starts_with("SELECT revision, sub, name, value FROM skiff_row")
            && !self.filling.swap(true, Ordering::Relaxed)
        {
            self.go_on.acquire().await.expect("open").forget();
        }
        Ok(())
    }
}

async fn the_log_is_kept_while_a_replica_is_filled(base: Base) {
    let kept_shortly = || SqlConfig { log_retention: Duration::ZERO, ..SqlConfig::default() };
    let server = base.server_with(kept_shortly()).await;
    for i in 0..20 {
        put(&*server, "a", &i.to_string()).await;
    }
    let db = base.database().await;
    let index = number(db.as_ref(), "SELECT log_index FROM skiff_head").await;
    let slow = Arc::new(Slow { filling: AtomicBool::new(false), go_on: Semaphore::new(0) });
    let base = Arc::new(base);
    let (opens, hook) = (base.clone(), slow.clone());
    let opening = tokio::spawn(async move { hooks::server(&opens, &hook, kept_shortly()).await });
    until("it fills", async || slow.filling.load(Ordering::Relaxed)).await;
    for i in 0..20 {
        put(&*server, "b", &i.to_string()).await;
    }
    // Everything up to where it began goes, and nothing after.
    let oldest = "SELECT MIN(idx) FROM skiff_log";
    until("the log is pruned", async || number(db.as_ref(), oldest).await > 1).await;
    assert_eq!(number(db.as_ref(), oldest).await, index + 1);
    slow.go_on.add_permits(1);
    let other = opening.await.unwrap();
    assert_eq!(text(&get(&*other, "b").await.unwrap().value), "19");
    put(&*server, "c", "").await;
    assert!(get(&*other, "c").await.is_some());
    // Nobody needs it any more.
    let held = "SELECT COUNT(*) FROM skiff_progress WHERE name LIKE 'hold/%'";
    until("it is let go", async || number(db.as_ref(), held).await == 0).await;
    until("the rest is pruned", async || number(db.as_ref(), oldest).await > index + 1).await;
    other.stop().await;
    server.stop().await;
}
