//! The steps of a sequence.
//!
//! A step holds the request to send, with one twist: a revision or a lease id may be *symbolic* ("two
//! below the current revision", "the lease granted third"), so that a step keeps its meaning when steps
//! before it are taken out. Symbols are numbers of a reserved range, replaced just before sending.

use bytes::Bytes;
use skiff_test_support::pb::etcdserverpb::*;

use crate::call::Call;
use crate::queues::Who;

/// Reserved top 16 bits of a symbolic number.
const TAG: i64 = 0x5EED;
const TAG_SHIFT: u32 = 48;
const KIND_SHIFT: u32 = 40;
const DELTA_ZERO: i64 = 1 << 39;
const DELTA_MASK: i64 = (1 << 40) - 1;

const CURRENT: i64 = 0;
const BASE: i64 = 1;
const COMPACTED: i64 = 2;
const LEASE: i64 = 3;
const MEMBER: i64 = 4;

fn symbol(kind: i64, delta: i64) -> i64 {
    (TAG << TAG_SHIFT) | (kind << KIND_SHIFT) | (DELTA_ZERO + delta)
}

/// The store's revision when the step runs, plus `delta`.
pub(crate) fn current(delta: i64) -> i64 {
    symbol(CURRENT, delta)
}

/// The store's revision when the sequence started, plus `delta`.
pub(crate) fn base(delta: i64) -> i64 {
    symbol(BASE, delta)
}

/// The revision compacted at, plus `delta`.
pub(crate) fn compacted(delta: i64) -> i64 {
    symbol(COMPACTED, delta)
}

/// The lease of the sequence's grant number `slot`; one that is not there before.
pub(crate) fn lease(slot: i64) -> i64 {
    symbol(LEASE, slot)
}

/// The id of the server itself.
pub(crate) const SELF: u64 = ((TAG << TAG_SHIFT) | (MEMBER << KIND_SHIFT) | DELTA_ZERO) as u64;

/// What symbols stand for on one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meaning {
    /// The store's revision.
    pub(crate) current: i64,
    /// The revision at the start of the sequence.
    pub(crate) base: i64,
    /// The revision compacted at.
    pub(crate) compacted: i64,
    /// Leases by grant number.
    pub(crate) leases: Vec<i64>,
    /// The server's id.
    pub(crate) member: u64,
}

impl Meaning {
    fn number(&self, value: &mut i64) {
        if *value >> TAG_SHIFT != TAG {
            return;
        }
        let delta = (*value & DELTA_MASK) - DELTA_ZERO;
        *value = match (*value >> KIND_SHIFT) & 0xFF {
            CURRENT => self.current + delta,
            BASE => self.base + delta,
            COMPACTED => self.compacted + delta,
            LEASE => self.leases.get(delta as usize).copied().unwrap_or(0x7777),
            _ => *value,
        };
    }

    fn range(&self, request: &mut RangeRequest) {
        self.number(&mut request.revision);
        self.number(&mut request.min_mod_revision);
        self.number(&mut request.max_mod_revision);
        self.number(&mut request.min_create_revision);
        self.number(&mut request.max_create_revision);
    }

    fn txn(&self, request: &mut TxnRequest) {
        use compare::TargetUnion;
        for compare in &mut request.compare {
            if let Some(
                TargetUnion::ModRevision(number)
                | TargetUnion::CreateRevision(number)
                | TargetUnion::Lease(number),
            ) = &mut compare.target_union
            {
                self.number(number);
            }
        }
        for op in request.success.iter_mut().chain(&mut request.failure) {
            match &mut op.request {
                Some(request_op::Request::RequestRange(range)) => self.range(range),
                Some(request_op::Request::RequestPut(put)) => self.number(&mut put.lease),
                Some(request_op::Request::RequestTxn(txn)) => self.txn(txn),
                Some(request_op::Request::RequestDeleteRange(_)) | None => {}
            }
        }
    }

    /// The step with its symbols replaced.
    pub(crate) fn resolve(&self, step: &Step) -> Step {
        let mut step = step.clone();
        match &mut step.op {
            Op::Range(request) => self.range(request),
            Op::Put(request) => self.number(&mut request.lease),
            Op::Txn(request) => self.txn(request),
            Op::Compact(request) => self.number(&mut request.revision),
            Op::Grant(request) => self.number(&mut request.id),
            Op::Revoke(request) => self.number(&mut request.id),
            Op::KeepAlive(ids) => ids.iter_mut().for_each(|id| self.number(id)),
            Op::TimeToLive(request) => self.number(&mut request.id),
            Op::Watch(_, request) => self.number(&mut request.start_revision),
            Op::HashKv(request) => self.number(&mut request.revision),
            Op::Alarm(request) if request.member_id == SELF => request.member_id = self.member,
            Op::MoveLeader(request) if request.target_id == SELF => request.target_id = self.member,
            _ => {}
        }
        step
    }
}

/// Callers that log in now and then and keep the token; each has a slot.
pub(crate) const SLOTS: usize = 4;
/// The caller that never logs in.
pub(crate) const NOBODY: usize = SLOTS;

/// One step of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The slot of the caller, whose token is shown.
    pub(crate) caller: usize,
    /// Through the JSON gateway, if it is a call with one answer.
    pub(crate) json: bool,
    /// What is done.
    pub(crate) op: Op,
}

impl From<Op> for Step {
    /// By nobody, over gRPC.
    fn from(op: Op) -> Self {
        Step { caller: NOBODY, json: false, op }
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// KV/Range.
    Range(RangeRequest),
    /// KV/Put.
    Put(PutRequest),
    /// KV/DeleteRange.
    Delete(DeleteRangeRequest),
    /// KV/Txn.
    Txn(TxnRequest),
    /// KV/Compact.
    Compact(CompactionRequest),
    /// Lease/LeaseGrant; a short lease is revoked at once, before it can expire.
    Grant(LeaseGrantRequest),
    /// Lease/LeaseRevoke.
    Revoke(LeaseRevokeRequest),
    /// Lease/LeaseKeepAlive: one stream with these ids.
    KeepAlive(Vec<i64>),
    /// Lease/LeaseTimeToLive.
    TimeToLive(LeaseTimeToLiveRequest),
    /// Lease/LeaseLeases.
    Leases,
    /// Watch/Watch: a create request on stream `.0`.
    Watch(usize, WatchCreateRequest),
    /// Watch/Watch: a cancel request on stream `.0`.
    CancelWatch(usize, i64),
    /// Waits until every watch has caught up and compares what they saw.
    Barrier,
    /// Maintenance/HashKV.
    HashKv(HashKvRequest),
    /// Maintenance/Status.
    Status,
    /// Maintenance/Alarm.
    Alarm(AlarmRequest),
    /// Maintenance/Defragment.
    Defragment,
    /// Maintenance/MoveLeader.
    MoveLeader(MoveLeaderRequest),
    /// Cluster/MemberList.
    Members(MemberListRequest),
    /// Another call.
    Call(Call),
    /// Auth/Authenticate: the token is kept for a slot.
    LogIn(usize, AuthenticateRequest),
    /// Watch/Watch: a stream of its own, up to its first answer.
    Peek(WatchCreateRequest),
    /// Lock/Unlock of the first claim of a name.
    Unlock(Bytes),
    /// Election/Proclaim of a value, or Election/Resign without one.
    AsLeader(Who, Option<Bytes>),
    /// Election/Observe, until the end of the sequence.
    Observe(Bytes),
    /// The client of a waiting call goes; which of them.
    Leave(usize),
}
