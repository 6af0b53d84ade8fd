//! The layer over the drivers, on each real database.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skiff_sql::db::{Database, DbErrorKind, DialectKind, PoolOptions, Session, Value, connect};
use skiff_sql::endpoint::{Endpoint, TlsFiles};
use support::{Disk, MariadbServer, PgBouncer, PostgresServer, Stop, TestDatabase, every_database};

async fn open(endpoint: &str, options: &PoolOptions) -> Arc<dyn Database> {
    let endpoint = Endpoint::parse(endpoint, TlsFiles::default()).expect("a good endpoint");
    connect(&endpoint, options).await.unwrap_or_else(|error| panic!("{endpoint}: {error}"))
}

/// The databases, each with a table `t` of an id, a number, a text and a blob.
async fn tables() -> Vec<(TestDatabase, Arc<dyn Database>)> {
    let all = tokio::task::spawn_blocking(every_database).await.expect("start the databases");
    let mut opened = Vec::new();
    for test in all {
        let database = open(&test.endpoint, &PoolOptions::default()).await;
        make_table(&*database).await;
        opened.push((test, database));
    }
    opened
}

async fn make_table(database: &dyn Database) {
    let (int, blob) = (database.dialect().bigint(), database.dialect().blob_type());
    let mut session = database.session().await.expect("a session");
    let table = format!("CREATE TABLE t (id {int} PRIMARY KEY, n {int}, name VARCHAR(100), value {blob})");
    session.execute(&table, &[]).await.expect("make the table");
}

async fn count(session: &mut dyn Session) -> i64 {
    let rows = session.query("SELECT COUNT(*) FROM t", &[]).await.expect("count");
    rows[0].int(0).expect("a number")
}

const INSERT: &str = "INSERT INTO t (id, n, name, value) VALUES (?, ?, ?, ?)";

fn row(id: i64) -> [Value; 4] {
    [Value::Int(id), Value::Null, Value::Null, Value::Null]
}

#[tokio::test]
async fn values_come_back_as_they_went() {
    for (test, database) in tables().await {
        let mut session = database.session().await.expect("a session");
        let binary: Bytes = (0..=255).collect();
        let rows = [
            [Value::Int(1), Value::Int(i64::MAX), "it's ? \u{e9}\u{1f40b}".into(), binary.clone().into()],
            [Value::Int(2), Value::Int(i64::MIN), "".into(), Bytes::new().into()],
            [Value::Int(3), Value::Null, Value::Null, Value::Null],
            [Value::Int(4), Value::Int(0), Value::Null, Bytes::from(vec![0; 3_000_000]).into()],
        ];
        for row in &rows {
            assert_eq!(session.execute(INSERT, row).await.expect("insert"), 1, "{}", test.kind);
        }
        let read = session.query("SELECT id, n, name, value FROM t ORDER BY id", &[]).await.expect("read");
        assert_eq!(read.len(), rows.len());
        for (read, wrote) in read.iter().zip(&rows) {
            // MySQL tells text of a binary collation and bytes not apart.
            let name = read.opt_text(2).expect("a text").map(str::to_owned);
            let read = [read.0[0].clone(), read.0[1].clone(), name.into(), read.0[3].clone()];
            assert!(read == *wrote, "{}: {read:?}", test.kind);
        }
        // A NULL and a number in the same place of the same statement.
        for (id, n) in [(5, Value::Null), (6, Value::Int(7)), (7, Value::Null)] {
            session
                .execute("INSERT INTO t (id, n) VALUES (?, ?)", &[Value::Int(id), n])
                .await
                .expect("insert");
        }
        let same =
            session.execute("UPDATE t SET n = 7 WHERE id = ?", &[Value::Int(6)]).await.expect("update");
        assert_eq!(same, 1, "{}: a row that stays as it is counts", test.kind);
        assert!(read[0].int(2).is_err() && read[0].int(9).is_err() && read[2].int(1).is_err());
    }
}

