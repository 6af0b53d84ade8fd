//! Transactions as the API server makes them.

use bytes::Bytes;
use skiff_store::pb::etcdserverpb as pb;
use skiff_store::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use tonic::Status;

use crate::Plan;
use crate::client::Client;

fn put_if(key: Bytes, mod_revision: i64, value: Bytes) -> pb::TxnRequest {
    use pb::request_op::Request;
    let op = |request| vec![pb::RequestOp { request: Some(request) }];
    pb::TxnRequest {
        compare: vec![pb::Compare {
            key: key.clone(),
            target: CompareTarget::Mod as i32,
            result: CompareResult::Equal as i32,
            target_union: Some(TargetUnion::ModRevision(mod_revision)),
            ..Default::default()
        }],
        success: op(Request::RequestPut(pb::PutRequest { key: key.clone(), value, ..Default::default() })),
        failure: op(Request::RequestRange(pb::RangeRequest { key, ..Default::default() })),
    }
}

fn revision(answer: &pb::TxnResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}

/// Creates a key.
pub(crate) async fn create(plan: &Plan, client: &mut Client, i: u64, value: &Bytes) -> Result<(), Status> {
    let answer = client.txn(put_if(plan.key(i), 0, value.clone())).await?;
    match answer.succeeded {
        true => Ok(()),
        false => Err(Status::already_exists("the key is there already: choose another prefix=")),
    }
}

/// Keys that one client alone writes to.
pub(crate) struct Own {
    keys: Vec<(Bytes, i64)>,
    next: usize,
}

impl Own {
    pub(crate) fn new(plan: &Plan, number: u64) -> Self {
        let count = plan.number("keys", 20).max(1);
        Self { keys: (0..count).map(|n| (plan.key(number * count + n), 0)).collect(), next: 0 }
    }

    /// Updates the next of the keys.
    pub(crate) async fn update(&mut self, client: &mut Client, value: &Bytes) -> Result<(), Status> {
        let at = self.next % self.keys.len();
        self.next += 1;
        let (key, known) = &mut self.keys[at];
        let answer = client.txn(put_if(key.clone(), *known, value.clone())).await?;
        if answer.succeeded {
            *known = revision(&answer);
            return Ok(());
        }
        // Of an earlier run.
        let ops = answer.responses.into_iter().filter_map(|op| op.response);
        *known = ops
            .filter_map(|response| match response {
                pb::response_op::Response::ResponseRange(range) => {
                    range.kvs.first().map(|kv| kv.mod_revision)
                }
                _ => None,
            })
            .next()
            .unwrap_or(0);
        let answer = client.txn(put_if(key.clone(), *known, value.clone())).await?;
        *known = revision(&answer);
        Ok(())
    }
}

/// Compacts at the newest revision, physically.
pub(crate) async fn compact(client: &mut Client) -> Result<(), Status> {
    let answer = client.range(pb::RangeRequest { key: "x".into(), ..Default::default() }).await?;
    let revision = answer.header.map_or(0, |header| header.revision);
    client.compact(pb::CompactionRequest { revision, physical: true }).await.map(drop)
}
