//! Reads of the newest state.

use futures::TryStreamExt;

use super::Make;
use super::support::*;
use crate::api::StoreExt;
use crate::error::ApiError;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};

/// One key, from-to, from a key on, everything, nothing.
pub async fn bounds(make: &dyn Make) {
    let s = make.make().await;
    for key in ["a", "aa", "b", "c"] {
        put(&*s, key, key).await;
    }
    let read = async |key: &str, end: &str| keys(&s.range(range_request(key, end)).await.unwrap());
    assert_eq!(read("a", "").await, ["a"]);
    assert_eq!(read("ab", "").await, [""; 0]);
    assert_eq!(read("a", "b").await, ["a", "aa"]);
    assert_eq!(read("aa", "c").await, ["aa", "b"]);
    assert_eq!(read("aa", "\0").await, ["aa", "b", "c"]);
    assert_eq!(read("\0", "\0").await, ["a", "aa", "b", "c"]);
    assert_eq!(read("c", "a").await, [""; 0]);
    assert_eq!(read("b", "b").await, [""; 0]);
}

/// `count` is of the range, not of the page; `more` says that the page is not
/// all.
pub async fn limit_and_count(make: &dyn Make) {
    let s = make.make().await;
    for i in 0..10 {
        put(&*s, &format!("k{i}"), "v").await;
    }
    for (limit, len, more) in [(0, 10, false), (3, 3, true), (10, 10, false), (11, 10, false)] {
        let page = s.range(pb::RangeRequest { limit, ..range_request("k", "l") }).await.unwrap();
        assert_eq!((page.kvs.len(), page.count, page.more), (len, 10, more), "limit {limit}");
    }
    let counted = pb::RangeRequest { count_only: true, limit: 3, ..range_request("k2", "k7") };
    let counted = s.range(counted).await.unwrap();
    assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, 5, false));
    let keys_only = pb::RangeRequest { keys_only: true, ..range_request("k2", "k4") };
    let keys_only = s.range(keys_only).await.unwrap();
    assert_eq!(keys(&keys_only), ["k2", "k3"]);
    assert!(keys_only.kvs.iter().all(|kv| kv.value.is_empty() && kv.version == 1 && kv.mod_revision > 0));
}

/// Orders by every target, before the limit cuts.
pub async fn sorts(make: &dyn Make) {
    let s = make.make().await;
    // Created c b a; changed last b c a; a has most versions, then c, then b.
    for (key, value) in [("c", "2"), ("b", "0"), ("a", "0"), ("a", "0"), ("b", "3"), ("c", "2")] {
        put(&*s, key, value).await;
    }
    for (key, value) in [("c", "2"), ("a", "0"), ("a", "1")] {
        put(&*s, key, value).await;
    }
    let sorted = async |target: SortTarget, order: SortOrder, limit| {
        let request =
            pb::RangeRequest { sort_target: target as i32, sort_order: order as i32, limit, ..everything() };
        let page = s.range(request).await.unwrap();
        assert_eq!((page.count, page.more), (3, limit > 0));
        keys(&page).concat()
    };
    let ascending = [
        (SortTarget::Key, "abc"),
        (SortTarget::Version, "bca"),
        (SortTarget::Create, "cba"),
        (SortTarget::Mod, "bca"),
        (SortTarget::Value, "acb"),
    ];
    for (target, expected) in ascending {
        let reversed: String = expected.chars().rev().collect();
        assert_eq!(sorted(target, SortOrder::Ascend, 0).await, expected, "{target:?}");
        assert_eq!(sorted(target, SortOrder::Ascend, 2).await, expected[..2], "{target:?}");
        assert_eq!(sorted(target, SortOrder::Descend, 0).await, reversed, "{target:?}");
        assert_eq!(sorted(target, SortOrder::Descend, 2).await, reversed[..2], "{target:?}");
        // Without an order a target still sorts, ascending.
        assert_eq!(sorted(target, SortOrder::None, 0).await, expected, "{target:?}");
    }
    // It then sorts only what the limit lets through, and one key more.
    assert_eq!(sorted(SortTarget::Create, SortOrder::None, 1).await, "b");
    assert_eq!(sorted(SortTarget::Create, SortOrder::Ascend, 1).await, "c");
}