#[tokio::test]
async fn the_dialects_statements_run() {
    for (test, database) in tables().await {
        let dialect = database.dialect();
        let mut session = database.session().await.expect("a session");
        for _ in 0..2 {
            for statement in dialect.create_kine_table() {
                session
                    .execute(&statement, &[])
                    .await
                    .unwrap_or_else(|e| panic!("{}: {statement}: {e}", test.kind));
            }
        }
        let upsert = dialect.upsert("t", &["id"], &["n", "name"]);
        for n in [1, 2] {
            session.execute(&upsert, &[Value::Int(1), Value::Int(n), "x".into()]).await.expect("upsert");
        }
        let select = format!("SELECT n FROM t WHERE id = ?{}", dialect.for_update());
        session.begin().await.expect("begin");
        assert_eq!(session.query(&select, &[Value::Int(1)]).await.expect("read")[0].int(0).expect("n"), 2);
        session.commit().await.expect("commit");
        let now = format!("SELECT {}", dialect.now_millis());
        let now = session.query(&now, &[]).await.expect("the time")[0].int(0).expect("a number");
        let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let apart = now.abs_diff(i64::try_from(ours.as_millis()).expect("before the year 292277026"));
        assert!(apart < 600_000, "{}: {apart} ms apart", test.kind);
        let size = session.query(dialect.size_sql(), &[]).await.expect("the size")[0].int(0).expect("bytes");
        assert!(size > 0, "{}", test.kind);
        for statement in dialect.reclaim_sql("kine").iter().chain(&dialect.defragment_sql("kine")) {
            session
                .execute(statement, &[])
                .await
                .unwrap_or_else(|e| panic!("{}: {statement}: {e}", test.kind));
        }
    }
}

#[tokio::test]
async fn errors_have_their_kinds() {
    for (test, database) in tables().await {
        let mut session = database.session().await.expect("a session");
        session.execute(INSERT, &row(1)).await.expect("insert");
        let error = session.execute(INSERT, &row(1)).await.expect_err("a second row of that id");
        assert_eq!(error.kind(), DbErrorKind::UniqueViolation, "{}: {error}", test.kind);
        let error = session.query("SELECT * FROM nowhere", &[]).await.expect_err("no such table");
        assert_eq!(error.kind(), DbErrorKind::Missing, "{}: {error}", test.kind);
        let error = session.query("SELEC 1", &[]).await.expect_err("no SQL");
        assert_eq!(error.kind(), DbErrorKind::Other, "{}: {error}", test.kind);
        session.begin_snapshot().await.expect("begin");
        if database.dialect().kind() != DialectKind::Sqlite {
            let error = session.execute(INSERT, &row(2)).await.expect_err("read only");
            assert_eq!(error.kind(), DbErrorKind::ReadOnly, "{}: {error}", test.kind);
        }
    }
}

#[tokio::test]
async fn a_failed_statement_spoils_its_transaction() {
    for (test, database) in tables().await {
        let mut session = database.session().await.expect("a session");
        session.begin().await.expect("begin");
        session.execute(INSERT, &row(1)).await.expect("insert");
        session.execute(INSERT, &row(1)).await.expect_err("a second row of that id");
        session.commit().await.expect_err("nothing to commit");
        assert!(!session.in_transaction());
        assert_eq!(count(&mut *session).await, 0, "{}", test.kind);
        session.begin().await.expect("begin anew");
        session.execute(INSERT, &row(1)).await.expect("insert");
        session.commit().await.expect("commit");
        assert_eq!(count(&mut *session).await, 1, "{}", test.kind);
        session.commit().await.expect_err("no transaction is open");
    }
}

