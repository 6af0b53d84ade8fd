//! Several PostgreSQL servers in one endpoint: a primary and its standby.

use std::sync::Arc;
use std::time::Duration;

use skiff_sql::SqlStore;
use skiff_sql::db::{self, DbErrorKind, PoolOptions};
use skiff_sql::endpoint::{Endpoint, TlsFiles};
use skiff_store::conformance::support::*;
use skiff_store::{Code, Error, Store, StoreExt};

use crate::base::Base;
use crate::faults::{some_work, survive};
use crate::support::{Disk, PgBouncer, PostgresServer, Proxy, Stop};

/// A primary with a standby, which is behind it by nothing where `synchronous`.
fn pair(synchronous: bool) -> (PostgresServer, PostgresServer) {
    let settings: &[&str] = if synchronous { &["synchronous_standby_names=standby"] } else { &[] };
    let primary = PostgresServer::start_with(Disk::Relaxed, settings);
    let standby = PostgresServer::standby_of(&primary, &[]);
    (primary, standby)
}

/// Runs a statement on one server, with the rights of its administrator.
async fn administer(server: &PostgresServer, sql: &str) {
    // Its own database is there, on a standby too.
    let endpoint = Endpoint::parse(&server.endpoint("postgres"), TlsFiles::default()).unwrap();
    let db = db::connect(&endpoint, &PoolOptions::default()).await.unwrap();
    db.session().await.unwrap().query(sql, &[]).await.unwrap();
    db.close().await;
}

/// Waits until a server answers, and what.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.expect("an answer in time")
}

fn assert_gone_back(error: &Error) {
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.to_string().contains("gone back"), "{error}");
}

/// The primary is killed while it is written to, and the standby takes over: with synchronous replication
/// nothing acknowledged is lost, and servers go on by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over() {
    let (mut primary, standby) = tokio::task::block_in_place(|| pair(true));
    // The standby comes first, and is not taken.
    let base = Base::at(&PostgresServer::endpoint_of(&[&standby, &primary], "kubernetes"));
    survive(&base, async {
        some_work(&base).await;
        tokio::task::block_in_place(|| {
            primary.stop(Stop::Kill);
            standby.promote();
        });
        some_work(&base).await;
    })
    .await;
}

/// Connections are cut all the time, while the standby that the endpoint also names stays behind: it is
/// never asked, so nothing seems to have gone back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_behind_is_not_asked() {
    let (primary, standby) = tokio::task::block_in_place(|| pair(false));
    let base = Base::at(&PostgresServer::endpoint_of(&[&standby, &primary], "kubernetes"));
    base.database().await.close().await;
    let direct = Base::at(&primary.endpoint("kubernetes"));
    survive(&base, async {
        some_work(&direct).await;
        tokio::task::block_in_place(|| standby.pause_replay());
        for _ in 0..10 {
            some_work(&direct).await;
            let cut =
                "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'kubernetes'";
            administer(&primary, cut).await;
        }
    })
    .await;
}

/// A pooler is led to a standby that is behind, and back, under connections that stay: requests wait or
/// fail meanwhile, and the store goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_leads_to_a_standby_that_is_behind() {
    let (primary, standby) = tokio::task::block_in_place(|| pair(false));
    let mut bouncer = tokio::task::block_in_place(|| PgBouncer::start(&primary));
    Base::at(&primary.endpoint("kubernetes")).database().await.close().await;
    let server = Base::at(&bouncer.endpoint("kubernetes")).server().await;
    put(&*server, "a", "1").await;
    tokio::task::block_in_place(|| standby.pause_replay());
    put(&*server, "a", "2").await;
    bouncer.retarget(&standby);
    // Only an answer of the standby fails.
    let failed = eventually(async || server.put(put_request("a", "3")).await.err()).await;
    assert_eq!(failed.code(), Code::Unavailable, "{failed}");
    let read = server.range(everything()).await.unwrap_err();
    assert_eq!(read.code(), Code::Unavailable, "{read}");
    assert!(!server.status().errors.iter().any(|text| text.contains("gone back")), "{:?}", server.status());
    bouncer.retarget(&primary);
    eventually(async || server.put(put_request("a", "4")).await.ok()).await;
    assert_eq!(text(&get(&*server, "a").await.unwrap().value), "4");
    server.stop().await;
}

