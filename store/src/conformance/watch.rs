//! Watches.

use super::Make;
use super::support::*;
use crate::api::StoreExt;
use crate::pb::etcdserverpb as pb;
use crate::pb::mvccpb::KeyValue;
use crate::watch::{WatchItem, WatchSpec};

/// A watch from now on reports what is written afterwards.
pub async fn from_now(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "a", "before").await;
    let mut watcher = s.watch(watch_spec("a", "", 0));
    put(&*s, "a", "1").await;
    put(&*s, "b", "other").await;
    delete(&*s, "a").await;
    delete(&*s, "a").await;
    assert_eq!(next_described(&mut watcher, 2).await, ["PUT a 1 @3", "DELETE a @5"]);
    until_progress(&watcher, 5).await;
}

/// A watch from an old revision reports everything since, then goes on.
pub async fn from_the_past(make: &dyn Make) {
    let s = make.make().await;
    for i in 2..200 {
        put(&*s, &format!("k{}", i % 3), &i.to_string()).await;
    }
    for start in [1, 2, 100, 198, 199] {
        let mut watcher = s.watch(watch_spec("k0", "k2", start));
        let expected = |range: std::ops::Range<i64>| -> Vec<String> {
            let wanted = range.filter(|i| i % 3 != 2);
            wanted.map(|i| format!("PUT k{} {i} @{i}", i % 3)).collect()
        };
        let past = expected(start.max(2)..200);
        assert_eq!(next_described(&mut watcher, past.len()).await, past);
        until_progress(&watcher, s.status().revision).await;
    }
    let mut watcher = s.watch(watch_all(199));
    put(&*s, "next", "").await;
    assert_eq!(next_described(&mut watcher, 2).await, ["PUT k1 199 @199", "PUT next  @200"]);
}

/// A watch from a revision to come waits for it.
pub async fn from_the_future(make: &dyn Make) {
    let s = make.make().await;
    let mut watcher = s.watch(watch_all(5));
    for value in ["2", "3", "4", "5", "6"] {
        put(&*s, "a", value).await;
    }
    assert_eq!(next_described(&mut watcher, 2).await, ["PUT a 5 @5", "PUT a 6 @6"]);
}

/// A watch from below the compacted revision is told so; from that revision
/// itself it works.
pub async fn from_compacted(make: &dyn Make) {
    for physical in [false, true] {
        let s = make.make().await;
        for i in 2..10 {
            put(&*s, &format!("k{i}"), "").await;
        }
        let mut running = s.watch(watch_all(0));
        compact(&*s, 6, physical).await;
        for start in [1, 5] {
            let mut below = s.watch(watch_all(start));
            let item = next_item(&mut below).await;
            assert!(matches!(item, WatchItem::Compacted { compact_revision: 6 }), "{item:?}");
            assert!(below.next().await.is_none());
            assert_eq!(below.progress(), None);
        }
        let mut at = s.watch(watch_all(6));
        let expected: Vec<_> = (6..10).map(|i| format!("PUT k{i}  @{i}")).collect();
        assert_eq!(next_described(&mut at, 4).await, expected);
        put(&*s, "new", "").await;
        assert_eq!(next_described(&mut running, 1).await, ["PUT new  @10"]);
    }
}

/// A deletion at the compacted revision itself can still be watched.
pub async fn deletion_at_the_compacted_revision(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "a", "").await;
    delete(&*s, "a").await;
    put(&*s, "b", "").await;
    compact(&*s, 3, true).await;
    let mut watcher = s.watch(watch_all(3));
    assert_eq!(next_described(&mut watcher, 2).await, ["DELETE a @3", "PUT b  @4"]);
}

/// All events of a revision come together, in the order of the operations;
/// live and from history alike.
pub async fn atomic(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "y", "").await;
    put(&*s, "z", "").await;
    let mut live = s.watch(watch_all(0));
    let ops = vec![op_put("c", "1"), op_delete("y", "\0"), op_put("b", "2"), op_put("a", "3")];
    s.txn(txn_of(ops)).await.unwrap();
    let mut late = s.watch(watch_all(4));
    let expected = ["PUT c 1 @4", "DELETE y @4", "DELETE z @4", "PUT b 2 @4", "PUT a 3 @4"];
    for watcher in [&mut live, &mut late] {
        let WatchItem::Events { revision: 4, events } = next_item(watcher).await else { panic!() };
        assert_eq!(events.iter().map(describe).collect::<Vec<_>>(), expected);
    }
}

/// Many revisions, of several events each, are never split and never joined
/// across a revision's end.
pub async fn whole_revisions(make: &dyn Make) {
    let s = make.make().await;
    let value = "v".repeat(10_000);
    for _ in 0..40 {
        s.txn(txn_of(vec![op_put("a", &value), op_put("b", &value), op_put("c", &value)])).await.unwrap();
    }
    let mut watcher = s.watch(watch_all(2));
    let mut next = 2;
    while next < 42 {
        let WatchItem::Events { revision, events } = next_item(&mut watcher).await else { panic!() };
        let seen: Vec<_> = events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect();
        let expected: Vec<_> = (next..=revision).flat_map(|revision| [revision; 3]).collect();
        assert_eq!(seen, expected);
        next = revision + 1;
    }
}