#[tokio::test]
async fn a_session_dropped_in_a_transaction_leaves_nothing() {
    let options = PoolOptions { max_open: 1, ..PoolOptions::default() };
    for (test, database) in tables().await {
        drop(database);
        let database = open(&test.endpoint, &options).await;
        let mut session = database.session().await.expect("a session");
        session.begin().await.expect("begin");
        session.execute(INSERT, &row(1)).await.expect("insert");
        drop(session);
        let mut session = database.session().await.expect("the only session again");
        assert!(!session.in_transaction());
        session.begin().await.expect("no transaction is open, no lock held");
        assert_eq!(count(&mut *session).await, 0, "{}", test.kind);
        // Given up half way, in the middle of a call.
        // A short one may be done before anybody looks.
        let long = match test.kind {
            "sqlite" => {
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000000) SELECT \
                 COUNT(*) FROM n"
            }
            "postgres" => "SELECT COUNT(*) FROM (SELECT pg_sleep(20)) AS long",
            _ => "SELECT SLEEP(20)",
        };
        let give_up = session.query(long, &[]);
        assert!(futures::FutureExt::now_or_never(give_up).is_none(), "{}", test.kind);
        let error = session.query("SELECT 1", &[]).await.expect_err("in the middle of another call");
        assert_eq!(error.kind(), DbErrorKind::ConnectionLost, "{}: {error}", test.kind);
        drop(session);
        let mut session = database.session().await.expect("the only session again");
        session.begin().await.expect("begin");
        assert_eq!(count(&mut *session).await, 0, "{}", test.kind);
    }
}

#[tokio::test]
async fn a_snapshot_sees_one_moment() {
    for (test, database) in tables().await {
        let mut reader = database.session().await.expect("a session");
        let mut writer = database.session().await.expect("another session");
        reader.begin_snapshot().await.expect("begin");
        assert_eq!(count(&mut *reader).await, 0, "{}", test.kind);
        writer.begin().await.expect("begin");
        writer.execute(INSERT, &row(1)).await.expect("insert");
        writer.commit().await.expect("commit");
        assert_eq!(count(&mut *reader).await, 0, "{}", test.kind);
        reader.commit().await.expect("commit");
        assert_eq!(count(&mut *reader).await, 1, "{}", test.kind);
    }
}

#[tokio::test]
async fn the_pool_has_its_limits() {
    let options =
        PoolOptions { max_open: 1, acquire_timeout: Duration::from_millis(50), ..PoolOptions::default() };
    for (test, database) in tables().await {
        drop(database);
        let database = open(&test.endpoint, &options).await;
        let held = database.session().await.expect("a session");
        let error = database.session().await.err().expect("the only session is lent");
        assert_eq!(error.kind(), DbErrorKind::Unreachable, "{}: {error}", test.kind);
        drop(held);
        drop(database.session().await.expect("it is back"));
        database.close().await;
        assert!(database.session().await.is_err(), "{}: closed", test.kind);
    }
}

#[tokio::test]
async fn postgres_notifies_on_commit() {
    let test = tokio::task::spawn_blocking(support::postgres).await.expect("start postgres");
    let database = open(&test.endpoint, &PoolOptions::default()).await;
    let mut listener = database.listen("changes").await.expect("listen").expect("Postgres has it");
    let notify = database.dialect().notify_sql().expect("Postgres has it");
    let mut session = database.session().await.expect("a session");
    session.begin().await.expect("begin");
    session.query(notify, &["changes".into(), "1".into()]).await.expect("notify");
    session.rollback().await.expect("roll back");
    session.begin().await.expect("begin");
    session.query(notify, &["changes".into(), "2".into()]).await.expect("notify");
    session.commit().await.expect("commit");
    let got = tokio::time::timeout(Duration::from_secs(30), listener.next()).await.expect("it comes");
    assert_eq!(got.expect("a notification"), "2", "what is rolled back tells nobody");
    // Its session is ended by the administrator.
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    session.query(end, &[]).await.expect("end its session");
    let got = tokio::time::timeout(Duration::from_secs(30), listener.next()).await.expect("it is told");
    got.expect_err("notifications may have been missed");
    let sqlite = support::sqlite();
    assert!(
        open(&sqlite.endpoint, &PoolOptions::default()).await.listen("x").await.expect("asked").is_none()
    );
}

/// Restarts under an open transaction: the session is lost, a new one works.
async fn survives(database: &dyn Database, restart: impl FnOnce() + Send + 'static) {
    make_table(database).await;
    let mut session = database.session().await.expect("a session");
    session.execute(INSERT, &row(1)).await.expect("insert");
    session.begin().await.expect("begin");
    session.execute(INSERT, &row(2)).await.expect("insert");
    tokio::task::spawn_blocking(restart).await.expect("restart the server");
    let error = session.commit().await.expect_err("the connection is gone");
    assert_eq!(error.kind(), DbErrorKind::ConnectionLost, "{error}");
    drop(session);
    let mut session = database.session().await.expect("a new connection");
    assert_eq!(count(&mut *session).await, 1);
}

