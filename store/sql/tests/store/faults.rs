//! Databases that fail: killed and started again, connections cut at any
//! moment, read-only, behind a pooler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skiff_sql::SqlStore;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{Code, StoreExt};

use crate::base::Base;
use crate::servers::{events_until, listed, replay, watch};
use crate::support::{Disk, MariadbServer, PgBouncer, PostgresServer, Stop};

/// What a client knows of its key: the last value acknowledged, and values
/// whose outcome it was not told.
#[derive(Debug, Default, Clone)]
struct Known {
    acknowledged: u64,
    unknown: Vec<u64>,
}

/// Counts up a key of its own until told to stop.
async fn client(store: Arc<SqlStore>, key: String, stop: Arc<AtomicBool>) -> (String, Known) {
    let mut known = Known::default();
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        next += 1;
        match store.put(put_request(&key, &next.to_string())).await {
            Ok(_) => {
                known.acknowledged = next;
                known.unknown.clear();
            }
            Err(error) => {
                assert_eq!(error.code(), Code::Unavailable, "{error}");
                assert!(!error.to_string().contains("gone back"), "{error}");
                known.unknown.push(next);
                // Where every call fails at once the others would starve.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    (key, known)
}

/// Runs clients of two servers while `trouble` lasts, then checks that nothing
/// acknowledged is lost and that watchers saw everything once, in order.
pub(crate) async fn survive(base: &Base, trouble: impl Future<Output = ()>) {
    survive_on([base.server().await, base.server().await], trouble).await;
}

/// As [`survive`], on servers that are there.
pub(crate) async fn survive_on(servers: [Arc<SqlStore>; 2], trouble: impl Future<Output = ()>) {
    let mut watchers: Vec<_> = servers.iter().map(|server| watch(server)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|n| tokio::spawn(client(servers[n % 2].clone(), format!("client{n}"), stop.clone())))
        .collect();
    trouble.await;
    stop.store(true, Ordering::Relaxed);
    let mut known = BTreeMap::new();
    for client in clients {
        let (key, what) = client.await.unwrap();
        known.insert(key, what);
    }
    // Both serve again, and agree.
    let last = put(&*servers[0], "last", "").await;
    let mut seen = Vec::new();
    for watcher in &mut watchers {
        seen.push(events_until(watcher, last).await);
    }
    assert_eq!(seen[0], seen[1]);
    let state = replay(&seen[0]);
    for server in &servers {
        assert_eq!(listed(server).await, state);
    }
    let hash = pb::HashKvRequest { revision: last };
    assert_eq!(servers[0].hash_kv(hash).await.unwrap().hash, servers[1].hash_kv(hash).await.unwrap().hash);
    let mut writes = 0;
    for (key, known) in &known {
        let found = state.get(key.as_bytes()).map_or(0, |(value, ..)| text(value).parse().unwrap());
        assert!(
            found == known.acknowledged || known.unknown.contains(&found),
            "{key}: {found} is there, {known:?} is known"
        );
        writes += known.acknowledged;
    }
    assert!(writes > 0, "nothing was written");
    // Each value was written at most once.
    let mut values: Vec<_> =
        seen[0].iter().map(|e| e.kv.as_ref().unwrap()).map(|kv| (&kv.key, &kv.value)).collect();
    let count = values.len();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), count, "a write happened twice");
    for server in servers {
        server.stop().await;
    }
}

/// Waits until both sides have done some work: some commits a server.
pub(crate) async fn some_work(base: &Base) {
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    let count = |rows: Vec<skiff_sql::db::Row>| rows.first().unwrap().int(0).unwrap();
    let sql = "SELECT log_index FROM skiff_head WHERE id = 1";
    let before = count(session.query(sql, &[]).await.unwrap());
    let worked = async {
        while count(session.query(sql, &[]).await.unwrap()) < before + 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, worked).await.expect("the servers work");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_killed_and_comes_back() {
    let mut server = tokio::task::block_in_place(|| PostgresServer::start(Disk::Durable));
    let base = Base::at(&server.endpoint("kubernetes"));
    survive(&base, async {
        for _ in 0..3 {
            some_work(&base).await;
            tokio::task::block_in_place(|| server.restart(Stop::Kill));
        }
        some_work(&base).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_is_killed_and_comes_back() {
    let mut server = tokio::task::block_in_place(|| MariadbServer::start(Disk::Durable));
    let base = Base::at(&server.endpoint("kubernetes"));
    survive(&base, async {
        for _ in 0..3 {
            some_work(&base).await;
            tokio::task::block_in_place(|| server.restart(Stop::Kill));
        }
        some_work(&base).await;
    })
    .await;
}

/// Connections end at any moment, in the middle of commits too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut() {
    let base = Base::new(crate::base::Kind::Postgres).await.unwrap();
    survive(&base, async {
        let db = base.database().await;
        let mut session = db.session().await.unwrap();
        for _ in 0..40 {
            some_work(&base).await;
            let sql = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = \
                       current_database() AND pid <> pg_backend_pid()";
            session.query(sql, &[]).await.unwrap();
        }
    })
    .await;
}

/// Behind a pooler that lends a connection for one transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_stands_between() {
    let server = tokio::task::block_in_place(|| PostgresServer::start(Disk::Relaxed));
    let bouncer = tokio::task::block_in_place(|| PgBouncer::start(&server));
    // Databases cannot be created through every pooler: this one is there.
    let direct = Base::at(&server.endpoint("kubernetes"));
    direct.database().await.close().await;
    let base = Base::at(&bouncer.endpoint("kubernetes"));
    survive(&base, async {
        for _ in 0..5 {
            some_work(&base).await;
        }
    })
    .await;
}

/// A database that turns read-only refuses writes with a reason, serves reads,
/// and is written again as soon as it can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database() {
    let mariadb = tokio::task::block_in_place(|| MariadbServer::start(Disk::Relaxed));
    let admin = Base::at(&mariadb.endpoint("mysql")).database().await;
    let administer = async |statements: &[&str]| {
        let mut session = admin.session().await.unwrap();
        for sql in statements {
            session.execute(sql, &[]).await.unwrap();
        }
    };
    // Administrators write even then.
    administer(&[
        "CREATE DATABASE kubernetes",
        "CREATE USER app@'%' IDENTIFIED BY 'app'",
        "GRANT ALL ON kubernetes.* TO app@'%'",
    ])
    .await;
    let base = Base::at(&mariadb.endpoint("kubernetes").replace("skiff:skiff", "app:app"));
    let server = base.server().await;
    put(&*server, "a", "1").await;
    administer(&["SET GLOBAL read_only = 1"]).await;
    let refused = server.put(put_request("a", "2")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.to_string().contains("read"), "{refused}");
    assert_eq!(text(&get(&*server, "a").await.unwrap().value), "1");
    administer(&["SET GLOBAL read_only = 0"]).await;
    assert_eq!(put(&*server, "a", "3").await, 3);
    server.stop().await;
}
