//! The load a Kubernetes API server puts on its store: transactions that create, update and delete by mod
//! revision, paged lists pinned to a revision, streamed lists, a watch with progress requests every
//! 100 ms, compaction by compare-and-swap.
//!
//! `SKIFF_KUBERNETES_OBJECTS`: how many objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skiff_test_support::pb::etcdserverpb::request_op::Request;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::rpc::{create_watch, watch_progress};
use skiff_test_support::{Client, Member, Program, Scratch};
use tonic::Code;

const PREFIX: &str = "/registry/pods/";
const PREFIX_END: &str = "/registry/pods0";
const CLIENTS: u64 = 64;
const PAGE: i64 = 500;

fn key(number: u64) -> Bytes {
    format!("{PREFIX}namespace-{}/pod-{number:07}", number % 50).into()
}

fn mod_revision_is(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(compare::TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn get(key: &Bytes) -> RequestOp {
    op(Request::RequestRange(RangeRequest { key: key.clone(), ..RangeRequest::default() }))
}

/// What the API server sends to create (revision 0) or update an object.
fn write(key: &Bytes, revision: i64, value: String) -> TxnRequest {
    let put = PutRequest { key: key.clone(), value: value.into(), ..PutRequest::default() };
    let failure = if revision == 0 { Vec::new() } else { vec![get(key)] };
    let success = vec![op(Request::RequestPut(put))];
    TxnRequest { compare: vec![mod_revision_is(key, revision)], success, failure }
}

fn remove(key: &Bytes, revision: i64) -> TxnRequest {
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    let success = vec![op(Request::RequestDeleteRange(delete))];
    TxnRequest { compare: vec![mod_revision_is(key, revision)], success, failure: vec![get(key)] }
}

fn list(start: Bytes, limit: i64, revision: i64) -> RangeRequest {
    RangeRequest { key: start, range_end: PREFIX_END.into(), limit, revision, ..RangeRequest::default() }
}

fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |header| header.revision)
}

async fn create_all(member: &Member, count: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, next) = (member.client(), next.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        return;
                    }
                    let value = format!("{number:0>300}");
                    let answer = client.txn(write(&key(number), 0, value)).await.expect("a create");
                    assert!(answer.succeeded, "each object is created once");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("creates succeed");
    }
}

/// Reads all pages, pinned to the revision of the first one.
async fn paged(client: &Client) -> (Vec<Bytes>, i64) {
    let (mut keys, mut pinned, mut start) = (Vec::new(), 0, Bytes::from(PREFIX));
    loop {
        let page = client.range(list(start, PAGE, pinned)).await.expect("a page");
        if pinned == 0 {
            pinned = revision(&page.header);
        }
        assert!(page.kvs.iter().all(|kv| kv.mod_revision <= pinned), "nothing newer than the list");
        let (last, length) = (page.kvs.last().map(|kv| kv.key.clone()), page.kvs.len() as i64);
        assert_eq!(page.more, page.count > length, "count is of the whole rest");
        keys.extend(page.kvs.into_iter().map(|kv| kv.key));
        match last {
            Some(last) if page.more => start = [&last[..], b"\0"].concat().into(),
            _ => return (keys, pinned),
        }
    }
}