#[tokio::test]
async fn a_restarted_postgres_is_found_again() {
    for how in [Stop::Kill, Stop::Orderly] {
        let start = tokio::task::spawn_blocking(|| PostgresServer::start(Disk::Relaxed));
        let mut server = start.await.expect("start postgres");
        let endpoint = server.endpoint("kubernetes");
        let database = open(&endpoint, &PoolOptions::default()).await;
        survives(&*database, move || {
            server.restart(how);
            // Kept running until the process ends.
            std::mem::forget(server);
        })
        .await;
    }
}

#[tokio::test]
async fn a_restarted_mariadb_is_found_again() {
    let start = tokio::task::spawn_blocking(|| MariadbServer::start(Disk::Relaxed));
    let mut server = start.await.expect("start mariadb");
    let endpoint = server.endpoint("kubernetes");
    let database = open(&endpoint, &PoolOptions::default()).await;
    survives(&*database, move || {
        server.restart(Stop::Kill);
        std::mem::forget(server);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_had_is_said_without_the_password() {
    let start = tokio::task::spawn_blocking(|| PostgresServer::start(Disk::Relaxed));
    let mut server = start.await.expect("start postgres");
    let good = server.endpoint("kubernetes");
    let cases = [
        (good.replace(":postgres@", ":hunter2@"), DbErrorKind::Denied),
        (good.replace(&server.port.to_string(), &support::free_port().to_string()), DbErrorKind::Unreachable),
    ];
    for (endpoint, kind) in cases {
        let endpoint = Endpoint::parse(&endpoint, TlsFiles::default()).expect("a good endpoint");
        let error = connect(&endpoint, &PoolOptions::default()).await.err().expect("no connection");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(!format!("{error:?} {error} {endpoint:?} {endpoint}").contains("hunter2"), "{error}");
    }
    let database = open(&good, &PoolOptions::default()).await;
    tokio::task::spawn_blocking(move || server.stop(Stop::Kill)).await.expect("stop it");
    let mut lost = database.session().await.expect("one that was idle");
    let error = lost.query("SELECT 1", &[]).await.expect_err("the server is gone");
    assert_eq!(error.kind(), DbErrorKind::ConnectionLost, "{error}");
    let error = database.session().await.err().expect("the server is gone");
    assert_eq!(error.kind(), DbErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn pgbouncer_in_transaction_mode_is_noticed() {
    let start = tokio::task::spawn_blocking(|| {
        let server = PostgresServer::start(Disk::Relaxed);
        let bouncer = PgBouncer::start(&server);
        (server, bouncer)
    });
    let (server, bouncer) = start.await.expect("start postgres and pgbouncer");
    drop(open(&server.endpoint("kubernetes"), &PoolOptions::default()).await);
    let database = open(&bouncer.endpoint("kubernetes"), &PoolOptions::default()).await;
    assert!(database.listen("x").await.expect("asked").is_none(), "noticed");
    make_table(&*database).await;
    // Many clients with different statements over few sessions of the server.
    let mut tasks = Vec::new();
    for client in 0..30_i64 {
        let database = database.clone();
        tasks.push(tokio::spawn(async move {
            let mut session = database.session().await.expect("a session");
            for round in 0..10 {
                let id = Value::Int(client * 100 + round);
                session
                    .execute(INSERT, &[id.clone(), Value::Int(round), Value::Null, Value::Null])
                    .await
                    .expect("insert");
                let sql = format!("SELECT n + {client} FROM t WHERE id = ?");
                let rows = session.query(&sql, &[id]).await.expect("read");
                assert_eq!(rows[0].int(0).expect("a number"), round + client);
            }
        }));
    }
    for task in tasks {
        task.await.expect("a client");
    }
    drop(server);
}
