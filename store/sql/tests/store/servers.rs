//! Several servers on one database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use skiff_sql::SqlStore;
use skiff_sql::db::Value;
use skiff_store::conformance::support::*;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::mvccpb::Event;
use skiff_store::pb::skiff::v1::StoredState;
use skiff_store::watch::{WatchItem, WatchSpec, Watcher};
use skiff_store::{Store, StoreExt};

use crate::base::Base;

crate::on_each! {
    revisions_are_one_order leases_belong_to_all a_restart_keeps_everything
    a_server_that_is_too_far_behind_starts_anew
}

/// Watches everything from the beginning.
pub(crate) fn watch(store: &SqlStore) -> Watcher {
    store.watch(WatchSpec {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: 1,
        prev_kv: true,
        ..Default::default()
    })
}

/// Every event up to a revision.
pub(crate) async fn events_until(watcher: &mut Watcher, revision: i64) -> Vec<Event> {
    let mut all = Vec::new();
    let collect = async {
        loop {
            match watcher.next().await {
                Some(WatchItem::Events { revision: through, events }) => {
                    all.extend(events);
                    if through >= revision {
                        return;
                    }
                }
                other => panic!("the watch ended: {other:?}"),
            }
        }
    };
    tokio::time::timeout(DEADLINE, collect).await.expect("events in time");
    all
}

/// What ends a watch; no events before it are awaited.
pub(crate) async fn end_of(watcher: &mut Watcher) -> WatchItem {
    tokio::time::timeout(DEADLINE, watcher.next()).await.expect("an item in time").expect("an item")
}

/// Checks that events are whole and in order, and what they lead to.
pub(crate) fn replay(events: &[Event]) -> BTreeMap<Bytes, (Bytes, i64, i64)> {
    let mut state: BTreeMap<Bytes, (Bytes, i64, i64)> = BTreeMap::new();
    let mut last = 0;
    for event in events {
        let kv = event.kv.as_ref().expect("a pair");
        assert!(kv.mod_revision >= last, "{} after {last}", kv.mod_revision);
        last = kv.mod_revision;
        let before = if event.r#type == 1 {
            state.remove(&kv.key)
        } else {
            state.insert(kv.key.clone(), (kv.value.clone(), kv.mod_revision, kv.version))
        };
        let told = event.prev_kv.as_ref().map(|kv| (kv.value.clone(), kv.mod_revision, kv.version));
        assert_eq!(told, before, "what was before {kv:?}");
    }
    state
}

/// The key space as a server lists it.
pub(crate) async fn listed(store: &SqlStore) -> BTreeMap<Bytes, (Bytes, i64, i64)> {
    let all = store.range(everything()).await.expect("a list");
    all.kvs.into_iter().map(|kv| (kv.key, (kv.value, kv.mod_revision, kv.version))).collect()
}

/// Adds one to a counter, if nobody else did meanwhile.
async fn increment(store: &SqlStore, key: &str) -> bool {
    let now = get(store, key).await;
    let (revision, count) = now.map_or((0, 0), |kv| (kv.mod_revision, text(&kv.value).parse().unwrap()));
    let target = pb::compare::TargetUnion::ModRevision(revision);
    let compare = pb::Compare {
        target: pb::compare::CompareTarget::Mod as i32,
        key: Bytes::copy_from_slice(key.as_bytes()),
        target_union: Some(target),
        ..Default::default()
    };
    let next: i64 = count + 1;
    let put = pb::request_op::Request::RequestPut(put_request(key, &next.to_string()));
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp { request: Some(put) }],
        failure: Vec::new(),
    };
    store.txn(txn).await.expect("a transaction").succeeded
}

/// Clients of two servers count together; nothing is lost, nothing counted
/// twice, and watchers of both see the same.
async fn revisions_are_one_order(base: Base) {
    let servers = [base.server().await, base.server().await];
    let mut watchers: Vec<Watcher> = servers.iter().map(|server| watch(server)).collect();
    let mut clients = Vec::new();
    for (client, server) in servers.iter().cycle().take(8).enumerate() {
        let server: Arc<SqlStore> = server.clone();
        clients.push(tokio::spawn(async move {
            let mut counted = 0;
            for i in 0..25 {
                counted += i64::from(increment(&server, "counter").await);
                put(&*server, &format!("k{client}"), &i.to_string()).await;
                if i % 5 == 0 {
                    delete(&*server, &format!("k{client}")).await;
                }
            }
            counted
        }));
    }
    let mut counted = 0;
    for client in clients {
        counted += client.await.unwrap();
    }
    let total: i64 = text(&get(&*servers[0], "counter").await.unwrap().value).parse().unwrap();
    assert_eq!(total, counted);
    let last = put(&*servers[1], "last", "").await;
    // 8 clients: 25 puts and 5 deletions each, what was counted, and the last.
    assert_eq!(last, 1 + 8 * 30 + counted + 1);
    let mut seen = Vec::new();
    for watcher in &mut watchers {
        seen.push(events_until(watcher, last).await);
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].len() as i64, last - 1);
    let state = replay(&seen[0]);
    for server in &servers {
        assert_eq!(listed(server).await, state);
    }
    let hash = pb::HashKvRequest { revision: last };
    let hashes = [servers[0].hash_kv(hash).await.unwrap(), servers[1].hash_kv(hash).await.unwrap()];
    assert_eq!(hashes[0].hash, hashes[1].hash);
    for server in servers {
        server.stop().await;
    }
}

