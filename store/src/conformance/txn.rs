//! Transactions.

use bytes::Bytes;

use super::Make;
use super::support::*;
use crate::api::{Store, StoreExt};
use crate::error::ApiError;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::compare::CompareResult::{self, Equal, Greater, Less, NotEqual};
use crate::pb::etcdserverpb::compare::TargetUnion;
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response;

/// A target with a number, by its place in the list of targets.
fn number(target: usize, n: i64) -> TargetUnion {
    match target {
        0 => TargetUnion::Version(n),
        1 => TargetUnion::CreateRevision(n),
        2 => TargetUnion::ModRevision(n),
        _ => TargetUnion::Lease(n),
    }
}

async fn holds<S: Store + ?Sized>(s: &S, compare: pb::Compare) -> bool {
    let request = pb::TxnRequest { compare: vec![compare], ..Default::default() };
    s.read_txn(request).await.expect("txn").succeeded
}

fn expected<T: Ord>(result: CompareResult, actual: T, given: T) -> bool {
    match result {
        Equal => actual == given,
        Greater => actual > given,
        Less => actual < given,
        NotEqual => actual != given,
    }
}

/// Every target and result, on a key that is there and on one that is not.
pub async fn compares(make: &dyn Make) {
    let s = make.make().await;
    grant(&*s, 4, 1000).await;
    put(&*s, "other", "").await;
    put(&*s, "a", "m").await;
    s.put(pb::PutRequest { lease: 4, ..put_request("a", "m") }).await.unwrap();
    // version 2, create 3, mod 4, lease 4; a missing key has 0 of everything.
    for result in [Equal, Greater, Less, NotEqual] {
        for (key, actual) in [("a", [2, 3, 4, 4]), ("none", [0; 4])] {
            for (target, actual) in actual.into_iter().enumerate() {
                for given in [actual - 1, actual, actual + 1] {
                    let held = holds(&*s, compare(key, result, number(target, given))).await;
                    assert_eq!(held, expected(result, actual, given), "{key} {target} {result:?} {given}");
                }
            }
        }
        for given in ["", "l", "m", "ma"] {
            let value = TargetUnion::Value(Bytes::from_static(given.as_bytes()));
            let held = holds(&*s, compare("a", result, value.clone())).await;
            assert_eq!(held, expected(result, "m", given), "{result:?} {given}");
            assert!(!holds(&*s, compare("none", result, value)).await, "a missing key has no value");
        }
    }
}

/// A condition on a range holds if it does for every key in it.
pub async fn range_compares(make: &dyn Make) {
    let s = make.make().await;
    for key in ["a", "b", "b", "c"] {
        put(&*s, key, key).await;
    }
    let of = |key, end: &'static str, result, union| pb::Compare {
        range_end: Bytes::from_static(end.as_bytes()),
        ..compare(key, result, union)
    };
    assert!(holds(&*s, of("a", "b", Equal, TargetUnion::Version(1))).await);
    assert!(!holds(&*s, of("a", "c", Equal, TargetUnion::Version(1))).await);
    assert!(holds(&*s, of("a", "c", Greater, TargetUnion::Version(0))).await);
    assert!(holds(&*s, of("a", "\0", Less, TargetUnion::ModRevision(6))).await);
    assert!(!holds(&*s, of("a", "\0", Less, TargetUnion::ModRevision(5))).await);
    assert!(holds(&*s, of("\0", "\0", Less, TargetUnion::Value("d".into()))).await);
    assert!(!holds(&*s, of("\0", "\0", Less, TargetUnion::Value("c".into()))).await);
    // An empty range compares like a missing key.
    assert!(holds(&*s, of("x", "z", Equal, TargetUnion::ModRevision(0))).await);
    assert!(!holds(&*s, of("x", "z", Greater, TargetUnion::Version(0))).await);
    assert!(!holds(&*s, of("x", "z", NotEqual, TargetUnion::Value("v".into()))).await);
}

/// All conditions together pick the branch; its answers come in order.
pub async fn branches(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "a", "1").await;
    let request = |version| pb::TxnRequest {
        compare: vec![
            compare("a", Equal, TargetUnion::Value("1".into())),
            compare("b", Equal, TargetUnion::Version(version)),
        ],
        success: vec![op_put("b", "then"), op_get("b")],
        failure: vec![op_get("b"), op_delete("a", ""), op_get("a")],
    };
    let then = s.txn(request(0)).await.unwrap();
    assert!(then.succeeded);
    assert_eq!((revision(&then.header), then.responses.len()), (3, 2));
    assert_eq!(text(&range_at(&then, 1).kvs[0].value), "then");
    let or_else = s.txn(request(0)).await.unwrap();
    assert!(!or_else.succeeded);
    assert_eq!((revision(&or_else.header), or_else.responses.len()), (4, 3));
    assert_eq!(range_at(&or_else, 0).count, 1);
    assert_eq!(range_at(&or_else, 2).count, 0);
    let Some(Response::ResponseDeleteRange(deleted)) = &or_else.responses[1].response else { panic!() };
    assert_eq!((deleted.deleted, revision(&deleted.header)), (1, 4));
}

