//! Short forms of requests, and what cases expect.

use std::time::Duration;

use bytes::Bytes;

use crate::api::{Store, StoreExt};
use crate::error::{Error, Result};
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::mvccpb::event::EventType;
use crate::pb::mvccpb::{Event, KeyValue};
use crate::watch::{WatchItem, WatchSpec, Watcher};

/// How long a case waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A put.
pub fn put_request(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    }
}

/// Puts; answers the revision.
pub async fn put<S: Store + ?Sized>(store: &S, key: &str, value: &str) -> i64 {
    revision(&store.put(put_request(key, value)).await.expect("put").header)
}

/// Puts with a lease; answers the revision.
pub async fn put_leased<S: Store + ?Sized>(store: &S, key: &str, lease: i64) -> i64 {
    let request = pb::PutRequest { lease, ..put_request(key, "leased") };
    revision(&store.put(request).await.expect("put").header)
}

/// A deletion of a range.
pub fn delete_request(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
        prev_kv: false,
    }
}

/// Deletes a key; answers the revision.
pub async fn delete<S: Store + ?Sized>(store: &S, key: &str) -> i64 {
    revision(&store.delete_range(delete_request(key, "")).await.expect("delete").header)
}

/// A range.
pub fn range_request(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
        ..Default::default()
    }
}

/// Every key.
pub fn everything() -> pb::RangeRequest {
    range_request("\0", "\0")
}

/// The pair of a key.
pub async fn get<S: Store + ?Sized>(store: &S, key: &str) -> Option<KeyValue> {
    store.range(range_request(key, "")).await.expect("range").kvs.pop()
}

/// The keys of a range's answer, in order.
pub fn keys(response: &pb::RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|kv| text(&kv.key)).collect()
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The revision of a header.
pub fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

/// A request failed with this error.
pub fn assert_error<T: std::fmt::Debug>(result: Result<T>, expected: impl Into<Error>) {
    let expected = expected.into();
    match result {
        Ok(answer) => panic!("{expected} expected, got {answer:?}"),
        Err(error) => assert_eq!(error.to_string(), expected.to_string()),
    }
}

/// Forgets history below a revision.
pub async fn compact<S: Store + ?Sized>(store: &S, revision: i64, physical: bool) {
    store.compact(pb::CompactionRequest { revision, physical }).await.expect("compact");
}

/// Grants a lease of an id.
pub async fn grant<S: Store + ?Sized>(store: &S, id: i64, ttl: i64) -> pb::LeaseGrantResponse {
    store.lease_grant(pb::LeaseGrantRequest { ttl, id }).await.expect("lease grant")
}

/// Time left, TTL and keys of a lease.
pub async fn time_to_live<S: Store + ?Sized>(store: &S, id: i64) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    store.lease_time_to_live(request).await.expect("time to live")
}

/// The keys of a lease.
pub async fn lease_keys<S: Store + ?Sized>(store: &S, id: i64) -> Vec<String> {
    let mut keys: Vec<_> = time_to_live(store, id).await.keys.iter().map(|key| text(key)).collect();
    keys.sort();
    keys
}

/// Wraps an operation of a transaction.
pub fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// A put in a transaction.
pub fn op_put(key: &str, value: &str) -> pb::RequestOp {
    op(Request::RequestPut(put_request(key, value)))
}

/// A read of one key in a transaction.
pub fn op_get(key: &str) -> pb::RequestOp {
    op(Request::RequestRange(range_request(key, "")))
}

/// A deletion in a transaction.
pub fn op_delete(key: &str, range_end: &str) -> pb::RequestOp {
    op(Request::RequestDeleteRange(delete_request(key, range_end)))
}

/// A condition on a key.
pub fn compare(key: &str, result: CompareResult, union: TargetUnion) -> pb::Compare {
    let target = match &union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    pb::Compare {
        result: result as i32,
        target: target as i32,
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

/// A transaction without conditions.
pub fn txn_of(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..Default::default() }
}

/// The range's answer at a place of a transaction's answer.
pub fn range_at(response: &pb::TxnResponse, at: usize) -> &pb::RangeResponse {
    match &response.responses[at].response {
        Some(Response::ResponseRange(range)) => range,
        other => panic!("a range expected at {at}, got {other:?}"),
    }
}

/// A watch of a range from a revision on.
pub fn watch_spec(key: &str, range_end: &str, start_revision: i64) -> WatchSpec {
    WatchSpec {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
        start_revision,
        ..WatchSpec::default()
    }
}

/// A watch of everything from a revision on.
pub fn watch_all(start_revision: i64) -> WatchSpec {
    watch_spec("\0", "\0", start_revision)
}

/// The next item of a watch.
pub async fn next_item(watcher: &mut Watcher) -> WatchItem {
    let next = tokio::time::timeout(DEADLINE, watcher.next()).await;
    next.expect("an item in time").expect("an item")
}

/// The next events of a watch, at least `count`.
pub async fn next_events(watcher: &mut Watcher, count: usize) -> Vec<Event> {
    let mut all = Vec::new();
    while all.len() < count {
        match next_item(watcher).await {
            WatchItem::Events { revision, events } => {
                let revisions = events.iter().map(|event| event.kv.as_ref().expect("kv").mod_revision);
                assert!(revisions.max().expect("events") <= revision);
                all.extend(events);
            }
            other => panic!("events expected, got {other:?}"),
        }
    }
    all
}

/// An event as "PUT key value @revision" or "DELETE key @revision".
pub fn describe(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("kv");
    match event.r#type() {
        EventType::Put => format!("PUT {} {} @{}", text(&kv.key), text(&kv.value), kv.mod_revision),
        EventType::Delete => format!("DELETE {} @{}", text(&kv.key), kv.mod_revision),
    }
}

/// The next events of a watch, described.
pub async fn next_described(watcher: &mut Watcher, count: usize) -> Vec<String> {
    next_events(watcher, count).await.iter().map(describe).collect()
}

/// Waits until a watch has nothing more to report up to a revision.
pub async fn until_progress(watcher: &Watcher, revision: i64) {
    until("progress", async || watcher.progress() == Some(revision)).await;
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, poll).await.is_err() {
        panic!("not in time: {what}");
    }
}
