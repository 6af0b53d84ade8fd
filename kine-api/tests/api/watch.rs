//! The Watch service over gRPC.

use std::time::Duration;

use crate::common::*;
use bytes::Bytes;
use skiff_kine_api::ApiConfig;
use skiff_store::pb::etcdserverpb::watch_create_request::FilterType;
use skiff_store::pb::etcdserverpb::*;
use skiff_store::pb::mvccpb::event::EventType;

fn watch_key(key: &Bytes) -> WatchCreateRequest {
    WatchCreateRequest { key: key.clone(), ..Default::default() }
}

/// Collects events of a watch until there are `count`.
async fn events(watches: &mut Watches, id: i64, count: usize) -> Vec<skiff_store::pb::mvccpb::Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let response = watches.next().await;
        assert_eq!((response.watch_id, response.canceled, response.created), (id, false, false));
        complete(response.header);
        events.extend(response.events);
    }
    events
}

#[tokio::test]
async fn created_then_events() {
    let server = Server::start().await;
    let (a, b) = (server.key("a"), server.key("b"));
    let mut watches = server.watch().await;
    let created = watches.create(watch_key(&a)).await;
    let revision = complete(created.header).revision;
    assert_eq!((created.watch_id, created.created, created.canceled), (0, true, false));
    server.put(&b, "other").await;
    server.put(&a, "1").await;
    server.kv().delete_range(DeleteRangeRequest { key: a.clone(), ..Default::default() }).await.unwrap();
    let events = events(&mut watches, 0, 2).await;
    assert_eq!(events[0].r#type(), EventType::Put);
    assert_eq!(events[0].kv.as_ref().unwrap().mod_revision, revision + 2);
    assert_eq!(events[1].r#type(), EventType::Delete);
    let tombstone = events[1].kv.as_ref().unwrap();
    assert_eq!((tombstone.mod_revision, tombstone.create_revision, tombstone.version), (revision + 3, 0, 0));
}

#[tokio::test]
async fn history_filters_and_previous_pairs() {
    let server = Server::start().await;
    let a = server.key("a");
    let first = server.put(&a, "1").await.header.unwrap().revision;
    server.put(&a, "2").await;
    server.kv().delete_range(DeleteRangeRequest { key: a.clone(), ..Default::default() }).await.unwrap();
    let mut watches = server.watch().await;
    let create = |watch_id, filters: Vec<FilterType>| WatchCreateRequest {
        start_revision: first,
        prev_kv: true,
        watch_id,
        filters: filters.into_iter().map(|f| f as i32).collect(),
        ..watch_key(&a)
    };
    watches.create(create(5, vec![])).await;
    let all = events(&mut watches, 5, 3).await;
    assert!(all[0].prev_kv.is_none());
    assert_eq!(all[1].prev_kv.as_ref().unwrap().value, "1");
    assert_eq!(all[2].prev_kv.as_ref().unwrap().value, "2");
    watches.create(create(6, vec![FilterType::Noput])).await;
    assert_eq!(events(&mut watches, 6, 1).await[0].r#type(), EventType::Delete);
    watches.create(create(7, vec![FilterType::Nodelete])).await;
    assert_eq!(events(&mut watches, 7, 2).await.len(), 2);
}

#[tokio::test]
async fn ids() {
    let server = Server::start().await;
    let a = server.key("a");
    let mut watches = server.watch().await;
    let with_id = |watch_id| WatchCreateRequest { watch_id, ..watch_key(&a) };
    assert_eq!(watches.create(with_id(0)).await.watch_id, 0);
    assert_eq!(watches.create(with_id(1)).await.watch_id, 1);
    assert_eq!(watches.create(with_id(0)).await.watch_id, 2);
    let twice = watches.create(with_id(1)).await;
    assert_eq!((twice.watch_id, twice.created, twice.canceled), (-1, true, true));
    assert_eq!(twice.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    watches.cancel(1).await;
    let canceled = watches.next().await;
    complete(canceled.header);
    assert_eq!((canceled.watch_id, canceled.created, canceled.canceled), (1, false, true));
    assert_eq!(canceled.cancel_reason, "");
    // One that is not there is not answered: the next answer is the create's.
    watches.cancel(99).await;
    assert_eq!(watches.create(with_id(1)).await.watch_id, 1);
}

#[tokio::test]
async fn empty_ranges_are_refused() {
    let server = Server::start().await;
    let mut watches = server.watch().await;
    for end in ["a", "b"] {
        let request = WatchCreateRequest { range_end: end.into(), ..watch_key(&"b".into()) };
        let response = watches.create(request).await;
        complete(response.header);
        assert_eq!((response.watch_id, response.created, response.canceled), (-1, true, true));
        assert_eq!(response.cancel_reason, "mvcc: watcher range is empty");
    }
}

#[tokio::test]
async fn negative_starts_are_refused() {
    let server = Server::start().await;
    let mut watches = server.watch().await;
    let negative = |key: &Bytes| WatchCreateRequest { start_revision: -1, ..watch_key(key) };
    let empty = WatchCreateRequest { range_end: "a".into(), ..negative(&"b".into()) };
    for request in [negative(&server.key("a")), empty] {
        let response = watches.create(request).await;
        complete(response.header);
        assert_eq!((response.watch_id, response.created, response.canceled), (-1, true, true));
        assert_eq!(response.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(response.compact_revision, 0);
    }
}

#[tokio::test]
async fn unusual_ranges() {
    let server = Server::start().await;
    let mut watches = server.watch().await;
    // No key at all stands for the smallest one; a zero byte ends everything.
    let all = WatchCreateRequest { range_end: Bytes::from_static(&[0]), ..Default::default() };
    assert!(!watches.create(all).await.canceled);
    let smallest = WatchCreateRequest::default();
    assert!(!watches.create(smallest).await.canceled);
    let unknown_filter = WatchCreateRequest { filters: vec![9], watch_id: -7, ..watch_key(&"x".into()) };
    assert_eq!(watches.create(unknown_filter).await.watch_id, -7);
    let a = server.key("a");
    server.put(&a, "1").await;
    let response = watches.next().await;
    assert_eq!((response.watch_id, response.events.len()), (0, 1));
}

#[tokio::test]
async fn a_compacted_start() {
    let server = Server::start().await;
    let a = server.key("a");
    let first = server.put(&a, "1").await.header.unwrap().revision;
    let last = server.put(&a, "2").await.header.unwrap().revision;
    server.kv().compact(CompactionRequest { revision: last, physical: true }).await.unwrap();
    let mut watches = server.watch().await;
    let created = watches.create(WatchCreateRequest { start_revision: first, ..watch_key(&a) }).await;
    assert_eq!((created.watch_id, created.created, created.canceled), (0, true, false));
    let canceled = watches.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled, canceled.compact_revision), (0, true, last));
    complete(canceled.header);
    assert_eq!(canceled.cancel_reason, "");
    // The stream goes on.
    assert_eq!(watches.create(watch_key(&a)).await.watch_id, 1);
}

#[tokio::test]
async fn progress_on_request() {
    let server = Server::start().await;
    let a = server.key("a");
    let mut watches = server.watch().await;
    watches.create(watch_key(&a)).await;
    watches.create(watch_key(&server.key("b"))).await;
    let revision = server.put(&server.key("elsewhere"), "1").await.header.unwrap().revision;
    watches.progress().await;
    let mut progress = watches.next().await;
    assert_eq!((progress.watch_id, progress.events.len(), progress.created), (-1, 0, false));
    // The hub may not have seen the put yet; ask until it has.
    while complete(progress.header).revision < revision {
        watches.progress().await;
        progress = watches.next().await;
    }
    assert_eq!(complete(progress.header).revision, revision);
}

#[tokio::test]
async fn progress_never_overtakes_events() {
    let server = Server::start().await;
    let a = server.key("a");
    let start = server.revision().await + 1;
    for i in 0..500 {
        server.put(&a, &i.to_string()).await;
    }
    let mut watches = server.watch().await;
    watches.create(WatchCreateRequest { start_revision: start, ..watch_key(&a) }).await;
    watches.progress().await;
    let mut seen = start - 1;
    // A real etcd answers only if all are synced when asked.
    while seen < start + 499 {
        let response = watches.next().await;
        match response.events.last() {
            Some(event) => seen = event.kv.as_ref().unwrap().mod_revision,
            None => assert!(complete(response.header).revision <= seen),
        }
    }
    watches.progress().await;
    let response = watches.next().await;
    assert_eq!((response.watch_id, complete(response.header).revision), (-1, seen));
}

#[tokio::test]
async fn progress_by_interval() {
    if foreign() {
        return;
    }
    let config = ApiConfig { progress_interval: Duration::from_millis(100), ..Default::default() };
    let server = Server::with(config).await;
    let a = server.key("a");
    let mut watches = server.watch().await;
    watches.create(WatchCreateRequest { progress_notify: true, watch_id: 4, ..watch_key(&a) }).await;
    watches.create(WatchCreateRequest { watch_id: 5, ..watch_key(&a) }).await;
    let revision = server.put(&server.key("b"), "1").await.header.unwrap().revision;
    loop {
        let response = watches.next().await;
        assert_eq!((response.watch_id, response.events.len()), (4, 0));
        if complete(response.header).revision == revision {
            break;
        }
    }
}

#[tokio::test]
async fn fragments() {
    let server = Server::start().await;
    let start = server.revision().await + 1;
    // One revision larger than a request may be, by many small operations.
    for round in 0..3 {
        for i in 0..4 {
            let key = server.key(&format!("{round}-{i}"));
            server.put(&key, &"v".repeat(500_000)).await;
        }
    }
    server
        .kv()
        .delete_range(DeleteRangeRequest {
            key: server.key(""),
            range_end: server.end(),
            ..Default::default()
        })
        .await
        .unwrap();
    let mut watches = server.watch().await;
    watches
        .create(WatchCreateRequest {
            range_end: server.end(),
            start_revision: start,
            prev_kv: true,
            fragment: true,
            ..watch_key(&server.key(""))
        })
        .await;
    let mut count = 0;
    let mut fragments = 0;
    while count < 24 {
        let response = watches.next().await;
        assert!(
            response.events.len() == 1 || prost::Message::encoded_len(&response) < (3 << 19) + (512 << 10)
        );
        count += response.events.len();
        fragments += usize::from(response.fragment);
        if count == 24 {
            assert!(!response.fragment);
        }
    }
    assert!(fragments > 0);
}

#[tokio::test]
async fn many_watches_on_one_stream() {
    const WATCHES: usize = 2000;
    let server = Server::start().await;
    let mut watches = server.watch().await;
    for i in 0..WATCHES {
        let response = watches.create(watch_key(&server.key(&i.to_string()))).await;
        assert_eq!(response.watch_id, i as i64);
    }
    for i in (0..WATCHES).step_by(97) {
        server.put(&server.key(&i.to_string()), "x").await;
        assert_eq!(watches.next().await.watch_id, i as i64);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_nothing() {
    let server = Server::start().await;
    let a = server.key("a");
    let mut watches = server.watch().await;
    let created = watches.create(watch_key(&a)).await;
    let first = created.header.unwrap().revision + 1;
    let value = "v".repeat(100_000);
    for _ in 0..200 {
        server.put(&a, &value).await;
    }
    let seen = events(&mut watches, 0, 200).await;
    let revisions: Vec<i64> = seen.iter().map(|e| e.kv.as_ref().unwrap().mod_revision).collect();
    assert_eq!(revisions, (first..first + 200).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_end_of_the_requests_leaves_the_watches() {
    let server = Server::start().await;
    let a = server.key("a");
    let mut watches = server.watch().await;
    watches.create(watch_key(&a)).await;
    watches.finish();
    server.put(&a, "1").await;
    assert_eq!(watches.next().await.events.len(), 1);
}
