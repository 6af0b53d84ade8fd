//! A kine beside us that never pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use skiff_sql::SqlConfig;
use skiff_sql::db::{Database, DbError, DbErrorKind, Session, Value};
use skiff_store::StoreExt;
use skiff_store::conformance::support::*;

use super::hooks::{self, Hook};
use super::until;
use crate::base::Base;
use crate::servers::{events_until, listed, replay, watch};

crate::on_each! { we_go_on_beside_a_kine_that_never_pauses a_writer_that_always_comes_too_late_goes_on }

/// Rows that one peer writes at most.
const MOST: usize = 50_000;

/// Creates one key after the other, as kine does it, as fast as it can.
async fn create(base: Arc<Base>, peer: usize, stop: Arc<AtomicBool>, written: Arc<AtomicUsize>) {
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    let sql = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, \
               old_value) VALUES (?, 1, 0, 0, 0, 0, ?, NULL)";
    for number in 0..MOST {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let arguments = [Value::Text(format!("/kine/{peer}/{number}")), Value::Bytes("x".into())];
        match session.execute(sql, &arguments).await {
            Ok(_) => {
                written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), DbErrorKind::UniqueViolation | DbErrorKind::Retry) => {}
            Err(error) => panic!("kine writes: {error}"),
        }
    }
}

async fn we_go_on_beside_a_kine_that_never_pauses(base: Base) {
    let base = Arc::new(base);
    let config = SqlConfig { request_timeout: Duration::from_secs(30), ..SqlConfig::default() };
    let server = base.server_with(config).await;
    let mut watcher = watch(&server);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let peers: Vec<_> =
        (0..3).map(|peer| tokio::spawn(create(base.clone(), peer, stop.clone(), written.clone()))).collect();
    let so_far = || written.load(Ordering::Relaxed);
    until("kine writes", async || so_far() > 50).await;
    let before = so_far();
    for i in 0..20 {
        put(&*server, &format!("/us/{}", i % 5), &i.to_string()).await;
        // What we read is not older than what kine has written before.
        assert_eq!(text(&get(&*server, &format!("/us/{}", i % 5)).await.unwrap().value), i.to_string());
    }
    let meanwhile = so_far() - before;
    stop.store(true, Ordering::Relaxed);
    for peer in peers {
        peer.await.unwrap();
    }
    assert!(meanwhile > 0, "kine did not write meanwhile");
    let last = put(&*server, "/last", "").await;
    let events = events_until(&mut watcher, last).await;
    assert_eq!(events.len(), so_far() + 21, "every change is one event");
    let state = replay(&events);
    assert_eq!(listed(&server).await, state);
    server.stop().await;
    // Whoever fills its replica from the tables sees the same.
    let again = base.server().await;
    assert_eq!(listed(&again).await, state);
    again.stop().await;
}

/// A kine that writes a row before each of our transactions.
struct Faster {
    db: Arc<dyn Database>,
    now: AtomicBool,
    written: AtomicUsize,
}

#[async_trait]
impl Hook for Faster {
    async fn before(&self, sql: &str, _session: &mut dyn Session) -> Result<(), DbError> {
        if sql != "BEGIN" || !self.now.load(Ordering::Relaxed) {
            return Ok(());
        }
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let sql = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, \
                   old_value) VALUES (?, 1, 0, 0, 0, 0, ?, NULL)";
        let arguments = [Value::Text(format!("/kine/{number}")), Value::Bytes("x".into())];
        self.db.session().await?.execute(sql, &arguments).await.map(drop)
    }
}

async fn a_writer_that_always_comes_too_late_goes_on(base: Base) {
    let faster = Arc::new(Faster {
        db: base.database().await,
        now: AtomicBool::new(false),
        written: AtomicUsize::new(0),
    });
    let server = hooks::server(&base, &faster, SqlConfig::default()).await;
    let mut watcher = watch(&server);
    put(&*server, "/us", "first").await;
    faster.now.store(true, Ordering::Relaxed);
    for i in 0..5 {
        put(&*server, "/us", &i.to_string()).await;
        assert_eq!(text(&get(&*server, "/us").await.unwrap().value), i.to_string());
    }
    // Several clients at once, of which one changes nothing.
    let puts = (0..8).map(|i| server.put(put_request(&format!("/us/{i}"), "x")));
    let nothing = server.delete_range(delete_request("/nothing", ""));
    let (puts, nothing) = tokio::join!(futures::future::join_all(puts), nothing);
    let mut revisions: Vec<_> = puts.into_iter().map(|put| revision(&put.unwrap().header)).collect();
    revisions.dedup();
    assert_eq!(revisions.len(), 8);
    assert_eq!(nothing.unwrap().deleted, 0);
    faster.now.store(false, Ordering::Relaxed);
    let last = put(&*server, "/last", "").await;
    let events = events_until(&mut watcher, last).await;
    assert_eq!(events.len(), faster.written.load(Ordering::Relaxed) + 15, "every change is one event");
    let state = replay(&events);
    assert_eq!(listed(&server).await, state);
    server.stop().await;
    let again = base.server().await;
    assert_eq!(listed(&again).await, state);
    again.stop().await;
}
