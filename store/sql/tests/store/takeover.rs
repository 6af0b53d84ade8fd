//! Databases that kine left: taken over where they are, and left readable.

mod history;
mod model;
mod online;
mod served;
mod shapes;
mod tables;

use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::{Store, StoreExt};

use crate::base::Base;
use crate::kine::{self, Listed, Row, Tombstones};
use crate::servers::{events_until, watch};

crate::on_each! { a_table_of_kine_is_taken_over kine_reads_what_we_wrote }

/// A history with everything that versions 0.6 to 0.16 leave behind: gaps
/// filled and not, deletions of both styles, a compaction, leases, the API
/// server's own key.
fn history() -> Vec<Row> {
    let created = |id, name: &'static str, value: &'static str| Row {
        id,
        name: name.into(),
        created: true,
        value: Some(value.into()),
        ..Row::default()
    };
    vec![
        // The compacted revision is 6: rows 3 and 4 are gone.
        Row { prev_revision: 6, ..created(1, "compact_rev_key", "") },
        created(2, "/registry/health", r#"{"health":"true"}"#),
        Row {
            id: 5,
            name: "/registry/a".into(),
            create_revision: 3,
            prev_revision: 3,
            value: Some("a2".into()),
            old_value: Some("a1".into()),
            ..Row::default()
        },
        created(6, "/registry/b", "b1"),
        Row { id: 7, name: "gap-7".into(), deleted: true, ..Row::default() },
        // Until 0.15 a deletion keeps the value, since 0.16 it does not.
        Row {
            id: 8,
            name: "/registry/b".into(),
            deleted: true,
            create_revision: 6,
            prev_revision: 6,
            value: Some("b1".into()),
            old_value: Some("b1".into()),
            ..Row::default()
        },
        Row { prev_revision: 8, ..created(9, "/registry/b", "b2") },
        Row { lease: 3600, ..created(10, "/registry/events/e", "event") },
        Row {
            id: 11,
            name: "/registry/a".into(),
            create_revision: 3,
            prev_revision: 5,
            value: Some("a3".into()),
            old_value: Some("a2".into()),
            ..Row::default()
        },
        created(12, "/registry/c", "c1"),
        Row {
            id: 13,
            name: "/registry/c".into(),
            deleted: true,
            prev_revision: 12,
            old_value: Some("c1".into()),
            ..Row::default()
        },
        created(14, "compact_rev_key_apiserver", "1|6"),
        // 15 was never used: a transaction of kine that was rolled back.
        created(16, "/registry/d", "d1"),
    ]
}

async fn fill(base: &Base) {
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    for sql in db.dialect().create_kine_table() {
        session.execute(&sql, &[]).await.unwrap();
    }
    kine::insert(session.as_mut(), &history()).await;
}

async fn a_table_of_kine_is_taken_over(base: Base) {
    fill(&base).await;
    // Two servers that find it at once.
    let (server, other) = tokio::join!(base.server(), base.server());
    let all = server.range(everything()).await.unwrap();
    assert_eq!(revision(&all.header), 16);
    let found: Vec<_> = all
        .kvs
        .iter()
        .map(|kv| (text(&kv.key), text(&kv.value), kv.create_revision, kv.mod_revision, kv.version, kv.lease))
        .collect();
    let expected = [
        ("/registry/a", "a3", 3, 11, 3, 0),
        ("/registry/b", "b2", 9, 9, 1, 0),
        ("/registry/d", "d1", 16, 16, 1, 0),
        ("/registry/events/e", "event", 10, 10, 1, 3600),
        ("/registry/health", r#"{"health":"true"}"#, 2, 2, 1, 0),
        ("compact_rev_key", "6", 14, 14, 1, 0),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(k, v, c, m, n, l)| (k.to_string(), v.to_string(), *c, *m, *n, *l)).collect();
    assert_eq!(found, expected);
    assert_eq!(other.range(everything()).await.unwrap().kvs, all.kvs);
    assert_eq!(server.status().compact_revision, 6);
    // History is there, from the compaction on.
    let then = server.range(pb::RangeRequest { revision: 8, ..everything() }).await.unwrap();
    assert_eq!(keys(&then), ["/registry/a", "/registry/health"]);
    let mut watcher = server.watch(skiff_store::watch::WatchSpec {
        key: "/registry/".into(),
        range_end: "/registry0".into(),
        start_revision: 9,
        prev_kv: true,
        ..Default::default()
    });
    let events = events_until(&mut watcher, 16).await;
    let revisions: Vec<_> = events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect();
    assert_eq!(revisions, [9, 10, 11, 12, 13, 16]);
    // The lease has its time again, and everything goes on.
    assert!((3590..=3600).contains(&time_to_live(&*server, 3600).await.ttl));
    assert_eq!(put(&*server, "/registry/c", "c2").await, 17);
    assert_eq!(delete(&*other, "/registry/d").await, 18);
    compact(&*server, 17, true).await;
    assert_eq!(get(&*other, "/registry/c").await.unwrap().version, 1);
    server.stop().await;
    other.stop().await;
}

/// What we wrote is what kine lists, and its next ids are free.
async fn kine_reads_what_we_wrote(base: Base) {
    fill(&base).await;
    let server = base.server().await;
    let mut watcher = watch(&server);
    put(&*server, "/registry/a", "a4").await;
    delete(&*server, "/registry/b").await;
    put(&*server, "/registry/b", "b3").await;
    put(&*server, "/registry/new", "n1").await;
    let last = put(&*server, "compact_rev_key", "9").await;
    // It was compacted at 6: a watch from the beginning says so.
    assert!(matches!(watcher.next().await, Some(skiff_store::watch::WatchItem::Compacted { .. })));
    compact(&*server, last - 1, true).await;
    let expected: Vec<_> = server
        .range(everything())
        .await
        .unwrap()
        .kvs
        .into_iter()
        .filter(|kv| kv.key != "compact_rev_key")
        .map(|kv| {
            let listed = Listed {
                value: kv.value.to_vec(),
                create_revision: kv.create_revision,
                mod_revision: kv.mod_revision,
            };
            (text(&kv.key), listed)
        })
        .collect();
    server.stop().await;
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    let mut seen = kine::list(session.as_mut()).await;
    let api_server = seen.remove("compact_rev_key_apiserver").unwrap();
    assert_eq!(api_server.value, b"2|9");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    let mut peer = kine::Peer { session, tombstones: Tombstones::Bare };
    assert!(peer.write("/registry/a", Some("of kine")).await);
    assert!(peer.write("/registry/b", None).await);
    assert!(peer.write("/registry/fresh", Some("of kine")).await);
    // And we come back to what kine did.
    drop(peer);
    let again = base.server().await;
    assert_eq!(text(&get(&*again, "/registry/a").await.unwrap().value), "of kine");
    assert!(get(&*again, "/registry/b").await.is_none());
    assert_eq!(get(&*again, "/registry/fresh").await.unwrap().mod_revision, last + 3);
    again.stop().await;
}
