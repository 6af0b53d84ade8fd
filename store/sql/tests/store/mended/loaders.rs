//! A server that takes longer to fill its replica than the log is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use skiff_sql::SqlConfig;
use skiff_sql::db::{DbError, Session};
use skiff_store::StoreExt;
use skiff_store::conformance::support::*;
use tokio::sync::Semaphore;

use super::hooks::{self, Hook};
use super::{foreign, number, until};
use crate::base::Base;
use crate::kine::{Peer, Tombstones};

crate::on_each! {
    the_log_is_kept_while_a_replica_is_filled others_write_while_a_replica_is_filled_anew
}

/// Stands still in the middle of filling.
struct Slow {
    /// Fillings that go through before.
    before: AtomicUsize,
    filling: AtomicBool,
    go_on: Semaphore,
}

#[async_trait]
impl Hook for Slow {
    async fn before(&self, sql: &str, _session: &mut dyn Session) -> Result<(), DbError> {
        if sql.starts_with("SELECT revision, sub, name, value FROM skiff_row")
            && self.before.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err()
            && !self.filling.swap(true, Ordering::Relaxed)
        {
            self.go_on.acquire().await.expect("open").forget();
        }
        Ok(())
    }
}

impl Slow {
    fn after(before: usize) -> Self {
        Self { before: AtomicUsize::new(before), filling: AtomicBool::new(false), go_on: Semaphore::new(0) }
    }
}

/// A server that fills its replica anew holds up nobody else, although requests
/// wait there that need the lock which all servers share.
async fn others_write_while_a_replica_is_filled_anew(base: Base) {
    let server = base.server().await;
    let slow = Arc::new(Slow::after(1));
    let other = hooks::server(&base, &slow, SqlConfig::default()).await;
    put(&*server, "a", "1").await;
    assert!(get(&*other, "a").await.is_some());
    // kine has gone on alone: every server fills its replica anew.
    let db = base.database().await;
    let mut kine = Peer { session: db.session().await.unwrap(), tombstones: Tombstones::Full };
    foreign::goes_on_alone(&mut kine).await;
    until("it fills", async || slow.filling.load(Ordering::Relaxed)).await;
    let waiting = other.clone();
    let write = tokio::spawn(async move { waiting.put(put_request("there", "x")).await });
    for i in 0..20 {
        put(&*server, "here", &i.to_string()).await;
    }
    slow.go_on.add_permits(1);
    // That one was answered, or given up in time; its server goes on.
    let _ = write.await.unwrap();
    put(&*other, "after", "x").await;
    assert!(get(&*server, "after").await.is_some());
    other.stop().await;
    server.stop().await;
}

async fn the_log_is_kept_while_a_replica_is_filled(base: Base) {
    let kept_shortly = || SqlConfig { log_retention: Duration::ZERO, ..SqlConfig::default() };
    let server = base.server_with(kept_shortly()).await;
    for i in 0..20 {
        put(&*server, "a", &i.to_string()).await;
    }
    let db = base.database().await;
    let index = number(db.as_ref(), "SELECT log_index FROM skiff_head").await;
    let slow = Arc::new(Slow::after(0));
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
