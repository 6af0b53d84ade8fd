//! The KV service over gRPC: requests, answers, and every refusal.

use crate::common::*;
use bytes::Bytes;
use skiff_store::pb::etcdserverpb::request_op::Request as Op;
use skiff_store::pb::etcdserverpb::*;
use tonic::Code;

fn put_op(key: &str) -> RequestOp {
    let put = PutRequest { key: key.to_owned().into(), ..Default::default() };
    RequestOp { request: Some(Op::RequestPut(put)) }
}

fn delete_op(key: &str, end: &'static [u8]) -> RequestOp {
    let delete = DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: Bytes::from_static(end),
        ..Default::default()
    };
    RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
}

fn range_op(request: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Op::RequestRange(request)) }
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    RequestOp { request: Some(Op::RequestTxn(TxnRequest { success, failure, ..Default::default() })) }
}

fn txn(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..Default::default() }
}

#[tokio::test]
async fn put_get_delete() {
    let server = Server::start().await;
    let key = server.key("a");
    let first = complete(server.put(&key, "1").await.header).revision;
    let put = PutRequest { key: key.clone(), value: "2".into(), prev_kv: true, ..Default::default() };
    let response = server.kv().put(put).await.unwrap().into_inner();
    assert_eq!(complete(response.header).revision, first + 1);
    assert_eq!(response.prev_kv.unwrap().value, "1");
    let response = server.get(&key).await;
    complete(response.header);
    assert_eq!((response.count, response.kvs[0].version, response.kvs[0].mod_revision), (1, 2, first + 1));
    let delete = DeleteRangeRequest { key: key.clone(), prev_kv: true, ..Default::default() };
    let response = server.kv().delete_range(delete.clone()).await.unwrap().into_inner();
    assert_eq!((complete(response.header).revision, response.deleted), (first + 2, 1));
    let response = server.kv().delete_range(delete).await.unwrap().into_inner();
    assert_eq!((complete(response.header).revision, response.deleted), (first + 2, 0));
}

#[tokio::test]
async fn requests_that_are_refused() {
    let server = Server::start().await;
    let mut kv = server.kv();
    let invalid = Code::InvalidArgument;
    refused(kv.range(RangeRequest::default()).await, invalid, "etcdserver: key is not provided");
    if !foreign() {
        let request = RangeRequest { key: "a".into(), sort_order: 9, ..Default::default() };
        refused(kv.range(request).await, invalid, "etcdserver: invalid sort option");
        let request = RangeRequest { key: "a".into(), sort_target: 9, ..Default::default() };
        refused(kv.range(request).await, invalid, "etcdserver: invalid sort option");
    }
    let request = RangeRequest { key: "a".into(), revision: i64::MAX, ..Default::default() };
    let future = "etcdserver: mvcc: required revision is a future revision";
    refused(kv.range(request).await, Code::OutOfRange, future);
    refused(kv.put(PutRequest::default()).await, invalid, "etcdserver: key is not provided");
    let put = |edit: fn(&mut PutRequest)| {
        let mut request = PutRequest { key: server.key("none"), ..Default::default() };
        edit(&mut request);
        request
    };
    let request = put(|r| (r.ignore_value, r.value) = (true, "x".into()));
    refused(kv.put(request).await, invalid, "etcdserver: value is provided");
    let request = put(|r| (r.ignore_lease, r.lease) = (true, 3));
    refused(kv.put(request).await, invalid, "etcdserver: lease is provided");
    let request = put(|r| (r.ignore_value, r.value, r.ignore_lease, r.lease) = (true, "x".into(), true, 3));
    refused(kv.put(request).await, invalid, "etcdserver: value is provided");
    refused(kv.put(put(|r| r.ignore_value = true)).await, invalid, "etcdserver: key not found");
    refused(kv.put(put(|r| r.ignore_lease = true)).await, invalid, "etcdserver: key not found");
    let missing = "etcdserver: requested lease not found";
    refused(kv.put(put(|r| r.lease = 123456)).await, Code::NotFound, missing);
    refused(kv.delete_range(DeleteRangeRequest::default()).await, invalid, "etcdserver: key is not provided");
    let compact = CompactionRequest { revision: i64::MAX, physical: false };
    refused(kv.compact(compact).await, Code::OutOfRange, future);
}

