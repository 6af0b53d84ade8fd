//! What of kine's table is easily taken for something else.

use skiff_store::StoreExt;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::etcdserverpb::compare::{CompareResult, TargetUnion};

use crate::base::Base;
use crate::kine::{self, Row};

crate::on_each! {
    the_api_servers_compactor_goes_on the_newest_row_counts_whatever_it_is
}

const ROW: Row = Row {
    id: 0,
    name: std::borrow::Cow::Borrowed(""),
    created: false,
    deleted: false,
    create_revision: 0,
    prev_revision: 0,
    lease: 0,
    value: None,
    old_value: None,
};

async fn fill(base: &Base, rows: &[Row]) {
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    for sql in db.dialect().create_kine_table() {
        session.execute(&sql, &[]).await.unwrap();
    }
    kine::insert(session.as_mut(), rows).await;
}

/// What the API server's compactor does: it swaps its key by version.
fn swap(version: i64, value: &str) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: vec![compare("compact_rev_key", CompareResult::Equal, TargetUnion::Version(version))],
        success: vec![op_put("compact_rev_key", value)],
        failure: vec![op_get("compact_rev_key")],
    }
}

async fn the_api_servers_compactor_goes_on(base: Base) {
    let api = Row { name: "compact_rev_key_apiserver".into(), create_revision: 10, ..ROW };
    fill(
        &base,
        &[
            Row {
                id: 1,
                name: "compact_rev_key".into(),
                created: true,
                prev_revision: 30,
                value: Some("".into()),
                ..ROW
            },
            Row { id: 20, name: "/registry/a".into(), created: true, value: Some("a".into()), ..ROW },
            Row {
                id: 31,
                prev_revision: 25,
                value: Some("41|900".into()),
                old_value: Some("40|800".into()),
                ..api.clone()
            },
        ],
    )
    .await;
    let server = base.server().await;
    // A compactor that starts knows nothing, and learns the version.
    let first = server.txn(swap(0, "950")).await.unwrap();
    assert!(!first.succeeded);
    let found = &range_at(&first, 0).kvs[0];
    assert_eq!((found.version, text(&found.value)), (41, "900".to_owned()));
    assert_eq!((found.create_revision, found.mod_revision), (10, 31));
    let next = server.txn(swap(41, "950")).await.unwrap();
    assert!(next.succeeded);
    let ours = revision(&next.header);
    assert_eq!(get(&*server, "compact_rev_key").await.unwrap().version, 42);
    // A kine beside us goes on from what it reads in its row.
    let db = base.database().await;
    let listed = kine::list(db.session().await.unwrap().as_mut()).await;
    assert_eq!(listed["compact_rev_key_apiserver"].value, b"42|950");
    let theirs = Row {
        id: ours + 1,
        prev_revision: ours,
        value: Some("43|960".into()),
        old_value: Some("42|950".into()),
        ..api.clone()
    };
    kine::insert(db.session().await.unwrap().as_mut(), &[theirs]).await;
    assert_eq!(get(&*server, "compact_rev_key").await.unwrap().version, 43);
    assert!(server.txn(swap(43, "970")).await.unwrap().succeeded);
    server.stop().await;
    let again = base.server().await;
    let kv = get(&*again, "compact_rev_key").await.unwrap();
    assert_eq!((kv.version, text(&kv.value), kv.create_revision), (44, "970".to_owned(), 10));
    assert!(again.txn(swap(44, "980")).await.unwrap().succeeded);
    again.stop().await;
}

/// Deletions and gaps have ids as well: one that was taken for free would come
/// twice.
async fn the_newest_row_counts_whatever_it_is(base: Base) {
    fill(
        &base,
        &[
            Row { id: 1, name: "compact_rev_key".into(), created: true, value: Some("".into()), ..ROW },
            Row { id: 2, name: "/registry/a".into(), created: true, value: Some("a".into()), ..ROW },
            Row { id: 3, name: "/registry/b".into(), created: true, value: Some("b".into()), ..ROW },
            Row {
                id: 4,
                name: "/registry/b".into(),
                deleted: true,
                prev_revision: 3,
                old_value: Some("b".into()),
                ..ROW
            },
            Row { id: 5, name: "gap-5".into(), deleted: true, ..ROW },
        ],
    )
    .await;
    let server = base.server().await;
    let all = server.range(everything()).await.unwrap();
    let taken_later = super::number(base.database().await.as_ref(), "SELECT COUNT(*) FROM skiff_log").await;
    assert_eq!(taken_later, 0, "something was left to be taken over");
    assert_eq!((revision(&all.header), keys(&all)), (5, vec!["/registry/a".to_owned()]));
    assert_eq!(put(&*server, "/registry/b", "again").await, 6);
    let kv = get(&*server, "/registry/b").await.unwrap();
    assert_eq!((kv.create_revision, kv.version), (6, 1));
    server.stop().await;
}
