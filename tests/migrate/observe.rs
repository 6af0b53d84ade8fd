//! What clients see of a store, and a history that has everything to see.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::mvccpb::{Event, KeyValue};
use skiff_test_support::{Client, rpc};

const PATIENCE: Duration = Duration::from_secs(30);

/// Everything there is to see.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) revision: i64,
    pub(crate) pairs: Vec<KeyValue>,
    /// Every event since a revision.
    pub(crate) events: Vec<Event>,
    /// The leases that keys have, and their granted TTLs.
    pub(crate) leases: BTreeMap<i64, i64>,
}

/// Looks at a store, with all events after a revision.
pub(crate) async fn look(client: &Client, after: i64) -> Seen {
    let all = range(b"\0", b"\0");
    let answer = client.range(all).await.expect("a range");
    let revision = answer.header.expect("a header").revision;
    let mut leases = BTreeMap::new();
    for id in client.lease_leases(LeaseLeasesRequest {}).await.expect("leases").leases {
        let request = LeaseTimeToLiveRequest { id: id.id, keys: false };
        leases.insert(id.id, client.lease_time_to_live(request).await.expect("a TTL").granted_ttl);
    }
    let events = if after < revision { events(client, after, revision).await } else { Vec::new() };
    Seen { revision, pairs: answer.kvs, events, leases }
}

async fn events(client: &Client, after: i64, through: i64) -> Vec<Event> {
    let create = WatchCreateRequest {
        key: b"\0"[..].into(),
        range_end: b"\0"[..].into(),
        start_revision: after + 1,
        progress_notify: true,
        ..Default::default()
    };
    let mut watch = client.watch(rpc::create_watch(create)).await.expect("a watch");
    let mut events: Vec<Event> = Vec::new();
    loop {
        let answer = watch.next(PATIENCE).await.expect("no fault").expect("an answer");
        assert!(!answer.canceled, "{answer:?}");
        events.extend(answer.events);
        let last = events.last().and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision);
        if last >= through {
            return events;
        }
    }
}

pub(crate) fn range(key: &[u8], end: &[u8]) -> RangeRequest {
    RangeRequest {
        key: Bytes::copy_from_slice(key),
        range_end: Bytes::copy_from_slice(end),
        ..Default::default()
    }
}

pub(crate) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), lease, ..Default::default() }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Writes a history with everything that may be hard to move; answers the
/// revision at which it was compacted.
pub(crate) async fn write_history(client: &Client, keys: usize) -> i64 {
    use request_op::Request::*;
    for (id, ttl) in [(7, 600), (i64::MAX - 1, 7200), (99, 3600)] {
        client.lease_grant(LeaseGrantRequest { ttl, id }).await.expect("a lease");
    }
    let write = async |round: usize| {
        for n in 0..keys {
            let lease = if n % 5 == 0 { 7 } else { 0 };
            let value = format!("{round}-{n}").repeat(1 + n % 7);
            client.put(put(format!("/registry/{:03}", n * 7 % keys), value, lease)).await.expect("a put");
        }
        // Keys that no text column holds, an empty value, a large one.
        client.put(put(&b"\0\xff"[..], &b"\0"[..], 0)).await.expect("a put");
        client.put(put("empty", "", i64::MAX - 1)).await.expect("a put");
        client.put(put("Case ", vec![b'x'; 100_000], 0)).await.expect("a put");
        client.put(put("case", "y", 0)).await.expect("a put");
        client.put(put("compact_rev_key", format!("{round}"), 0)).await.expect("a put");
        // One revision, many changes, the first of them no row of kine's.
        let mut success = vec![op(RequestDeleteRange(DeleteRangeRequest {
            key: "/registry/00".into(),
            range_end: "/registry/01".into(),
            ..Default::default()
        }))];
        success.extend((0..20).map(|n| op(RequestPut(put(format!("txn/{n}"), format!("{round}"), 0)))));
        client.txn(TxnRequest { success, ..Default::default() }).await.expect("a transaction");
    };
    for round in 0..3 {
        write(round).await;
    }
    let revision = client.range(range(b"x", b"")).await.expect("a range").header.expect("a header").revision;
    // A deletion at the compacted revision itself.
    client
        .delete_range(DeleteRangeRequest { key: "case".into(), ..Default::default() })
        .await
        .expect("a deletion");
    let compacted = revision + 1;
    let request = CompactionRequest { revision: compacted, physical: true };
    client.compact(request).await.expect("a compaction");
    for round in 3..5 {
        write(round).await;
    }
    compacted
}
