//! Leases.

use std::time::Duration;

use super::Make;
use super::support::*;
use crate::api::{Store, StoreExt};
use crate::error::{ApiError, Result};
use crate::pb::etcdserverpb as pb;

async fn revoke<S: Store + ?Sized>(s: &S, id: i64) -> Result<i64> {
    s.lease_revoke(pb::LeaseRevokeRequest { id }).await.map(|response| revision(&response.header))
}

async fn leases<S: Store + ?Sized>(s: &S) -> Vec<i64> {
    let all = s.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap();
    let mut ids: Vec<_> = all.leases.iter().map(|lease| lease.id).collect();
    ids.sort();
    ids
}

/// Grants: own and picked ids, times too long and too short.
pub async fn grants(make: &dyn Make) {
    let s = make.make().await;
    let granted = grant(&*s, 5, 600).await;
    assert_eq!((granted.id, granted.ttl, revision(&granted.header)), (5, 600, 1));
    assert_error(s.lease_grant(pb::LeaseGrantRequest { id: 5, ttl: 700 }).await, ApiError::LeaseExists);
    let (first, second) = (grant(&*s, 0, 600).await.id, grant(&*s, 0, 600).await.id);
    assert!(first > 0 && second > 0 && first != second);
    let too_long = pb::LeaseGrantRequest { id: 6, ttl: 9_000_000_001 };
    assert_error(s.lease_grant(too_long).await, ApiError::LeaseTtlTooLarge);
    assert!(grant(&*s, 7, 9_000_000_000).await.ttl == 9_000_000_000);
    assert!(grant(&*s, 8, 0).await.ttl >= 1);
    assert!(grant(&*s, 9, -3).await.ttl >= 1);
    let ids = leases(&*s).await;
    assert!([5, 7, first, second].iter().all(|id| ids.contains(id)) && !ids.contains(&6));
}

/// A put needs its lease to be there.
pub async fn unknown(make: &dyn Make) {
    let s = make.make().await;
    let request = pb::PutRequest { lease: 1, ..put_request("a", "") };
    assert_error(s.put(request.clone()).await, ApiError::LeaseNotFound);
    assert_error(revoke(&*s, 1).await, ApiError::LeaseNotFound);
    grant(&*s, 1, 600).await;
    s.put(request.clone()).await.unwrap();
    revoke(&*s, 1).await.unwrap();
    assert_error(s.put(request).await, ApiError::LeaseNotFound);
    assert_error(revoke(&*s, 1).await, ApiError::LeaseNotFound);
}

/// A key has the lease of its last put.
pub async fn attachment(make: &dyn Make) {
    let s = make.make().await;
    grant(&*s, 1, 600).await;
    grant(&*s, 2, 600).await;
    for key in ["a", "b", "c", "d"] {
        put_leased(&*s, key, 1).await;
    }
    put_leased(&*s, "b", 2).await;
    put(&*s, "c", "no lease").await;
    delete(&*s, "d").await;
    put(&*s, "d", "again, no lease").await;
    assert_eq!(lease_keys(&*s, 1).await, ["a"]);
    assert_eq!(lease_keys(&*s, 2).await, ["b"]);
    assert_eq!(get(&*s, "b").await.unwrap().lease, 2);
    assert_eq!(get(&*s, "c").await.unwrap().lease, 0);
    revoke(&*s, 1).await.unwrap();
    assert_eq!(keys(&s.range(everything()).await.unwrap()), ["b", "c", "d"]);
}

/// A revoke deletes all keys of the lease in one revision, in key order; one
/// of a lease without keys takes no revision.
pub async fn revokes(make: &dyn Make) {
    let s = make.make().await;
    grant(&*s, 1, 600).await;
    grant(&*s, 2, 600).await;
    for key in ["c", "a", "b"] {
        put_leased(&*s, key, 1).await;
    }
    put(&*s, "d", "").await;
    let mut watcher = s.watch(watch_all(0));
    assert_eq!(revoke(&*s, 2).await.unwrap(), 5);
    assert_eq!(revoke(&*s, 1).await.unwrap(), 6);
    assert_eq!(next_described(&mut watcher, 3).await, ["DELETE a @6", "DELETE b @6", "DELETE c @6"]);
    assert_eq!(keys(&s.range(everything()).await.unwrap()), ["d"]);
    assert_eq!(leases(&*s).await, [0; 0]);
}

/// The time a lease has left, its keys; -1 for one that is not there.
pub async fn time_left(make: &dyn Make) {
    let s = make.make().await;
    grant(&*s, 1, 600).await;
    put_leased(&*s, "b", 1).await;
    put_leased(&*s, "a", 1).await;
    // A leader that has just begun to keep time gives more than what was
    // granted, until the first renewal.
    s.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 1 }).await.unwrap();
    let left = time_to_live(&*s, 1).await;
    assert_eq!((left.id, left.granted_ttl, left.keys.len()), (1, 600, 2));
    assert!((0..=600).contains(&left.ttl));
    let without = pb::LeaseTimeToLiveRequest { id: 1, keys: false };
    assert_eq!(s.lease_time_to_live(without).await.unwrap().keys.len(), 0);
    let missing = time_to_live(&*s, 2).await;
    assert_eq!((missing.id, missing.ttl, missing.granted_ttl, missing.keys.len()), (2, -1, 0, 0));
}

/// Renewal answers the TTL, or 0 if the lease is not there.
pub async fn keep_alive(make: &dyn Make) {
    let s = make.make().await;
    grant(&*s, 1, 600).await;
    let renewed = s.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 1 }).await.unwrap();
    assert_eq!((renewed.id, renewed.ttl), (1, 600));
    let missing = s.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 2 }).await.unwrap();
    assert_eq!((missing.id, missing.ttl), (2, 0));
}

/// A lease ends after its time, with its keys; a renewed one does not.
pub async fn expiry(make: &dyn Make) {
    let s = make.make().await;
    let mut watcher = s.watch(watch_all(0));
    let ttl = grant(&*s, 1, 2).await.ttl;
    grant(&*s, 2, 100_000).await;
    put_leased(&*s, "b", 1).await;
    put_leased(&*s, "a", 1).await;
    put_leased(&*s, "c", 2).await;
    next_events(&mut watcher, 3).await;
    s.advance(Duration::from_secs(ttl as u64 - 1));
    s.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 1 }).await.unwrap();
    s.advance(Duration::from_secs(ttl as u64));
    assert_eq!(next_described(&mut watcher, 2).await, ["DELETE a @5", "DELETE b @5"]);
    assert_eq!(keys(&s.range(everything()).await.unwrap()), ["c"]);
    assert_eq!(leases(&*s).await, [2]);
    assert_eq!(time_to_live(&*s, 1).await.ttl, -1);
    let renewed = s.lease_keep_alive(pb::LeaseKeepAliveRequest { id: 1 }).await.unwrap();
    assert_eq!(renewed.ttl, 0);
}
