//! Every table that a kine may have left, on every database: taken over, mended,
//! written, given back to a kine, and taken over again.

use std::sync::Arc;

use skiff_sql::db::{Dialect, DialectKind};
use skiff_sql::{SqlConfig, SqlStore};
use skiff_store::StoreExt;
use skiff_store::clock::SystemClock;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;
use tokio::task::JoinSet;

use super::model::{Model, State};
use super::shapes::{self, Shape};
use super::{history, served};
use crate::base::{Base, Kind};
use crate::kine::{self, Peer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sqlite() {
    every_shape(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_postgres() {
    every_shape(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_mariadb() {
    every_shape(Kind::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_mysql() {
    every_shape(Kind::MySql).await;
}

async fn every_shape(kind: Kind) {
    let mut tests = JoinSet::new();
    for shape in shapes::of(kind) {
        let (Some(refused), Some(mended)) = (Base::new(kind).await, Base::new(kind).await) else { return };
        tests.spawn(async move {
            refused_until_mended(&refused, shape).await;
            mended_and_given_back(&mended, shape).await;
        });
    }
    while let Some(done) = tests.join_next().await {
        done.expect("a shape");
    }
}

/// Makes the table, with what its kine wrote.
pub(super) async fn make(base: &Base, shape: &Shape) {
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    for sql in shape.create() {
        session.execute(&sql, &[]).await.unwrap_or_else(|error| panic!("{}: {error}", shape.versions));
    }
    kine::insert(session.as_mut(), &history::rows(shape)).await;
    if db.dialect().kind() == DialectKind::Postgres {
        let sql = "SELECT setval(pg_get_serial_sequence('kine', 'id'), (SELECT MAX(id) FROM kine))";
        session.query(sql, &[]).await.unwrap();
    }
}

pub(super) async fn open(base: &Base, migrate_schema: bool) -> skiff_store::Result<Arc<SqlStore>> {
    let config = SqlConfig { migrate_schema, ..SqlConfig::default() };
    SqlStore::open(base.database().await, config, Arc::new(SystemClock::default())).await
}

/// The statements that a refusal tells to run.
fn told(refusal: &str) -> Vec<&str> {
    let runs = refusal.split("(run: ").skip(1).filter_map(|rest| rest.split_once(");"));
    runs.flat_map(|(statements, _)| statements.split("; ")).collect()
}

/// Opens as it is, or is refused with statements after which it opens.
async fn refused_until_mended(base: &Base, shape: &Shape) {
    make(base, shape).await;
    let of = shape.versions;
    let store = match open(base, false).await {
        Ok(store) => {
            assert_eq!(shape.mended_by, 0, "{of}: nothing was found");
            store
        }
        Err(error) => {
            let refusal = error.to_string();
            let statements = told(&refusal);
            assert_eq!(statements.len(), shape.mended_by, "{of}: {refusal}");
            let db = base.database().await;
            let mut session = db.session().await.unwrap();
            for sql in statements {
                session.execute(sql, &[]).await.unwrap_or_else(|error| panic!("{of}: {sql}: {error}"));
            }
            open(base, false).await.unwrap_or_else(|error| panic!("{of}, mended by hand: {error}"))
        }
    };
    served::check(&store, &Model::of(shape), of).await;
    store.stop().await;
}

/// Repaired at the start, written by us, by a kine of those days, by us.
async fn mended_and_given_back(base: &Base, shape: &Shape) {
    make(base, shape).await;
    let of = shape.versions;
    let mut model = Model::of(shape);
    let store = open(base, true).await.unwrap_or_else(|error| panic!("{of}: {error}"));
    served::check(&store, &model, of).await;
    write(&store, &mut model).await;
    served::check(&store, &model, &format!("{of}, written by us")).await;
    let again = restart(base, store, of).await;
    served::check(&again, &model, &format!("{of}, started again")).await;
    again.stop().await;
    kine_goes_on(base, shape, &mut model).await;
    let back = open(base, false).await.unwrap_or_else(|error| panic!("{of}, given back: {error}"));
    // It follows what the kine did with the first request.
    assert_eq!(served::state(&back).await, model.state(), "{of}, given back");
    served::check(&back, &model, &format!("{of}, taken over again")).await;
    write(&back, &mut model).await;
    let last = restart(base, back, of).await;
    served::check(&last, &model, &format!("{of}, in the end")).await;
    last.stop().await;
}

/// Puts, deletions, keys that the old table confused or could not hold; and a
/// compaction.
async fn write(store: &SqlStore, model: &mut Model) {
    let long = "k".repeat(700);
    let value = "v".repeat(100_000);
    let puts = [
        ("/registry/a", "a4"),
        ("/registry/pad ", "p5"),
        ("/registry/pad", "p6"),
        ("/registry/c", "c2"),
        ("/registry/roles/Foo", "F"),
        ("/registry/roles/foo", "f"),
        ("/registry/roles/bar", "r"),
        ("/registry/\u{e4}\u{f6}", "u3"),
        ("/registry/\u{fc}", "u4"),
        ("12", "n3"),
        ("007", "n4"),
        ("1.50", "n5"),
        (long.as_str(), "long"),
        ("/registry/large", value.as_str()),
    ];
    for (key, value) in puts {
        model.put(key, value, 0);
        assert_eq!(put(store, key, value).await, model.revision, "{key}");
    }
    for key in ["/registry/b", "/registry/\u{e4}\u{f6}", "/registry/pad ", "12", "/registry/roles/foo"] {
        model.delete(key);
        assert_eq!(delete(store, key).await, model.revision, "{key}");
    }
    model.put("compact_rev_key", "40", 0);
    put(store, "compact_rev_key", "40").await;
    let through = model.revision;
    model.put("/registry/a", "a5", 0);
    put(store, "/registry/a", "a5").await;
    compact(store, through, true).await;
    model.compact(through);
}

/// Stops a store and opens it again: nothing is different then.
async fn restart(base: &Base, store: Arc<SqlStore>, of: &str) -> Arc<SqlStore> {
    let before = (served::state(&store).await, hash(&store).await);
    store.stop().await;
    let again = open(base, false).await.unwrap_or_else(|error| panic!("{of}, again: {error}"));
    assert_eq!((served::state(&again).await, hash(&again).await), before, "{of}: after a restart");
    again
}

async fn hash(store: &SqlStore) -> u32 {
    store.hash_kv(pb::HashKvRequest { revision: 0 }).await.expect("a hash").hash
}

/// The keys of a state that a kine sees.
fn seen_by_kine(state: State, dialect: &dyn Dialect) -> State {
    state.into_iter().filter(|(key, _)| dialect.can_store_name(key.as_bytes()).is_some()).collect()
}

/// A kine lists what is there, writes, and compacts.
async fn kine_goes_on(base: &Base, shape: &Shape, model: &mut Model) {
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    let mut listed = kine::list(session.as_mut()).await;
    if let Some(own) = listed.remove("compact_rev_key_apiserver") {
        listed.insert("compact_rev_key".to_owned(), kine::Listed { value: b"40".to_vec(), ..own });
    }
    listed.retain(|name, _| db.dialect().can_store_name(name.as_bytes()).is_some());
    let seen: Vec<_> = listed
        .into_iter()
        .map(|(name, kv)| (name, text(&kv.value), kv.create_revision, kv.mod_revision))
        .collect();
    let expected: Vec<_> = seen_by_kine(model.state(), db.dialect())
        .into_iter()
        .map(|(name, pair)| (name, pair.value, pair.create_revision, pair.mod_revision))
        .collect();
    assert_eq!(seen, expected, "{}: what kine lists", shape.versions);
    let since = model.revision;
    let mut peer = Peer { session, tombstones: shape.tombstones };
    let writes = [
        ("/registry/a", Some("of kine")),
        ("/registry/a", Some("of kine again")),
        ("/registry/c", None),
        ("/registry/roles/foo", Some("of kine")),
        ("/registry/fresh", Some("1")),
        ("/registry/Z", None),
        ("/registry/Z", Some("anew")),
        ("/registry/~", None),
    ];
    for (key, value) in writes {
        assert!(peer.write(key, value).await, "{}: {key}", shape.versions);
        match value {
            Some(value) => model.put(key, value, 0),
            None => model.delete(key),
        }
    }
    peer.compact(model.revision).await;
    model.compact(model.revision);
    model.forget_versions(since);
    model.lose("/registry/x-y");
    assert!(peer.write("/registry/b", Some("b of kine")).await);
    model.put("/registry/b", "b of kine", 0);
}