#[tokio::test]
async fn transactions_that_are_refused() {
    let server = Server::start().await;
    let mut kv = server.kv();
    let duplicate = "etcdserver: duplicate key given in txn request";
    let cases = [
        (vec![put_op("")], "etcdserver: key is not provided"),
        (vec![delete_op("", b"")], "etcdserver: key is not provided"),
        (vec![RequestOp::default()], "etcdserver: key not found"),
        (vec![put_op("a"), put_op("a")], duplicate),
        (vec![put_op("a"), delete_op("a", b"")], duplicate),
        (vec![delete_op("a", b"c"), put_op("b")], duplicate),
        (vec![nested(vec![put_op("a")], vec![]), put_op("a")], duplicate),
        (vec![nested(vec![put_op("a"), put_op("a")], vec![])], duplicate),
        (vec![nested(vec![put_op("a")], vec![]), nested(vec![], vec![put_op("a")])], duplicate),
        (vec![nested(vec![], vec![delete_op("a", b"c")]), put_op("b")], duplicate),
        (vec![delete_op("a", b"c"), nested(vec![], vec![put_op("b")])], duplicate),
        (
            (0..129).map(|i| put_op(&i.to_string())).collect(),
            "etcdserver: too many operations in txn request",
        ),
        (
            [put_op("x")]
                .into_iter()
                .chain([nested((0..127).map(|i| put_op(&i.to_string())).collect(), vec![])])
                .collect(),
            "etcdserver: too many operations in txn request",
        ),
    ];
    for (ops, text) in cases {
        refused(kv.txn(txn(ops.clone())).await, Code::InvalidArgument, text);
        let in_failure = TxnRequest { failure: ops, ..Default::default() };
        refused(kv.txn(in_failure).await, Code::InvalidArgument, text);
    }
    let compare = TxnRequest { compare: vec![Compare::default()], ..Default::default() };
    refused(kv.txn(compare).await, Code::InvalidArgument, "etcdserver: key is not provided");
}

#[tokio::test]
async fn transactions_that_look_alike_but_are_taken() {
    let server = Server::start().await;
    let name = |n: &str| String::from_utf8(server.key(n).to_vec()).unwrap();
    let (a, b) = (name("a"), name("b"));
    let cases = [
        vec![],
        vec![nested(vec![put_op(&a)], vec![put_op(&a)])],
        vec![delete_op(&a, b""), delete_op(&a, b"")],
        vec![nested(vec![put_op(&a)], vec![]), nested(vec![], vec![delete_op(&a, b"")])],
        vec![delete_op(&a, b"\0"), put_op(&a)],
        vec![put_op(&b), nested(vec![put_op(&a)], vec![])],
        (0..128).map(|i| put_op(&name(&i.to_string()))).collect(),
    ];
    for ops in cases {
        let response = server.kv().txn(txn(ops.clone())).await.unwrap_or_else(|e| panic!("{ops:?}: {e}"));
        let response = response.into_inner();
        complete(response.header);
        assert!(response.succeeded);
        assert_eq!(response.responses.len(), ops.len());
    }
}

#[tokio::test]
async fn inner_answers_of_a_transaction() {
    let server = Server::start().await;
    let key = server.key("a");
    let name = String::from_utf8(key.to_vec()).unwrap();
    let other = String::from_utf8(server.key("b").to_vec()).unwrap();
    server.put(&server.key("b"), "1").await;
    let range = range_op(RangeRequest { key: key.clone(), ..Default::default() });
    let ops = vec![put_op(&name), range.clone(), nested(vec![range.clone()], vec![]), delete_op(&other, b"")];
    let response = server.kv().txn(txn(ops)).await.unwrap().into_inner();
    let revision = complete(response.header).revision;
    let only_revision = Some(ResponseHeader { revision, ..Default::default() });
    use response_op::Response::*;
    for inner in response.responses {
        match inner.response.unwrap() {
            ResponsePut(put) => assert_eq!(put.header, only_revision),
            ResponseRange(range) => assert_eq!((range.header, range.count), (only_revision, 1)),
            ResponseDeleteRange(delete) => assert_eq!((delete.header, delete.deleted), (only_revision, 1)),
            ResponseTxn(txn) => {
                assert_eq!(txn.header.map(|h| (h.cluster_id, h.member_id, h.raft_term)), Some((0, 0, 0)));
                assert!(txn.succeeded);
            }
        }
    }
    let response = server.kv().txn(txn(vec![range])).await.unwrap().into_inner();
    assert_eq!(complete(response.header).revision, revision);
}

