//! Tables that are mended while a kine goes on writing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skiff_sql::db::{self, Database, PoolOptions, Value};
use skiff_sql::endpoint::{Endpoint, TlsFiles};
use skiff_sql::{SqlConfig, SqlStore};
use skiff_store::clock::SystemClock;
use skiff_store::conformance::support::*;
use tokio::task::JoinHandle;

use super::model::Model;
use super::shapes::{self, Shape};
use super::{served, tables};
use crate::base::{Base, Kind};
use crate::kine::{self, Peer, Tombstones};
use crate::servers::listed;

crate::on_each! { nothing_is_lost_while_a_table_is_mended a_repair_waits_for_open_transactions }

/// The shape that most statements mend.
fn oldest(kind: Kind) -> Shape {
    let shape = shapes::of(kind).iter().max_by_key(|shape| shape.mended_by).expect("a shape");
    // With ids left for those who write meanwhile.
    shape.with_ids_from_one()
}

/// A kine that writes until it is told to stop; answers what it was told is
/// written: the last value of each key, and how many rows.
fn writer(
    db: Arc<dyn Database>,
    number: usize,
    stop: Arc<AtomicBool>,
) -> JoinHandle<(BTreeMap<String, String>, i64)> {
    tokio::spawn(async move {
        let (mut written, mut count) = (BTreeMap::new(), 0);
        let mut peer = Peer { session: db.session().await.unwrap(), tombstones: Tombstones::Full };
        for i in 0..20_000 {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let (key, value) = (format!("/live{number}/{}", i % 7), i.to_string());
            match peer.try_write(&key, Some(&value)).await {
                Ok(true) => {
                    written.insert(key, value);
                    count += 1;
                }
                Ok(false) => {}
                // Postgres refuses a statement that was prepared for the old table, once.
                Err(_) => peer.session = db.session().await.unwrap(),
            }
        }
        (written, count)
    })
}

async fn nothing_is_lost_while_a_table_is_mended(base: Base) {
    let shape = oldest(base.kind());
    tables::make(&base, &shape).await;
    let model = Model::of(&shape);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..2 {
        // kine in its own process has its own connections.
        writers.push(writer(base.database().await, number, stop.clone()));
    }
    let db = base.database().await;
    let rows = || async {
        let mut session = db.session().await.unwrap();
        let rows = session.query("SELECT COUNT(*) FROM kine WHERE name LIKE '/live%'", &[]).await.unwrap();
        rows[0].int(0).unwrap()
    };
    let until = async |count: i64| {
        while rows().await < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, until(20)).await.expect("the writers write");
    let store = tables::open(&base, true).await.expect("a mended table");
    let after = rows().await + 20;
    tokio::time::timeout(DEADLINE, until(after)).await.expect("the writers go on");
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    let mut expected = BTreeMap::new();
    for writer in writers {
        let (written, count) = writer.await.unwrap();
        expected.extend(written);
        acknowledged += count;
    }
    put(&*store, "/last", "").await;
    assert!(rows().await >= acknowledged, "a row that was acknowledged is gone");
    let state = served::state(&store).await;
    for (key, value) in expected {
        assert_eq!(state[&key].value, value, "{key}");
    }
    for (key, pair) in model.state() {
        assert_eq!(state[&key], pair);
    }
    let now = listed(&store).await;
    store.stop().await;
    let again = tables::open(&base, false).await.expect("nothing is left to mend");
    assert_eq!(listed(&again).await, now);
    again.stop().await;
}

/// A statement that mends the table waits longer than any other may take, as on
/// a large table.
async fn a_repair_waits_for_open_transactions(base: Base) {
    let shape = oldest(base.kind());
    if base.kind() == Kind::Sqlite {
        // Nothing is mended there, and no transaction is waited for to open it.
        return;
    }
    tables::make(&base, &shape).await;
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    session.begin().await.unwrap();
    let sql = "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease, value, \
               old_value) VALUES ('/late', 1, 0, 0, 0, 0, ?, NULL)";
    session.execute(sql, &[Value::Bytes("late".into())]).await.unwrap();
    let limit = Duration::from_millis(500);
    let options = PoolOptions { statement_limit: limit, ..PoolOptions::default() };
    let endpoint = Endpoint::parse(base.endpoint(), TlsFiles::default()).unwrap();
    let pool = db::connect(&endpoint, &options).await.unwrap();
    let config = SqlConfig { migrate_schema: true, ..SqlConfig::default() };
    let mut opening = tokio::spawn(SqlStore::open(pool, config, Arc::new(SystemClock::default())));
    let early = tokio::time::timeout(limit * 3, &mut opening).await;
    assert!(
        early.is_err(),
        "opened beside a transaction, or gave up: {:?}",
        early.map(|done| done.map(drop))
    );
    session.commit().await.unwrap();
    let store = opening.await.unwrap().expect("a mended table");
    let late = get(&*store, "/late").await.expect("the row of the transaction");
    assert_eq!((text(&late.value), late.mod_revision), ("late".to_owned(), Model::of(&shape).revision + 1));
    store.stop().await;
    let mut session = db.session().await.unwrap();
    assert!(kine::list(session.as_mut()).await.contains_key("/late"));
}