/// Filters by revision: applied before the limit, not counted.
pub async fn revision_filters(make: &dyn Make) {
    let s = make.make().await;
    for key in ["a", "b", "c", "d", "a", "b"] {
        put(&*s, key, "v").await;
    }
    // create: a2 b3 c4 d5; mod: a6 b7 c4 d5.
    let filtered = async |min_mod, max_mod, min_create, max_create, limit| {
        let request = pb::RangeRequest {
            min_mod_revision: min_mod,
            max_mod_revision: max_mod,
            min_create_revision: min_create,
            max_create_revision: max_create,
            limit,
            ..everything()
        };
        let page = s.range(request).await.unwrap();
        assert_eq!(page.count, 4);
        (keys(&page).concat(), page.more)
    };
    assert_eq!(filtered(6, 0, 0, 0, 0).await, ("ab".to_owned(), false));
    assert_eq!(filtered(0, 5, 0, 0, 0).await, ("cd".to_owned(), false));
    assert_eq!(filtered(5, 6, 0, 0, 0).await, ("ad".to_owned(), false));
    assert_eq!(filtered(0, 0, 4, 0, 0).await, ("cd".to_owned(), false));
    assert_eq!(filtered(0, 0, 0, 3, 0).await, ("ab".to_owned(), false));
    assert_eq!(filtered(7, 0, 3, 4, 0).await, ("b".to_owned(), false));
    assert_eq!(filtered(0, 5, 0, 0, 1).await, ("c".to_owned(), true));
    assert_eq!(filtered(0, 5, 0, 0, 2).await, ("cd".to_owned(), false));
    assert_eq!(filtered(99, 0, 0, 0, 1).await, (String::new(), false));
}

/// The pieces of a streamed range, merged, are the range's answer.
pub async fn streamed(make: &dyn Make) {
    let s = make.make().await;
    let value = "v".repeat(20_000);
    for i in 0..150 {
        put(&*s, &format!("k{i:03}"), &value).await;
    }
    put(&*s, "l", "").await;
    let requests = [
        range_request("k", "l"),
        range_request("none", ""),
        range_request("k010", ""),
        pb::RangeRequest { limit: 120, ..range_request("k", "l") },
        pb::RangeRequest { keys_only: true, ..everything() },
        pb::RangeRequest { count_only: true, ..everything() },
        pb::RangeRequest { revision: 100, ..everything() },
    ];
    for request in requests {
        let pieces: Vec<_> = s.read_stream(None, request.clone()).await.unwrap().try_collect().await.unwrap();
        let last = pieces.last().expect("a piece").clone();
        let kvs = pieces.into_iter().flat_map(|piece| piece.kvs).collect();
        let merged = pb::RangeResponse { kvs, ..last };
        assert_eq!(merged, s.range(request).await.unwrap());
    }
    let future = pb::RangeRequest { revision: 1000, ..everything() };
    assert_error(s.read_stream(None, future).await.map(|_| ()), ApiError::FutureRevision);
    compact(&*s, 50, false).await;
    let compacted = pb::RangeRequest { revision: 49, ..everything() };
    assert_error(s.read_stream(None, compacted).await.map(|_| ()), ApiError::Compacted);
}

/// A streamed range is of one state, whatever is written meanwhile.
pub async fn streamed_state(make: &dyn Make) {
    let s = make.make().await;
    let value = "v".repeat(100_000);
    for i in 0..80 {
        put(&*s, &format!("k{i:03}"), &value).await;
    }
    let before = s.range(everything()).await.unwrap();
    let mut stream = s.read_stream(None, everything()).await.unwrap();
    let mut kvs = stream.try_next().await.unwrap().expect("a piece").kvs;
    assert!(kvs.len() < 80, "not in pieces");
    s.delete_range(delete_request("\0", "\0")).await.unwrap();
    put(&*s, "k999", "").await;
    while let Some(piece) = stream.try_next().await.unwrap() {
        kvs.extend(piece.kvs);
    }
    assert_eq!(kvs, before.kvs);
}