/// All writes of a transaction take one revision; one that writes nothing
/// takes none.
pub async fn one_revision(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "gone", "").await;
    let ops = vec![
        op_get("a"),
        op_put("a", "1"),
        op_get("a"),
        op_put("b", "2"),
        op_delete("gone", ""),
        op_get("gone"),
    ];
    let done = s.txn(txn_of(ops)).await.unwrap();
    assert_eq!(revision(&done.header), 3);
    for key in ["a", "b"] {
        let kv = get(&*s, key).await.unwrap();
        assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (3, 3, 1));
    }
    // Ranges inside say the revision that they see.
    assert_eq!(revision(&range_at(&done, 0).header), 2);
    assert_eq!(revision(&range_at(&done, 2).header), 3);
    assert_eq!((range_at(&done, 0).count, range_at(&done, 2).count, range_at(&done, 5).count), (0, 1, 0));
    let Some(Response::ResponsePut(put)) = &done.responses[3].response else { panic!() };
    assert_eq!(revision(&put.header), 3);

    let nothing = s.txn(txn_of(vec![op_delete("none", ""), op_get("a")])).await.unwrap();
    assert_eq!(revision(&nothing.header), 3);
    let read = s.read_txn(txn_of(vec![op_get("a"), op_get("b")])).await.unwrap();
    assert_eq!((revision(&read.header), range_at(&read, 1).count), (3, 1));
    assert_eq!(s.txn(pb::TxnRequest::default()).await.unwrap().responses, []);
}

/// Operations answer with what they are asked for inside a transaction too.
pub async fn options_inside(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "a", "1").await;
    put(&*s, "b", "2").await;
    let before = (get(&*s, "a").await, get(&*s, "b").await);
    let ops = vec![
        op(Request::RequestPut(pb::PutRequest { prev_kv: true, ..put_request("a", "3") })),
        op(Request::RequestDeleteRange(pb::DeleteRangeRequest { prev_kv: true, ..delete_request("b", "") })),
        op(Request::RequestRange(pb::RangeRequest { revision: 2, ..everything() })),
        op(Request::RequestRange(pb::RangeRequest { count_only: true, ..everything() })),
    ];
    let done = s.txn(txn_of(ops)).await.unwrap();
    let Some(Response::ResponsePut(put)) = &done.responses[0].response else { panic!() };
    assert_eq!(put.prev_kv, before.0);
    let Some(Response::ResponseDeleteRange(deleted)) = &done.responses[1].response else { panic!() };
    assert_eq!(deleted.prev_kvs, before.1.into_iter().collect::<Vec<_>>());
    assert_eq!(range_at(&done, 2).kvs, before.0.into_iter().collect::<Vec<_>>());
    assert_eq!((range_at(&done, 3).count, range_at(&done, 3).kvs.len()), (1, 0));
}

/// Nested transactions pick their branches by the state before the outermost.
pub async fn nested(make: &dyn Make) {
    let s = make.make().await;
    let inner = pb::TxnRequest {
        compare: vec![compare("a", Equal, TargetUnion::Version(0))],
        success: vec![op_put("b", "inner then"), op_get("a")],
        failure: vec![op_put("b", "inner else")],
    };
    let ops = vec![op_put("a", "outer"), op(Request::RequestTxn(inner.clone())), op_get("b")];
    let done = s.txn(txn_of(ops)).await.unwrap();
    assert_eq!(revision(&done.header), 2);
    let Some(Response::ResponseTxn(nested)) = &done.responses[1].response else { panic!() };
    assert!(nested.succeeded);
    assert_eq!(range_at(nested, 1).count, 1);
    assert_eq!(text(&range_at(&done, 2).kvs[0].value), "inner then");
    let again = s.txn(txn_of(vec![op(Request::RequestTxn(inner))])).await.unwrap();
    let Some(Response::ResponseTxn(nested)) = &again.responses[0].response else { panic!() };
    assert!(!nested.succeeded);
    assert_eq!(text(&get(&*s, "b").await.unwrap().value), "inner else");
}

/// A transaction with an operation that fails does nothing at all.
pub async fn failures_change_nothing(make: &dyn Make) {
    let s = make.make().await;
    put(&*s, "a", "1").await;
    let bad = [
        (
            op(Request::RequestPut(pb::PutRequest { lease: 99, ..put_request("b", "") })),
            ApiError::LeaseNotFound,
        ),
        (
            op(Request::RequestPut(pb::PutRequest { ignore_value: true, ..put_request("none", "") })),
            ApiError::KeyNotFound,
        ),
        (
            op(Request::RequestPut(pb::PutRequest { ignore_lease: true, ..put_request("none", "") })),
            ApiError::KeyNotFound,
        ),
        (
            op(Request::RequestRange(pb::RangeRequest { revision: 100, ..everything() })),
            ApiError::FutureRevision,
        ),
    ];
    for (bad, error) in bad {
        let nested = op(Request::RequestTxn(txn_of(vec![bad.clone()])));
        for bad in [bad, nested] {
            let ops = vec![op_put("a", "2"), op_delete("a", ""), bad];
            assert_error(s.txn(txn_of(ops)).await, error);
        }
    }
    // A branch not taken is not checked.
    let lease = pb::PutRequest { lease: 99, ..put_request("b", "") };
    let request = pb::TxnRequest { failure: vec![op(Request::RequestPut(lease))], ..Default::default() };
    assert!(s.txn(request).await.unwrap().succeeded);
    let all = s.range(everything()).await.unwrap();
    assert_eq!((revision(&all.header), all.kvs.len(), text(&all.kvs[0].value).as_str()), (2, 1, "1"));
}

/// Of many transactions that want to create a key, one does.
pub async fn race_to_create(make: &dyn Make) {
    let s = make.make().await;
    let contenders = (0..32).map(|i| {
        let request = pb::TxnRequest {
            compare: vec![compare("leader", Equal, TargetUnion::CreateRevision(0))],
            success: vec![op_put("leader", &i.to_string())],
            failure: vec![op_get("leader")],
        };
        s.txn(request)
    });
    let outcomes = futures::future::join_all(contenders).await;
    let won = outcomes.into_iter().filter(|outcome| outcome.as_ref().expect("txn").succeeded).count();
    assert_eq!((won, get(&*s, "leader").await.unwrap().version), (1, 1));
}