/// A standby alone is refused, with the reason, as a server that is not there yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_no_writes_is_refused() {
    let (primary, standby) = tokio::task::block_in_place(|| pair(false));
    let refused = async |endpoint: &str| {
        let endpoint = Endpoint::parse(endpoint, TlsFiles::default()).unwrap();
        db::connect(&endpoint, &PoolOptions::default()).await.err()
    };
    let error = refused(&standby.endpoint("postgres")).await.expect("a standby alone");
    assert_eq!(error.kind(), DbErrorKind::Unreachable);
    assert!(error.to_string().contains("is a standby"), "{error}");
    administer(&primary, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    administer(&primary, "SELECT 1 FROM pg_reload_conf()").await;
    let both = PostgresServer::endpoint_of(&[&standby, &primary], "postgres");
    let error = eventually(async || refused(&both).await).await;
    let text = error.to_string();
    for part in ["none of its hosts", "is a standby", "read-only by default"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("postgres:postgres"), "{text}");
    assert!(refused(&format!("{both}&target_session_attrs=primary")).await.is_none());
}

/// The standby takes over without the newest entries, as asynchronous replication allows: a server that
/// has seen them refuses to go on, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_has_gone_back_is_refused() {
    let (mut primary, mut standby) = tokio::task::block_in_place(|| pair(false));
    let endpoint = PostgresServer::endpoint_of(&[&primary, &standby], "kubernetes");
    let server = Base::at(&endpoint).server().await;
    put(&*server, "a", "1").await;
    wait_for_replay(&primary).await;
    tokio::task::block_in_place(|| standby.stop(Stop::Orderly));
    put(&*server, "a", "2").await;
    tokio::task::block_in_place(|| {
        primary.stop(Stop::Kill);
        standby.resume();
        standby.promote();
    });
    refuses_to_go_on(&server).await;
    server.stop().await;
    // The state is accepted by a start.
    let server = Base::at(&endpoint).server().await;
    assert_eq!(text(&get(&*server, "a").await.unwrap().value), "1");
    server.stop().await;
}

/// As above, and another server writes on, to the very entry that the first has seen, and beyond: that the
/// history is another one is noticed all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_of_the_same_length_is_refused() {
    for more in [1, 2] {
        let (mut primary, mut standby) = tokio::task::block_in_place(|| pair(false));
        let way = Proxy::start(primary.port).await;
        let endpoint = primary.endpoint("kubernetes");
        let server =
            Base::at(&endpoint.replace(&primary.port.to_string(), &way.port.to_string())).server().await;
        put(&*server, "a", "1").await;
        wait_for_replay(&primary).await;
        tokio::task::block_in_place(|| standby.stop(Stop::Orderly));
        put(&*server, "a", "2").await;
        tokio::task::block_in_place(|| {
            primary.stop(Stop::Kill);
            standby.resume();
            standby.promote();
        });
        let other = Base::at(&standby.endpoint("kubernetes")).server().await;
        for n in 0..more {
            put(&*other, "b", &n.to_string()).await;
        }
        way.retarget(standby.port);
        refuses_to_go_on(&server).await;
        server.stop().await;
        other.stop().await;
    }
}

async fn refuses_to_go_on(server: &Arc<SqlStore>) {
    let refusal = async || {
        let error = server.put(put_request("a", "3")).await.expect_err("a database that has gone back");
        error.to_string().contains("gone back").then_some(error)
    };
    assert_gone_back(&eventually(refusal).await);
    assert_gone_back(&server.range(everything()).await.unwrap_err());
}

/// Waits until the standby has everything.
async fn wait_for_replay(primary: &PostgresServer) {
    let db = Base::at(&primary.endpoint("postgres")).database().await;
    let mut session = db.session().await.unwrap();
    let sql = "SELECT COUNT(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";
    let mut replayed = async || session.query(sql, &[]).await.unwrap()[0].int(0).unwrap() > 0;
    eventually(async || replayed().await.then_some(())).await;
}
