//! Hashes, alarms, snapshots and status.

use futures::TryStreamExt;

use super::Make;
use super::support::*;
use crate::api::{Store, StoreExt};
use crate::error::ApiError;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::alarm_request::AlarmAction;
use crate::pb::etcdserverpb::request_op::Request;

async fn write_some<S: Store + ?Sized>(s: &S) -> i64 {
    grant(s, 3, 600).await;
    for i in 0..20 {
        put(s, &format!("k{}", i % 6), &i.to_string()).await;
    }
    put_leased(s, "k1", 3).await;
    s.txn(txn_of(vec![op_delete("k2", "k4"), op_put("k9", "")])).await.unwrap();
    delete(s, "k0").await
}

async fn hash_at<S: Store + ?Sized>(s: &S, revision: i64) -> pb::HashKvResponse {
    s.hash_kv(pb::HashKvRequest { revision }).await.unwrap()
}

/// Stores with equal histories have equal hashes, at every revision.
pub async fn hash_kv(make: &dyn Make) {
    let (a, b) = (make.make().await, make.make().await);
    let last = write_some(&*a).await;
    assert_eq!(write_some(&*b).await, last);
    let mut hashes = Vec::new();
    for revision in 1..=last {
        let (one, other) = (hash_at(&*a, revision).await, hash_at(&*b, revision).await);
        assert_eq!((one.hash, one.hash_revision), (other.hash, revision));
        assert_eq!(other.hash_revision, revision);
        hashes.push(one.hash);
    }
    hashes.dedup();
    assert_eq!(hashes.len() as i64, last, "every write changes the hash");
    assert_eq!(hash_at(&*a, 0).await, hash_at(&*a, last).await);
    put(&*a, "more", "").await;
    assert_eq!(hash_at(&*a, last).await.hash, hash_at(&*b, last).await.hash);
    assert_ne!(hash_at(&*a, 0).await.hash, hash_at(&*b, 0).await.hash);
    assert_error(a.hash_kv(pb::HashKvRequest { revision: last + 2 }).await, ApiError::FutureRevision);
}

/// Hashes do not depend on how far compaction has got.
pub async fn hash_kv_compacted(make: &dyn Make) {
    let (a, b) = (make.make().await, make.make().await);
    let last = write_some(&*a).await;
    write_some(&*b).await;
    assert_eq!(hash_at(&*a, 0).await.compact_revision, -1);
    compact(&*a, 10, false).await;
    compact(&*b, 10, true).await;
    assert_error(a.hash_kv(pb::HashKvRequest { revision: 9 }).await, ApiError::Compacted);
    for revision in 10..=last {
        let one = hash_at(&*a, revision).await;
        assert_eq!(one, hash_at(&*b, revision).await);
        assert_eq!(one.compact_revision, 10);
    }
    compact(&*a, last, true).await;
    compact(&*b, 15, true).await;
    compact(&*b, last, false).await;
    assert_eq!(hash_at(&*a, 0).await, hash_at(&*b, 0).await);
}

async fn alarm<S: Store + ?Sized>(s: &S, action: AlarmAction, alarm: pb::AlarmType) -> Vec<pb::AlarmMember> {
    let member_id = s.status().member_id;
    let request = pb::AlarmRequest { action: action as i32, member_id, alarm: alarm as i32 };
    s.alarm(request).await.unwrap().alarms
}

/// NOSPACE refuses what takes space and nothing else, until it is ended.
pub async fn no_space(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "a", "").await;
    put(&*s, "b", "").await;
    let raised = alarm(&*s, AlarmAction::Activate, pb::AlarmType::Nospace).await;
    assert_eq!(raised.len(), 1);
    assert_eq!(alarm(&*s, AlarmAction::Get, pb::AlarmType::None).await, raised);
    assert_eq!(s.status().alarms, raised);

    assert_error(s.put(put_request("a", "")).await, ApiError::NoSpace);
    assert_error(s.txn(txn_of(vec![op_put("a", "")])).await, ApiError::NoSpace);
    let nested = op(Request::RequestTxn(txn_of(vec![op_put("a", "")])));
    // As in etcd, only a transaction's own puts count, not those nested in it.
    assert_eq!(revision(&s.txn(txn_of(vec![nested])).await.unwrap().header), 4);
    assert_error(s.lease_grant(pb::LeaseGrantRequest { id: 1, ttl: 600 }).await, ApiError::NoSpace);
    assert_eq!(delete(&*s, "a").await, 5);
    assert!(s.txn(txn_of(vec![op_delete("b", "")])).await.is_ok());
    compact(&*s, 6, true).await;
    assert!(s.defragment().await.is_ok());
    assert_eq!(s.range(everything()).await.unwrap().count, 0);

    assert_eq!(alarm(&*s, AlarmAction::Deactivate, pb::AlarmType::Nospace).await, raised);
    assert_eq!(alarm(&*s, AlarmAction::Get, pb::AlarmType::None).await, []);
    assert_eq!(put(&*s, "a", "").await, 7);
}

/// A snapshot is as long as it says, and does not stop writers.
pub async fn snapshot(make: &dyn Make) {
    let s = make.make().await;
    let last = write_some(&*s).await;
    let mut snapshot = s.snapshot().await.unwrap();
    assert_eq!(snapshot.revision, last);
    put(&*s, "meanwhile", "").await;
    let mut bytes = 0;
    while let Some(chunk) = snapshot.chunks.try_next().await.unwrap() {
        bytes += chunk.len() as u64;
    }
    assert_eq!(bytes, snapshot.size);
    // What etcd's client checks: blocks, and a checksum behind them.
    assert_eq!(bytes % 512, 32);
}

/// Defragmentation changes nothing that can be read.
pub async fn defragment(make: &dyn Make) {
    let s = make.make().await;
    let last = write_some(&*s).await;
    let before = hash_at(&*s, last).await;
    s.defragment().await.unwrap();
    assert_eq!(hash_at(&*s, last).await, before);
    assert_eq!(put(&*s, "a", "").await, last + 1);
}

/// The status follows the writes.
pub async fn status(make: &dyn Make) {
    let s = make.make().await;
    let new = s.status();
    assert_eq!((new.revision, new.alarms.len()), (1, 0));
    assert!(new.member_id != 0 && new.leader != 0 && new.raft_term > 0);
    assert!(new.compact_revision <= 0);
    let last = write_some(&*s).await;
    let status = s.status();
    assert_eq!(status.revision, last);
    assert!(status.raft_applied_index > new.raft_applied_index);
    assert!(status.raft_index >= status.raft_applied_index);
    assert!(status.db_size_in_use > new.db_size_in_use);
    let vitals = s.vitals();
    assert_eq!((vitals.revision, vitals.member_id, vitals.leader), (last, status.member_id, status.leader));
    assert_eq!(*s.leader().borrow(), status.leader);
}
