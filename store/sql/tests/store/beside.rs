//! A kine that writes into the same table at the same time.

use std::sync::Arc;

use skiff_sql::SqlStore;
use skiff_store::conformance::support::*;
use skiff_store::watch::WatchItem;
use skiff_store::{Store, StoreExt};

use crate::base::Base;
use crate::kine::{self, Peer, Tombstones};
use crate::servers::{end_of, events_until, listed, replay, watch};

crate::on_each! { kine_writes_beside_us kine_compacts_what_we_have_not_seen }

/// Both write; each sees what the other wrote, in one order, whole.
async fn kine_writes_beside_us(base: Base) {
    let server = base.server().await;
    let mut watcher = watch(&server);
    let db = base.database().await;
    let mut peers = Vec::new();
    for peer in 0..2 {
        let session = db.session().await.unwrap();
        peers.push(tokio::spawn(async move {
            let tombstones = if peer == 0 { Tombstones::Full } else { Tombstones::Bare };
            let mut kine = Peer { session, tombstones };
            let mut written = 0;
            for i in 0..40 {
                let (own, shared) = (format!("/peer{peer}/{}", i % 5), format!("/shared/{}", i % 3));
                written += usize::from(kine.write(&own, Some(&i.to_string())).await);
                written += usize::from(kine.write(&shared, Some(&format!("of peer {i}"))).await);
                if i % 7 == 6 {
                    written += usize::from(kine.write(&own, None).await);
                }
            }
            written
        }));
    }
    let ours: Arc<SqlStore> = server.clone();
    let us = tokio::spawn(async move {
        for i in 0..60 {
            put(&*ours, &format!("/shared/{}", i % 3), &format!("of us {i}")).await;
            put(&*ours, &format!("/us/{}", i % 5), &i.to_string()).await;
        }
        120
    });
    let mut written = us.await.unwrap();
    for peer in peers {
        written += peer.await.unwrap();
    }
    let last = put(&*server, "/last", "").await;
    let events = events_until(&mut watcher, last).await;
    assert_eq!(events.len(), written + 1, "every change is one event");
    let state = replay(&events);
    assert_eq!(listed(&server).await, state);
    let mut session = db.session().await.unwrap();
    let seen = kine::list(session.as_mut()).await;
    let seen: Vec<_> = seen.into_iter().map(|(name, kv)| (name, kv.value, kv.mod_revision)).collect();
    let expected: Vec<_> =
        state.iter().map(|(key, (value, revision, _))| (text(key), value.to_vec(), *revision)).collect();
    assert_eq!(seen, expected);
    assert_eq!(server.status().revision, last);
    server.stop().await;
}

/// kine deletes, writes, and compacts, all before we look: no row tells of its
/// deletions, and what was left beside its rows is still there.
async fn kine_compacts_what_we_have_not_seen(base: Base) {
    let server = base.server().await;
    for key in ["/a", "/b", "/c", "/d"] {
        put(&*server, key, "ours").await;
    }
    // A revision of several keys has one row there.
    server.txn(txn_of(vec![op_put("/both/1", "ours"), op_put("/both/2", "ours")])).await.unwrap();
    let mut watcher = watch(&server);
    let last = put(&*server, "/beside\u{e9}", "ours").await;
    assert_eq!(replay(&events_until(&mut watcher, last).await).len(), 7);
    let mut session = base.database().await.session().await.unwrap();
    session.begin().await.unwrap();
    let mut kine = Peer { session, tombstones: Tombstones::Bare };
    for (key, value) in
        [("/a", Some("of kine")), ("/b", None), ("/both/1", None), ("/c", None), ("/c", Some("anew"))]
    {
        assert!(kine.write(key, value).await);
    }
    assert!(kine.write("/fresh", Some("of kine")).await);
    kine.remove_replaced(last + 5).await;
    kine.session.commit().await.unwrap();
    let expected = ["/a", "/beside\u{e9}", "/both/2", "/c", "/d", "/fresh"];
    assert_eq!(keys(&server.range(everything()).await.unwrap()), expected);
    assert!(matches!(end_of(&mut watcher).await, WatchItem::Compacted { .. }));
    assert_eq!(server.status().compact_revision, last + 5);
    let before = listed(&server).await;
    server.stop().await;
    let again = base.server().await;
    assert_eq!(listed(&again).await, before);
    again.stop().await;
}
