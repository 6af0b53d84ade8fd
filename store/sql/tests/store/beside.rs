//! A kine that writes into the same table at the same time.

use std::sync::Arc;

use skiff_sql::SqlStore;
use skiff_store::Store;
use skiff_store::conformance::support::*;

use crate::base::Base;
use crate::kine::{self, Peer};
use crate::servers::{events_until, listed, replay, watch};

crate::on_each! { kine_writes_beside_us }

/// Both write; each sees what the other wrote, in one order, whole.
async fn kine_writes_beside_us(base: Base) {
    let server = base.server().await;
    let mut watcher = watch(&server);
    let db = base.database().await;
    let mut peers = Vec::new();
    for peer in 0..2 {
        let session = db.session().await.unwrap();
        peers.push(tokio::spawn(async move {
            let mut kine = Peer { session };
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
