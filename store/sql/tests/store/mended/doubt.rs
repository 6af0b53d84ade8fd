//! A commit whose answer is lost, of several clients.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use skiff_sql::SqlConfig;
use skiff_sql::db::{DbError, DbErrorKind, Session};
use skiff_store::StoreExt;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;
use tokio::sync::Semaphore;

use super::hooks::{self, Hook};
use super::until;
use crate::base::Base;

crate::on_each! { answers_of_a_lost_commit_reach_their_clients }

/// What becomes of a commit.
enum Fate {
    /// It waits before it happens.
    Waits,
    /// It happens, and its answer waits and is lost.
    Lost,
}

/// Commits with a fate of their own, in order, and where they stand.
struct Commits {
    fates: Mutex<VecDeque<Fate>>,
    waits: AtomicBool,
    loses: AtomicBool,
    lost: AtomicBool,
    go_on: Semaphore,
}

#[async_trait]
impl Hook for Commits {
    async fn before(&self, sql: &str, _session: &mut dyn Session) -> Result<(), DbError> {
        if sql != "COMMIT" {
            return Ok(());
        }
        let fate = self.fates.lock().pop_front();
        match fate {
            Some(Fate::Waits) => {
                self.waits.store(true, Ordering::Relaxed);
                self.go_on.acquire().await.expect("open").forget();
            }
            Some(Fate::Lost) => self.loses.store(true, Ordering::Relaxed),
            None => {}
        }
        Ok(())
    }

    async fn after(&self, sql: &str, _rows: usize) -> Result<(), DbError> {
        if sql != "COMMIT" || !self.loses.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        self.lost.store(true, Ordering::Relaxed);
        self.go_on.acquire().await.expect("open").forget();
        Err(DbError::new(DbErrorKind::ConnectionLost, "the answer is lost"))
    }
}

async fn answers_of_a_lost_commit_reach_their_clients(base: Base) {
    let commits = Arc::new(Commits {
        fates: Mutex::default(),
        waits: AtomicBool::new(false),
        loses: AtomicBool::new(false),
        lost: AtomicBool::new(false),
        go_on: Semaphore::new(0),
    });
    let server = hooks::server(&base, &commits, SqlConfig::default()).await;
    for key in ["b", "c1", "c2"] {
        put(&*server, key, "old").await;
    }
    commits.fates.lock().extend([Fate::Waits, Fate::Lost]);
    let mut first = Box::pin(server.put(put_request("first", "")));
    until("the first commits", async || {
        assert!(futures::poll!(&mut first).is_pending());
        commits.waits.load(Ordering::Relaxed)
    })
    .await;
    // While it waits the others come together.
    let with_previous = pb::PutRequest { prev_kv: true, ..put_request("b", "new") };
    let mut leaves = Box::pin(server.put(put_request("a", "1")));
    let mut puts = Box::pin(server.put(with_previous));
    let mut deletes = Box::pin(server.delete_range(delete_request("c", "d")));
    assert!(futures::poll!(&mut leaves).is_pending());
    assert!(futures::poll!(&mut puts).is_pending());
    assert!(futures::poll!(&mut deletes).is_pending());
    commits.go_on.add_permits(1);
    let last = revision(&first.await.unwrap().header);
    until("the answer is about to be lost", async || commits.lost.load(Ordering::Relaxed)).await;
    drop(leaves);
    commits.go_on.add_permits(1);
    let (put, deleted) = tokio::join!(puts, deletes);
    let put = put.unwrap();
    assert_eq!(text(&put.prev_kv.expect("what was before").value), "old");
    assert_eq!(revision(&put.header), last + 2);
    assert_eq!(deleted.unwrap().deleted, 2);
    assert_eq!(text(&get(&*server, "a").await.unwrap().value), "1");
    server.stop().await;
}
