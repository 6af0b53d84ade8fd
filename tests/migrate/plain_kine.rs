//! A database that only kine has written to.

use skiff_sql::db::{self, PoolOptions, Value};
use skiff_sql::endpoint::{Endpoint, TlsFiles};
use skiff_test_support::pb::etcdserverpb::*;

use crate::migrated;
use crate::observe::{look, put, range};
use crate::places::{Kind, Place};

/// Tables that kine does not have.
const OURS: [&str; 7] =
    ["skiff_head", "skiff_log", "skiff_state", "skiff_lease", "skiff_version", "skiff_row", "skiff_progress"];

/// Only kine's table is there, with rows as kine writes them, ids left out, and
/// a compaction: everything that kine knows arrives, and the source still has
/// but that one table.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_kine_is_moved_and_not_touched() {
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::Mariadb] {
        let mut origin = Place::empty(kind).await;
        let client = origin.client().await;
        for n in 0..30 {
            client.put(put(format!("/registry/{}", n % 12), format!("{n}"), 0)).await.expect("a put");
        }
        let deletion = DeleteRangeRequest { key: "/registry/3".into(), ..Default::default() };
        client.delete_range(deletion).await.expect("a deletion");
        client.lease_grant(LeaseGrantRequest { ttl: 3600, id: 3600 }).await.expect("a lease");
        client.put(put("/registry/leased", "x", 3600)).await.expect("a put");
        let expected = look(&client, 20).await;
        origin.rest().await;
        let endpoint = Endpoint::parse(&origin.name, TlsFiles::default()).expect("an endpoint");
        let db = db::connect(&endpoint, &PoolOptions::default()).await.expect("a database");
        let mut session = db.session().await.expect("a session");
        for table in OURS {
            session.execute(&format!("DROP TABLE {table}"), &[]).await.expect("it is dropped");
        }
        // Two ids whose transactions were rolled back, and kine's next row.
        let sql = "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, \
                   old_value) VALUES (?, ?, 1, 0, 0, 0, 0, ?, NULL)";
        let next = expected.revision + 3;
        let row = [Value::Int(next), Value::Text("/registry/late".into()), Value::Bytes("y"[..].into())];
        session.execute(sql, &row).await.expect("a row");
        for to in [Kind::Snapshot, Kind::Postgres, Kind::Etcd, Kind::DataDir] {
            let mut target = Place::filled(to, &origin).await;
            let client = target.client().await;
            let seen = look(&client, expected.revision + 2).await;
            assert_eq!(seen.revision, next, "{kind:?} to {to:?}");
            let old: Vec<_> =
                seen.pairs.iter().filter(|kv| kv.mod_revision <= expected.revision).cloned().collect();
            assert_eq!(old, expected.pairs, "{kind:?} to {to:?}");
            assert_eq!(seen.leases, expected.leases, "{kind:?} to {to:?}");
            let before = RangeRequest { revision: 20, ..range(b"/", b"0") };
            let before = client.range(before).await.expect("the past").kvs;
            assert!(before.iter().any(|kv| kv.key == "/registry/3" && kv.version == 2), "{before:?}");
            target.rest().await;
        }
        for table in OURS {
            let asked = session.query(&format!("SELECT * FROM {table}"), &[]).await;
            asked.expect_err("a table was added to the source");
        }
        drop(session);
        db.close().await;
        // And kine's own database is a place to go back to.
        let snapshot = Place::filled(Kind::Snapshot, &origin).await;
        let mut back = Place::filled(kind, &snapshot).await;
        assert_eq!(look(&back.client().await, next - 1).await.revision, next);
        back.rest().await;
        let dry = migrated(&origin.name, &back.name, &["--dry-run"]).ok();
        assert!(dry.contains("\"keys\""), "{dry}");
    }
}
