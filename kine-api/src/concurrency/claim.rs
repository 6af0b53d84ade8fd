//! A place in the queue of a lock or an election.

use bytes::Bytes;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use skiff_store::pb::etcdserverpb::watch_create_request::FilterType;
use skiff_store::pb::etcdserverpb::{request_op, response_op};
use skiff_store::pb::mvccpb::KeyValue;
use skiff_store::pb::mvccpb::event::EventType;
use tonic::Status;

use super::caller::Caller;
use super::prefix::Prefix;

/// A claim of a lease: its key, and the revision that created it.
pub(super) struct Claim {
    caller: Caller,
    prefix: Prefix,
    pub(super) key: Bytes,
    pub(super) lease: i64,
    pub(super) revision: i64,
}

/// What was found on entering.
pub(super) struct Entered {
    pub(super) claim: Claim,
    pub(super) header: pb::ResponseHeader,
    /// The pair of the claim, if the lease had entered before.
    pub(super) found: Option<KeyValue>,
    /// The oldest claim.
    pub(super) oldest: Option<KeyValue>,
}

impl Claim {
    /// Enters the queue of `name`, unless the lease is in it already.
    pub(super) async fn enter(
        caller: Caller,
        name: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<Entered, Status> {
        let prefix = Prefix::of(name);
        let lease = caller.lease(lease).await?;
        let key = prefix.key(lease);
        let found = range(pb::RangeRequest { key: key.clone(), ..Default::default() });
        let response = caller
            .txn(pb::TxnRequest {
                compare: vec![created_at(&key, 0)],
                success: vec![put(&key, value, lease), range(prefix.oldest())],
                failure: vec![found, range(prefix.oldest())],
            })
            .await?;
        let header = response.header.unwrap_or_default();
        let mut answers = response.responses.into_iter().map(first_pair);
        let found = answers.next().flatten();
        let oldest = answers.next().flatten();
        let revision = found.as_ref().map_or(header.revision, |pair| pair.create_revision);
        Ok(Entered { claim: Self { caller, prefix, key, lease, revision }, header, found, oldest })
    }

    /// Waits until no older claim is left.
    pub(super) async fn turn(&self) -> Result<(), Status> {
        loop {
            let before = self.caller.range(self.prefix.before(self.revision)).await?;
            let revision = before.header.map_or(0, |header| header.revision);
            let Some(pair) = before.kvs.into_iter().next() else { return Ok(()) };
            self.deleted(pair.key, revision).await?;
        }
    }

    /// Waits until a key, seen at `revision`, is deleted.
    async fn deleted(&self, key: Bytes, revision: i64) -> Result<(), Status> {
        let filters = vec![FilterType::Noput.into()];
        let request = pb::WatchCreateRequest { key, start_revision: revision, filters, ..Default::default() };
        let mut events = self.caller.watch(request);
        while !events.next().await?.events.iter().any(|event| event.r#type() == EventType::Delete) {}
        Ok(())
    }

    /// The header of a state in which the claim still is.
    ///
    /// # Errors
    /// It is gone: its lease has ended, or somebody deleted it.
    pub(super) async fn confirm(&self) -> Result<Option<pb::ResponseHeader>, Status> {
        let request = pb::RangeRequest { key: self.key.clone(), ..Default::default() };
        let response = self.caller.range(request).await?;
        // One that came back later stands behind others.
        match response.kvs.first() {
            Some(pair) if pair.create_revision == self.revision => Ok(response.header),
            _ => Err(Status::unknown("mutex: session is expired")),
        }
    }

    /// Sets the claim's value.
    pub(super) async fn proclaim(&self, value: Bytes) -> Result<(), Status> {
        proclaim(&self.caller, &self.key, self.revision, self.lease, value).await.map(drop)
    }

    /// Leaves the queue, once and for a bounded time: where that fails the end
    /// of the lease does it. Trying again later could take the claim from a
    /// call that has come to stand on it meanwhile.
    pub(super) async fn leave(&self) {
        let left = resign(&self.caller, &self.key, self.revision);
        match tokio::time::timeout(self.caller.patience(), left).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => {
                tracing::warn!(
                    lease = self.lease,
                    error = status.message(),
                    "delete a claim that nobody waits on"
                );
            }
            Err(_) => {
                tracing::warn!(lease = self.lease, "deleting a claim that nobody waits on took too long")
            }
        }
    }
}

/// Sets the value of the claim at `key`, if it still is the one created at
/// `revision`.
pub(super) async fn proclaim(
    caller: &Caller,
    key: &Bytes,
    revision: i64,
    lease: i64,
    value: Bytes,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let request = pb::TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![put(key, value, lease)],
        failure: Vec::new(),
    };
    let response = caller.txn(request).await?;
    if response.succeeded { Ok(response.header) } else { Err(not_leader()) }
}

/// Deletes the claim at `key`, if it still is the one created at `revision`.
pub(super) async fn resign(
    caller: &Caller,
    key: &Bytes,
    revision: i64,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let request = pb::TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(request_op::Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    caller.txn(request).await.map(|response| response.header)
}

/// What a proclamation is told whose claim is gone.
fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

/// Whether an error is [`not_leader`].
pub(super) fn is_not_leader(status: &Status) -> bool {
    status.message() == not_leader().message()
}

fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

fn op(request: request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn range(request: pb::RangeRequest) -> pb::RequestOp {
    op(request_op::Request::RequestRange(request))
}

fn put(key: &Bytes, value: Bytes, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
    op(request_op::Request::RequestPut(put))
}

fn first_pair(op: pb::ResponseOp) -> Option<KeyValue> {
    match op.response {
        Some(response_op::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    }
}
