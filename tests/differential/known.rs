//! The differences that are meant: the whole list, each as narrow as it can be.
//!
//! The server compared with is etcd 3.5; this project answers as etcd 3.6 where the two differ.

use bytes::Bytes;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::pb::mvccpb::KeyValue;

use crate::answer::Answer;
use crate::op::Op;

/// etcd sorts with an unstable algorithm, which keeps the order of up to this many items.
const STABLE_ITEMS: i64 = 12;

/// The hash covers each server's own form of storage; only members of one cluster agree on it.
/// `hash_revision` is there since 3.6.
pub(crate) fn hash_kv(answer: &mut HashKvResponse) {
    answer.hash = 0;
    answer.hash_revision = 0;
}

/// Fields since 3.6, and what is in use of an empty store.
pub(crate) fn status(answer: &mut StatusResponse) {
    answer.storage_version.clear();
    answer.db_size_quota = 0;
    answer.downgrade_info = None;
    // bbolt's own pages are in use before anything is written; here nothing is.
    if answer.header.is_some_and(|header| header.revision <= 1) {
        answer.db_size_in_use = 0;
    }
}

/// etcd leaves these headers out (Defragment, MoveLeader) or their revision (MemberList); here every header
/// is filled.
pub(crate) fn header_beyond(header: &mut Option<ResponseHeader>) {
    *header = None;
}

/// gRPC's own text for a message over the limit names the library's limits; the rest is compared as it is.
pub(crate) fn error_text(text: &str) -> String {
    if text.contains("received message larger than max") || text.contains("message length too large") {
        return "message larger than max".to_owned();
    }
    text.to_owned()
}

/// Both answers to `sent`, without what is meant to differ between them as a pair.
pub(crate) fn settle(sent: &Op, compacted: i64, expected: &mut Answer, found: &mut Answer) {
    match (sent, &mut *expected, &mut *found) {
        // etcd 3.5 sends these refusals as they are inside, without a code; 3.6 does as here.
        (
            Op::Status | Op::Defragment | Op::HashKv(_) | Op::MoveLeader(_),
            Answer::Error(2, raw),
            Answer::Error(3 | 7 | 16, text),
        ) if refusal(raw, "auth: ").is_some() && refusal(raw, "auth: ") == refusal(text, "etcdserver: ") => {
            *found = expected.clone();
        }
        // etcd remembers the hashes it took when it compacted and answers with them even after a later
        // compaction; here a compacted revision is refused.
        (Op::HashKv(request), Answer::HashKv(hash), Answer::Error(11, _))
            if request.revision < compacted && hash.compact_revision < request.revision =>
        {
            *found = expected.clone();
        }
        (Op::HashKv(request), Answer::HashKv(left), Answer::HashKv(right)) => {
            // The same remembered hash, asked for at the revision compacted at: it tells the compaction before.
            // A compaction at 0 is remembered as the hash of revision 0, which asks for the newest.
            let current = left.header.as_ref().map_or(0, |header| header.revision);
            let revision = if request.revision > 0 { request.revision } else { current };
            let of_nothing = request.revision == 0 && left.compact_revision == -1;
            if (revision <= compacted || of_nothing) && left.compact_revision < compacted {
                right.compact_revision = left.compact_revision;
            }
        }
        (Op::Range(request), Answer::Range(left), Answer::Range(right)) => {
            ties(request, left);
            ties(request, right);
        }
        (Op::Txn(request), Answer::Txn(left), Answer::Txn(right)) => {
            ties_in_txn(request, left);
            ties_in_txn(request, right);
        }
        _ => {}
    }
}

/// What follows the prefix of an error, which through the gateway stands within a body.
fn refusal<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.split_once(prefix)?.1.split('"').next()
}

fn ties_in_txn(request: &TxnRequest, answer: &mut TxnResponse) {
    let branch = if answer.succeeded { &request.success } else { &request.failure };
    for (op, response) in branch.iter().zip(&mut answer.responses) {
        match (&op.request, &mut response.response) {
            (
                Some(request_op::Request::RequestRange(request)),
                Some(response_op::Response::ResponseRange(answer)),
            ) => ties(request, answer),
            (
                Some(request_op::Request::RequestTxn(request)),
                Some(response_op::Response::ResponseTxn(answer)),
            ) => ties_in_txn(request, answer),
            _ => {}
        }
    }
}

/// The order of pairs that sort alike is etcd's own affair once there are too many of them, and so is
/// which of them a limit cuts off: such pairs are put in key order, those at a cut are blanked.
fn ties(request: &RangeRequest, answer: &mut RangeResponse) {
    use range_request::SortTarget;
    let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
    let filtered = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    // Without an order or a filter, no more is read than one item over the limit.
    let at_most = if request.sort_order == 0 && request.limit > 0 && filtered == [0; 4] {
        request.limit.saturating_add(1)
    } else {
        i64::MAX
    };
    if target == SortTarget::Key || answer.count.min(at_most) <= STABLE_ITEMS {
        return;
    }
    let rank = |pair: &KeyValue| match target {
        SortTarget::Version => (pair.version, Bytes::new()),
        SortTarget::Create => (pair.create_revision, Bytes::new()),
        SortTarget::Mod => (pair.mod_revision, Bytes::new()),
        SortTarget::Value => (0, pair.value.clone()),
        SortTarget::Key => (0, Bytes::new()),
    };
    let last = answer.kvs.last().map(rank);
    for group in answer.kvs.chunk_by_mut(|left, right| rank(left) == rank(right)) {
        group.sort_by(|left, right| left.key.cmp(&right.key));
        if answer.more && group.first().map(rank) == last {
            group.fill(KeyValue::default());
        }
    }
}