/// Watches everything from the first revision, asking for progress every 100 ms, until told to end;
/// answers the number of events.
async fn watch(client: Client, from: i64, until: Arc<AtomicU64>) -> u64 {
    let request = WatchCreateRequest {
        key: PREFIX.into(),
        range_end: PREFIX_END.into(),
        start_revision: from,
        progress_notify: true,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let mut stream = client.watch(create_watch(request)).await.expect("a watch");
    let (mut events, mut newest, mut progress) = (0, 0, 0);
    let mut ask = Instant::now();
    let deadline = Instant::now() + Duration::from_secs(240);
    while until.load(Ordering::SeqCst) == 0 || events < until.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "the watch saw {events} events only");
        if Instant::now() >= ask {
            stream.send(watch_progress()).await.expect("the stream lives");
            ask = Instant::now() + Duration::from_millis(100);
        }
        let answer = match stream.next(Duration::from_millis(50)).await {
            Ok(Some(answer)) => answer,
            Err(error) if error.message() == "no message on the stream" => continue,
            other => panic!("the watch ended: {other:?}"),
        };
        assert!(!answer.canceled, "{answer:?}");
        if answer.events.is_empty() && !answer.created {
            progress = progress.max(revision(&answer.header));
        }
        for event in answer.events {
            let kv = event.kv.expect("a key");
            assert!(kv.mod_revision > newest, "events come in order, once");
            assert!(kv.mod_revision > progress, "progress was reported beyond an event to come");
            let created = event.r#type == 0 && kv.create_revision == kv.mod_revision;
            assert_eq!(created, event.prev_kv.is_none(), "all but creations show what was before");
            newest = kv.mod_revision;
            events += 1;
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_servers_load() {
    let objects =
        std::env::var("SKIFF_KUBERNETES_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
    let is_etcd = subject.is_etcd();
    let scratch = Scratch::new("kubernetes");
    let member = Member::single(subject, scratch.path()).await.expect("it starts");
    let client = member.client().with_deadline(Duration::from_secs(60));
    let until = Arc::new(AtomicU64::new(0));
    let watcher = tokio::spawn(watch(member.client(), 1, until.clone()));

    let started = Instant::now();
    create_all(&member, objects).await;
    println!("{objects} created in {:?}", started.elapsed());
    let again = client.txn(write(&key(0), 0, "again".to_owned())).await.expect("an answer");
    assert!(!again.succeeded, "an object is not created twice");

    // Updates go on while the list is read page by page.
    let stop = Arc::new(AtomicBool::new(false));
    let updater = tokio::spawn(update(member.client(), objects, stop.clone()));
    let started = Instant::now();
    let (keys, pinned) = paged(&client).await;
    println!("{} listed in pages in {:?}", keys.len(), started.elapsed());
    assert_eq!(keys.len() as u64, objects);
    assert!(keys.is_sorted(), "pages follow each other in key order");
    stop.store(true, Ordering::SeqCst);
    let updates = updater.await.expect("updates succeed");

    let count = RangeRequest { count_only: true, ..list(PREFIX.into(), 0, 0) };
    assert_eq!(client.range(count).await.expect("a count").count as u64, objects);
    match client.range_stream(list(PREFIX.into(), 0, pinned)).await {
        Ok(chunks) => {
            let parts = chunks.iter().filter_map(|chunk| chunk.range_response.as_ref());
            let streamed: Vec<Bytes> =
                parts.flat_map(|part| part.kvs.iter().map(|kv| kv.key.clone())).collect();
            assert!(streamed == keys, "the stream and the pages show the same");
            let last = chunks.last().and_then(|chunk| chunk.range_response.as_ref()).expect("a last chunk");
            assert_eq!((last.count as u64, last.more), (objects, false));
        }
        Err(error) => assert!(is_etcd && error.code() == Code::Unimplemented, "{error:?}"),
    }

    let deletes = delete_some(&client, objects / 100).await;
    compact(&client).await;
    let old = client.range(list(PREFIX.into(), PAGE, pinned)).await.expect_err("the list is too old");
    assert_eq!(
        (old.code(), old.message()),
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted")
    );
    until.store(objects + updates + deletes, Ordering::SeqCst);
    let seen = watcher.await.expect("the watch holds its rules");
    assert_eq!(seen, objects + updates + deletes);
    println!("{seen} events seen");
}

/// Updates objects by their mod revision until told to stop; answers how many.
async fn update(client: Client, objects: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::SeqCst) {
        let key = key(done * 7919 % objects);
        let found = client.range(RangeRequest { key: key.clone(), ..RangeRequest::default() }).await;
        let current = found.expect("a read").kvs[0].mod_revision;
        let stale = client.txn(write(&key, current - 1, "stale".to_owned())).await.expect("an answer");
        assert!(!stale.succeeded, "a stale revision writes nothing");
        let answer = client.txn(write(&key, current, format!("updated {done}"))).await.expect("an update");
        assert!(answer.succeeded, "the current revision writes");
        done += 1;
    }
    done
}

async fn delete_some(client: &Client, count: u64) -> u64 {
    for number in 0..count {
        let key = key(number);
        let found = client.range(RangeRequest { key: key.clone(), ..RangeRequest::default() }).await;
        let current = found.expect("a read").kvs[0].mod_revision;
        assert!(client.txn(remove(&key, current)).await.expect("a delete").succeeded);
    }
    count
}

/// The API server's compaction: whoever wins the swap of the key's version compacts.
async fn compact(client: &Client) {
    let key = Bytes::from_static(b"compact_rev_key");
    let put = PutRequest { key: key.clone(), value: "1".into(), ..PutRequest::default() };
    let compare = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Version.into(),
        key: key.clone(),
        target_union: Some(compare::TargetUnion::Version(0)),
        ..Compare::default()
    };
    let request = TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put))],
        failure: vec![get(&key)],
    };
    let won = client.txn(request.clone()).await.expect("an answer");
    assert!(won.succeeded);
    let lost = client.txn(request).await.expect("an answer");
    assert!(!lost.succeeded, "only one wins");
    let request = CompactionRequest { revision: revision(&won.header), physical: false };
    client.compact(request).await.expect("a compaction");
}
