//! Reads at old revisions, and compaction.

use super::Make;
use super::support::*;
use crate::api::{Store, StoreExt};
use crate::error::ApiError;
use crate::pb::etcdserverpb as pb;

fn at(revision: i64) -> pb::RangeRequest {
    pb::RangeRequest { revision, ..everything() }
}

/// Some changes; the key space after each revision.
async fn write_some<S: Store + ?Sized>(s: &S) -> Vec<(i64, pb::RangeResponse)> {
    let mut states = Vec::new();
    for i in 0..30 {
        let key = format!("k{}", i % 7);
        let now = if i % 5 == 4 { delete(s, &key).await } else { put(s, &key, &i.to_string()).await };
        states.push((now, s.range(everything()).await.unwrap()));
    }
    states
}

/// A read at a revision sees what was there then.
pub async fn old_revisions(make: &dyn Make) {
    let s = make.make().await;
    let states = write_some(&*s).await;
    let newest = states.last().unwrap().0;
    for (revision_then, then) in &states {
        let now = s.range(at(*revision_then)).await.unwrap();
        assert_eq!(revision(&now.header), newest);
        assert_eq!((now.kvs, now.count), (then.kvs.clone(), then.count), "at {revision_then}");
        for kv in &then.kvs {
            let one = pb::RangeRequest { revision: *revision_then, ..range_request(&text(&kv.key), "") };
            assert_eq!(s.range(one).await.unwrap().kvs, std::slice::from_ref(kv));
        }
        let page = s.range(pb::RangeRequest { limit: 2, ..at(*revision_then) }).await.unwrap();
        assert_eq!(page.kvs[..], then.kvs[..then.kvs.len().min(2)]);
        assert_eq!((page.count, page.more), (then.count, then.count > 2));
    }
    assert_eq!(s.range(at(1)).await.unwrap().count, 0);
    assert_eq!(s.range(at(-1)).await.unwrap(), states.last().unwrap().1);
    assert_error(s.range(at(newest + 1)).await, ApiError::FutureRevision);
}

/// What compaction refuses, and what stays readable.
pub async fn compaction(make: &dyn Make) {
    for physical in [false, true] {
        let s = make.make().await;
        let states = write_some(&*s).await;
        let newest = states.last().unwrap().0;
        let compact_at = |revision| s.compact(pb::CompactionRequest { revision, physical });
        assert_error(compact_at(newest + 1).await, ApiError::FutureRevision);
        assert_eq!(revision(&compact_at(15).await.unwrap().header), newest);
        assert_error(compact_at(15).await, ApiError::Compacted);
        assert_error(compact_at(3).await, ApiError::Compacted);
        for (revision_then, then) in &states {
            let now = s.range(at(*revision_then)).await;
            if *revision_then < 15 {
                assert_error(now, ApiError::Compacted);
            } else {
                assert_eq!(now.unwrap().kvs, then.kvs);
            }
        }
        assert_eq!(s.status().compact_revision, 15);
        assert_eq!(put(&*s, "new", "").await, newest + 1);
    }
}

/// A compaction at the newest revision leaves the newest state.
pub async fn compaction_of_everything(make: &dyn Make) {
    let s = make.make().await;
    let newest = write_some(&*s).await.pop().unwrap();
    compact(&*s, newest.0, true).await;
    assert_eq!(s.range(everything()).await.unwrap(), newest.1);
    assert_eq!(s.range(at(newest.0)).await.unwrap(), newest.1);
    assert_error(s.range(at(newest.0 - 1)).await, ApiError::Compacted);
    // Versions go on counting.
    let kv = newest.1.kvs[0].clone();
    put(&*s, &text(&kv.key), "").await;
    let next = get(&*s, &text(&kv.key)).await.unwrap();
    assert_eq!((next.version, next.create_revision), (kv.version + 1, kv.create_revision));
}

/// Space of compacted versions is given back.
pub async fn compaction_frees(make: &dyn Make) {
    let s = make.make().await;
    for i in 0..50 {
        put(&*s, "k", &i.to_string().repeat(10_000)).await;
    }
    let before = s.status().db_size_in_use;
    compact(&*s, 51, true).await;
    let after = s.status().db_size_in_use;
    assert!(after < before / 10, "{before} bytes in use before, {after} after");
}