/// A lease is granted here, renewed there, and ends whoever runs.
async fn leases_belong_to_all(base: Base) {
    let (first, second) = (base.server().await, base.server().await);
    grant(&*first, 7, 3).await;
    grant(&*first, 8, 1000).await;
    put_leased(&*second, "short", 7).await;
    put_leased(&*second, "long", 8).await;
    let renewed = second.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 7 }).await.unwrap();
    assert_eq!(renewed.ttl, 3);
    assert!(time_to_live(&*second, 8).await.ttl > 900);
    first.stop().await;
    let mut watcher = watch(&second);
    let events = events_until(&mut watcher, 4).await;
    assert_eq!(events.last().unwrap().r#type, 1);
    assert!(get(&*second, "short").await.is_none());
    assert!(get(&*second, "long").await.is_some());
    second.stop().await;
    let third = base.server().await;
    let left = time_to_live(&*third, 8).await;
    assert!((900..=1000).contains(&left.ttl), "{} s left", left.ttl);
    assert_eq!(left.keys.len(), 1);
    third.stop().await;
}

/// A server that starts again has the same history, users and hashes.
async fn a_restart_keeps_everything(base: Base) {
    let server = base.server().await;
    for i in 0..40 {
        put(&*server, &format!("k{}", i % 7), &i.to_string()).await;
        // What the table of kine cannot hold: bytes, several changes at once.
        let key = Bytes::from(vec![0xff, 0, i]);
        server.put(pb::PutRequest { key, value: "bytes".into(), ..Default::default() }).await.unwrap();
    }
    server.delete_range(delete_request("k2", "k5")).await.unwrap();
    put(&*server, "k3", "again").await;
    grant(&*server, 9, 500).await;
    put_leased(&*server, "leased", 9).await;
    compact(&*server, 20, true).await;
    let last = put(&*server, "compact_rev_key", "of the API server").await;
    let before = (listed(&server).await, server.hash_kv(pb::HashKvRequest { revision: last }).await.unwrap());
    let old = server.range(pb::RangeRequest { revision: 30, ..everything() }).await.unwrap();
    server.stop().await;
    let again = base.server().await;
    let after = (listed(&again).await, again.hash_kv(pb::HashKvRequest { revision: last }).await.unwrap());
    assert_eq!(before.0, after.0);
    assert_eq!((before.1.hash, before.1.compact_revision), (after.1.hash, after.1.compact_revision));
    let read = again.range(pb::RangeRequest { revision: 30, ..everything() }).await.unwrap();
    assert_eq!(old.kvs, read.kvs);
    assert_eq!(get(&*again, "leased").await.unwrap().lease, 9);
    assert_eq!(put(&*again, "next", "").await, last + 1);
    assert_eq!(again.status().compact_revision, 20);
    let size = tokio::time::timeout(Duration::from_secs(5), async { again.status().db_size }).await.unwrap();
    assert!(size > 0);
    again.stop().await;
}

/// The log does not reach back to where a server stands, as after a long pause: it fills its replica from
/// the tables, and watchers that cannot miss anything go on.
async fn a_server_that_is_too_far_behind_starts_anew(base: Base) {
    let server = base.server().await;
    put(&*server, "a", "1").await;
    let mut watcher = watch(&server);
    // What another server leaves whose first entry is pruned already: the last entry, the head, the row.
    let db = base.database().await;
    let mut session = db.session().await.unwrap();
    session.begin().await.unwrap();
    let rows = session.query("SELECT log_index, state FROM skiff_head WHERE id = 1", &[]).await.unwrap();
    let index = rows[0].int(0).unwrap() + 2;
    let mut state = StoredState::decode(rows[0].bytes(1).unwrap()).unwrap();
    (state.revision, state.applied_index) = (3, index as u64);
    let sql = "INSERT INTO skiff_log (idx, written_at, writer, entry) VALUES (?, 0, 'another', ?)";
    session.execute(sql, &[Value::Int(index), Value::Bytes(Bytes::new())]).await.unwrap();
    let sql = "UPDATE skiff_head SET log_index = ?, revision = 3, state = ? WHERE id = 1";
    session.execute(sql, &[Value::Int(index), Value::Bytes(state.encode_to_vec().into())]).await.unwrap();
    let sql = "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, value, \
               old_value) VALUES (3, 'b', 1, 0, 0, 0, 0, ?, NULL)";
    session.execute(sql, &[Value::Bytes("2".into())]).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(text(&get(&*server, "b").await.unwrap().value), "2");
    assert_eq!(put(&*server, "c", "3").await, 4);
    let events = events_until(&mut watcher, 4).await;
    assert_eq!(events.len(), 3);
    assert_eq!(listed(&server).await, replay(&events));
    server.stop().await;
}