/// What each event holds.
pub async fn contents(make: &dyn Make) {
    let s = make.make().await;
    grant(&*s, 9, 600).await;
    let mut live = s.watch(WatchSpec { prev_kv: true, ..watch_all(0) });
    let mut plain = s.watch(watch_all(0));
    let mut pairs = Vec::new();
    for request in [put_request("a", "1"), pb::PutRequest { lease: 9, ..put_request("a", "2") }] {
        s.put(request).await.unwrap();
        pairs.push(get(&*s, "a").await.unwrap());
    }
    delete(&*s, "a").await;
    put(&*s, "a", "3").await;
    pairs.push(get(&*s, "a").await.unwrap());
    let tombstone = KeyValue { key: "a".into(), mod_revision: 4, ..KeyValue::default() };
    let expected = [
        (&pairs[0], None),
        (&pairs[1], Some(pairs[0].clone())),
        (&tombstone, Some(pairs[1].clone())),
        (&pairs[2], None),
    ];
    let mut late = s.watch(WatchSpec { prev_kv: true, ..watch_all(2) });
    for watcher in [&mut live, &mut late] {
        for (event, (kv, prev_kv)) in next_events(watcher, 4).await.into_iter().zip(expected.clone()) {
            assert_eq!((event.kv.as_ref(), event.prev_kv), (Some(kv), prev_kv));
        }
    }
    assert!(next_events(&mut plain, 4).await.iter().all(|event| event.prev_kv.is_none()));
}

/// Filters leave out puts or deletions; progress goes on.
pub async fn filters(make: &dyn Make) {
    let s = make.make().await;
    let no_put = WatchSpec { no_put: true, ..watch_all(2) };
    let no_delete = WatchSpec { no_delete: true, ..watch_all(2) };
    let neither = WatchSpec { no_put: true, no_delete: true, ..watch_all(2) };
    let mut live = [no_put.clone(), no_delete.clone(), neither.clone()].map(|spec| s.watch(spec));
    put(&*s, "a", "1").await;
    delete(&*s, "a").await;
    put(&*s, "b", "2").await;
    let mut late = [no_put, no_delete, neither].map(|spec| s.watch(spec));
    for [no_put, no_delete, neither] in [&mut live, &mut late] {
        assert_eq!(next_described(no_put, 1).await, ["DELETE a @3"]);
        assert_eq!(next_described(no_delete, 2).await, ["PUT a 1 @2", "PUT b 2 @4"]);
        for watcher in [no_put, no_delete, neither] {
            until_progress(watcher, 4).await;
        }
    }
}

/// Ranges match as they do in a read.
pub async fn ranges(make: &dyn Make) {
    let s = make.make().await;
    let ranges = [("b", ""), ("b", "c"), ("b", "\0"), ("\0", "\0"), ("c", "b"), ("bb", "d")];
    let mut watchers = ranges.map(|(key, end)| s.watch(watch_spec(key, end, 2)));
    let all = ["a", "b", "ba", "bb", "c", "d"];
    for key in all {
        put(&*s, key, "").await;
    }
    let expected: [&[&str]; 6] =
        [&["b"], &["b", "ba", "bb"], &["b", "ba", "bb", "c", "d"], &all, &[], &["bb", "c"]];
    for (watcher, expected) in watchers.iter_mut().zip(expected) {
        let events = next_events(watcher, expected.len()).await;
        let seen: Vec<_> = events.iter().map(|event| text(&event.kv.as_ref().unwrap().key)).collect();
        assert_eq!(seen, expected);
        until_progress(watcher, 7).await;
    }
}

/// Watchers that come and go while writers write see every event once.
pub async fn under_load(make: &dyn Make) {
    const LAST: i64 = 401;
    let s = make.make().await;
    let write = async {
        for i in 2..=LAST {
            put(&*s, &format!("k{}", i % 10), &i.to_string()).await;
        }
    };
    let read = async |hop: usize| {
        let mut next = 2;
        while next <= LAST {
            let mut watcher = s.watch(watch_all(next));
            for _ in 0..hop {
                let WatchItem::Events { revision, events } = next_item(&mut watcher).await else { panic!() };
                let expected: Vec<_> =
                    (next..=revision).map(|i| format!("PUT k{} {i} @{i}", i % 10)).collect();
                assert_eq!(events.iter().map(describe).collect::<Vec<_>>(), expected);
                next = revision + 1;
                if next > LAST {
                    return;
                }
            }
        }
    };
    let readers = futures::future::join_all([1, 3, 10, usize::MAX].map(read));
    futures::future::join(write, readers).await;
}

/// A consumer that reads nothing for long loses nothing.
pub async fn slow_consumer(make: &dyn Make) {
    let s = make.make().await;
    let mut watcher = s.watch(watch_all(0));
    let value = "v".repeat(100_000);
    for _ in 0..60 {
        put(&*s, "k", &value).await;
    }
    let events = next_events(&mut watcher, 60).await;
    let revisions: Vec<_> = events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision).collect();
    assert_eq!(revisions, (2..62).collect::<Vec<_>>());
    until_progress(&watcher, 61).await;
}