#[tokio::test]
async fn large_requests() {
    let server = Server::start().await;
    let put = |bytes: usize| PutRequest {
        key: server.key("big"),
        value: vec![0; bytes].into(),
        ..Default::default()
    };
    let limit = 3 << 19;
    let mut kv = server.kv();
    kv.put(put(limit - 1000)).await.unwrap();
    refused(kv.put(put(limit)).await, Code::InvalidArgument, "etcdserver: request is too large");
    let request = put(limit + (512 << 10));
    let bytes = prost::Message::encoded_len(&request);
    let text = format!("grpc: received message larger than max ({bytes} vs. {})", limit + (512 << 10));
    refused(kv.put(request).await, Code::ResourceExhausted, &text);
    // The connection goes on.
    kv.put(put(10)).await.unwrap();
}

#[tokio::test]
async fn the_size_limit_is_exact() {
    let server = Server::start().await;
    let key = server.key("exact");
    let taken = |bytes: usize| {
        let request = PutRequest { key: key.clone(), value: vec![1; bytes].into(), ..Default::default() };
        let mut kv = server.kv();
        async move { kv.put(request).await.is_ok() }
    };
    let (mut low, mut high) = ((3 << 19) - 1000, 3 << 19);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if taken(middle).await { low = middle } else { high = middle }
    }
    // What etcd wraps around a put: 18 bytes in its log, then the two fields.
    assert_eq!((3 << 19) - low - key.len(), 18 + 2 + 4);
}

#[tokio::test]
async fn compaction() {
    let server = Server::start().await;
    let key = server.key("a");
    let first = server.put(&key, "1").await.header.unwrap().revision;
    server.put(&key, "2").await;
    let last = server.put(&key, "3").await.header.unwrap().revision;
    let compact = |revision, physical| CompactionRequest { revision, physical };
    let response = server.kv().compact(compact(last, true)).await.unwrap().into_inner();
    complete(response.header);
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    refused(server.kv().compact(compact(last, false)).await, Code::OutOfRange, compacted);
    let request = RangeRequest { key: key.clone(), revision: first, ..Default::default() };
    refused(server.kv().range(request).await, Code::OutOfRange, compacted);
    assert_eq!(server.get(&key).await.kvs[0].value, "3");
}

#[tokio::test]
async fn range_stream() {
    if foreign() {
        return;
    }
    let server = Server::start().await;
    for i in 0..300 {
        server.put(&server.key(&format!("{i:03}")), &"v".repeat(10_000)).await;
    }
    let request =
        RangeRequest { key: server.key(""), range_end: server.end(), limit: 250, ..Default::default() };
    let whole = server.kv().range(request.clone()).await.unwrap().into_inner();
    let mut stream = server.kv().range_stream(request.clone()).await.unwrap().into_inner();
    let mut merged = RangeResponse::default();
    let mut chunks = 0;
    while let Some(chunk) = within(stream.message()).await.unwrap() {
        let chunk = chunk.range_response.unwrap();
        assert!(merged.header.is_none(), "a header before the last chunk");
        merged.kvs.extend(chunk.kvs);
        (merged.header, merged.more, merged.count) = (chunk.header, chunk.more, chunk.count);
        chunks += 1;
    }
    assert!(chunks > 1);
    assert_eq!(merged, whole);
    let sorted = RangeRequest { sort_order: 2, ..request };
    let error = match server.kv().range_stream(sorted).await {
        Ok(mut stream) => stream.get_mut().message().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.code(), Code::Unimplemented);
}
