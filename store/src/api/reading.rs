//! What kind of read a request is.

use super::Read;
use crate::pb::etcdserverpb as pb;
use crate::pb::etcdserverpb::request_op::Request;

/// A limited range up to here is read on the spot.
const INLINE_LIMIT: i64 = 16;

impl Read {
    /// True where the answer must hold everything acknowledged before the
    /// request; false where this member's own state is asked for.
    pub fn is_linearizable(&self) -> bool {
        match self {
            Read::Range(request) => !request.serializable,
            Read::Txn(request) => !is_serializable(request),
            Read::Hash(_) | Read::HashKv(_) => false,
            Read::LeaseTimeToLive(_)
            | Read::LeaseLeases(_)
            | Read::Alarms
            | Read::AuthStatus
            | Read::UserGet(_)
            | Read::UserList
            | Read::RoleGet(_)
            | Read::RoleList
            | Read::Credentials(_) => true,
        }
    }

    /// True where little is read: to be answered on the spot, which is cheaper
    /// than on another thread.
    pub fn is_cheap(&self) -> bool {
        let cheap_range = |range: &pb::RangeRequest| {
            range.range_end.is_empty()
                || (range.count_only && unfiltered(range))
                || ((1..=INLINE_LIMIT).contains(&range.limit) && unfiltered(range))
        };
        match self {
            Read::Range(range) => cheap_range(range),
            Read::Txn(txn) => txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
                Some(Request::RequestRange(range)) => cheap_range(range),
                _ => false,
            }),
            Read::Alarms
            | Read::LeaseTimeToLive(_)
            | Read::AuthStatus
            | Read::UserGet(_)
            | Read::RoleGet(_)
            | Read::Credentials(_) => true,
            _ => false,
        }
    }
}

/// A read-only transaction is serializable if each of its ranges is, as in etcd.
fn is_serializable(request: &pb::TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        Some(Request::RequestTxn(txn)) => is_serializable(txn),
        _ => false,
    })
}

/// Has neither an order of its own nor a filter, which would visit everything.
fn unfiltered(range: &pb::RangeRequest) -> bool {
    range.sort_order == 0
        && range.min_mod_revision == 0
        && range.max_mod_revision == 0
        && range.min_create_revision == 0
        && range.max_create_revision == 0
}
