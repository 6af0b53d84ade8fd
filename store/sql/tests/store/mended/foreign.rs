//! A kine beside us that compacts.

use skiff_sql::SqlStore;
use skiff_sql::db::{Database, Session, Value};
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::watch::WatchItem;
use skiff_store::{ApiError, Store, StoreExt};

use super::until;
use crate::base::Base;
use crate::kine::{self, Peer, Row};
use crate::servers::{listed, watch};

crate::on_each! {
    a_compaction_of_kine_is_noticed a_compaction_of_kine_is_noticed_at_the_start
    what_kine_wrote_and_compacted_unseen_is_taken_over
}

/// Compacts as kine does it.
async fn kine_compacts(session: &mut dyn Session, through: i64) {
    let sql = "SELECT prev_revision FROM kine WHERE name <> 'compact_rev_key' AND prev_revision <> 0 AND id \
               <= ? UNION SELECT id FROM kine WHERE deleted <> 0 AND id <= ?";
    let rows = session.query(sql, &[Value::Int(through), Value::Int(through)]).await.unwrap();
    for row in rows {
        let id = Value::Int(row.int(0).unwrap());
        session.execute("DELETE FROM kine WHERE id = ?", &[id]).await.unwrap();
    }
    let sql = "UPDATE kine SET prev_revision = ? WHERE name = 'compact_rev_key'";
    session.execute(sql, &[Value::Int(through)]).await.unwrap();
}

async fn kine_compacts_alone(db: &dyn Database, through: i64) {
    let mut session = db.session().await.unwrap();
    session.begin().await.unwrap();
    kine_compacts(session.as_mut(), through).await;
    session.commit().await.unwrap();
}

/// kine writes and compacts what no server of ours can have seen: in one moment.
pub(super) async fn goes_on_alone(kine: &mut Peer) {
    kine.session.begin().await.unwrap();
    for round in 0..3 {
        assert!(kine.write("kines", Some(&round.to_string())).await);
    }
    let newest = kine.session.query("SELECT MAX(id) FROM kine", &[]).await.unwrap()[0].int(0).unwrap();
    kine_compacts(kine.session.as_mut(), newest).await;
    kine.session.commit().await.unwrap();
}

async fn assert_compacted(server: &SqlStore, revision: i64) {
    let read = server.range(pb::RangeRequest { revision, ..everything() }).await;
    assert_error(read, ApiError::Compacted);
}

async fn a_compaction_of_kine_is_noticed(base: Base) {
    let (one, other) = (base.server().await, base.server().await);
    for i in 0..10 {
        put(&*one, "a", &i.to_string()).await;
    }
    kine_compacts_alone(base.database().await.as_ref(), 8).await;
    for server in [&one, &other] {
        until("the compaction is known", async || server.status().compact_revision == 8).await;
        assert_compacted(server, 7).await;
        let read = server.range(pb::RangeRequest { revision: 8, ..everything() }).await.unwrap();
        assert_eq!(text(&read.kvs[0].value), "6");
    }
    let hash = pb::HashKvRequest { revision: 11 };
    let (ours, theirs) = (one.hash_kv(hash).await.unwrap(), other.hash_kv(hash).await.unwrap());
    assert_eq!((ours.hash, ours.compact_revision), (theirs.hash, 8));
    // We compact from there, and the row that kine looks at does not go back.
    assert_error(
        one.compact(pb::CompactionRequest { revision: 8, physical: false }).await,
        ApiError::Compacted,
    );
    compact(&*other, 10, true).await;
    one.stop().await;
    other.stop().await;
    let again = base.server().await;
    assert_eq!(again.status().compact_revision, 10);
    assert_eq!(put(&*again, "a", "").await, 12);
    again.stop().await;
}

async fn a_compaction_of_kine_is_noticed_at_the_start(base: Base) {
    let server = base.server().await;
    for i in 0..10 {
        put(&*server, "a", &i.to_string()).await;
    }
    server.stop().await;
    kine_compacts_alone(base.database().await.as_ref(), 8).await;
    let again = base.server().await;
    assert_eq!(again.status().compact_revision, 8);
    assert_compacted(&again, 5).await;
    let read = again.range(pb::RangeRequest { revision: 9, ..everything() }).await.unwrap();
    assert_eq!(text(&read.kvs[0].value), "7");
    again.stop().await;
}

/// kine wrote, and compacted what it wrote, between two looks of ours: a deletion
/// is gone that no replica has seen.
async fn what_kine_wrote_and_compacted_unseen_is_taken_over(base: Base) {
    let (one, other) = (base.server().await, base.server().await);
    put(&*one, "a", "1").await;
    put(&*other, "b", "1").await;
    let mut watcher = watch(&one);
    until("both are there", async || one.status().revision == 3 && other.status().revision == 3).await;
    let row = Row {
        id: 0,
        name: "b".into(),
        created: false,
        deleted: false,
        create_revision: 0,
        prev_revision: 0,
        lease: 0,
        value: Some("of kine".into()),
        old_value: None,
    };
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    session.begin().await.unwrap();
    let rows = [
        Row { id: 4, name: "a".into(), deleted: true, prev_revision: 2, value: None, ..row.clone() },
        Row { id: 5, name: "y".into(), created: true, ..row.clone() },
        Row { id: 6, name: "y".into(), create_revision: 5, prev_revision: 5, lease: 500, ..row.clone() },
        Row { id: 7, create_revision: 3, prev_revision: 3, ..row.clone() },
        Row { id: 8, name: "z".into(), created: true, ..row.clone() },
    ];
    kine::insert(session.as_mut(), &rows).await;
    kine_compacts(session.as_mut(), 7).await;
    session.commit().await.unwrap();
    drop(session);
    for server in [&one, &other] {
        let found = server.range(everything()).await.unwrap();
        assert_eq!(keys(&found), ["b", "y", "z"]);
        let revisions: Vec<_> = found.kvs.iter().map(|kv| (kv.create_revision, kv.mod_revision)).collect();
        assert_eq!(revisions, [(3, 7), (5, 6), (8, 8)]);
        assert_eq!(revision(&found.header), 8);
        assert_eq!(server.status().compact_revision, 7);
        assert_eq!(found.kvs[1].lease, 500);
    }
    // A watcher that would have to be told of what is gone is told that it is.
    let cancelled = async {
        loop {
            match watcher.next().await {
                Some(WatchItem::Events { events, .. }) => {
                    assert!(events.iter().all(|event| { event.kv.as_ref().unwrap().mod_revision <= 3 }))
                }
                other => return other,
            }
        }
    };
    let ended = tokio::time::timeout(DEADLINE, cancelled).await.expect("the watch ends");
    assert!(matches!(ended, Some(WatchItem::Compacted { .. })), "{ended:?}");
    assert!((490..=500).contains(&time_to_live(&*other, 500).await.ttl));
    assert_eq!(put(&*other, "b", "2").await, 9);
    let state = listed(&one).await;
    assert_eq!(listed(&other).await, state);
    one.stop().await;
    other.stop().await;
    let again = base.server().await;
    assert_eq!(listed(&again).await, state);
    again.stop().await;
}
