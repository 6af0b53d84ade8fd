//! A server of ours that vanishes in a transaction: frozen, or cut off without
//! a word. The lock that all others wait for must not stay with it.

use std::time::Duration;

use skiff_sql::db::Value;
use skiff_store::StoreExt;
use skiff_store::conformance::support::*;

use crate::base::{Base, Kind};

/// Longer than a lock may stay behind, by far; shorter than the hours after
/// which a database closes an idle session by itself.
const PATIENCE: Duration = Duration::from_secs(180);

async fn its_locks_go(kind: Kind) {
    let Some(base) = Base::new(kind).await else { return };
    let server = base.server().await;
    put(&*server, "a", "1").await;
    let (way, base) = base.through_a_proxy().await;
    let db = base.database().await;
    let mut vanished = db.session().await.unwrap();
    vanished.begin().await.unwrap();
    let sql = format!("SELECT log_index FROM skiff_head WHERE id = 1{}", db.dialect().for_update());
    vanished.query(&sql, &[]).await.unwrap();
    let sql = "UPDATE skiff_head SET revision = ? WHERE id = 1";
    vanished.execute(sql, &[Value::Int(1_000)]).await.unwrap();
    way.silence(true);
    let written = async {
        while server.put(put_request("a", "2")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("the lock goes");
    // What was given up may have been written too, but nothing of what vanished.
    let written = get(&*server, "a").await.unwrap();
    assert_eq!(text(&written.value), "2");
    assert!((3..1_000).contains(&written.mod_revision), "{written:?}");
    drop(vanished);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_locks_go_on_postgres() {
    its_locks_go(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_locks_go_on_mariadb() {
    its_locks_go(Kind::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_locks_go_on_mysql() {
    its_locks_go(Kind::MySql).await;
}

/// Between transactions a session may be idle for as long as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sessions_stay() {
    for kind in [Kind::MariaDb, Kind::MySql] {
        let Some(base) = Base::new(kind).await else { continue };
        let db = base.database().await;
        let mut session = db.session().await.unwrap();
        let mut limit = async |commit: Option<bool>| {
            match commit {
                None => session.begin().await.unwrap(),
                Some(true) => session.commit().await.unwrap(),
                Some(false) => session.rollback().await.unwrap(),
            }
            session.query("SELECT @@SESSION.wait_timeout", &[]).await.unwrap()[0].int(0).unwrap()
        };
        for commit in [true, false] {
            assert_eq!(limit(None).await, 30, "{kind:?}");
            assert_eq!(limit(Some(commit)).await, 28_800, "{kind:?}");
        }
    }
}
