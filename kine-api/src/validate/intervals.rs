//! No key may be written twice by one branch of a transaction, nor put where
//! the branch deletes a range.

use std::collections::HashSet;

use bytes::Bytes;
use skiff_store::ApiError;
use skiff_store::pb::etcdserverpb::request_op::Request;
use skiff_store::pb::etcdserverpb::{DeleteRangeRequest, RequestOp};

/// What the operations of a branch write, nested transactions included.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a Bytes>,
    deletes: Vec<&'a DeleteRangeRequest>,
}

/// Checks the operations of one branch.
pub(super) fn check(ops: &[RequestOp]) -> Result<(), ApiError> {
    collect(ops).map(drop)
}

fn collect(ops: &[RequestOp]) -> Result<Writes<'_>, ApiError> {
    let mut writes = Writes::default();
    if let [op] = ops
        && !matches!(op.request, Some(Request::RequestTxn(_)))
    {
        // One operation cannot collide with another: no need for a set, unless
        // the caller wants to know the key.
        writes.add_single(op);
        return Ok(writes);
    }
    // Deletions of this level first: nested puts are checked against them.
    writes.deletes.extend(ops.iter().filter_map(|op| match &op.request {
        Some(Request::RequestDeleteRange(request)) => Some(request),
        _ => None,
    }));
    for op in ops {
        if let Some(Request::RequestTxn(txn)) = &op.request {
            writes.add_nested(collect(&txn.success)?, collect(&txn.failure)?)?;
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(request)) = &op.request {
            writes.add_put(&request.key)?;
        }
    }
    Ok(writes)
}

impl<'a> Writes<'a> {
    fn add_single(&mut self, op: &'a RequestOp) {
        match &op.request {
            Some(Request::RequestPut(request)) => {
                self.puts.insert(&request.key);
            }
            Some(Request::RequestDeleteRange(request)) => self.deletes.push(request),
            _ => {}
        }
    }

    /// Adds a nested transaction, of which only one branch will run: a key may
    /// be in both. Its deletions concern what follows, not what came before.
    fn add_nested(&mut self, success: Writes<'a>, failure: Writes<'a>) -> Result<(), ApiError> {
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in failure.puts {
            if success.puts.contains(key) {
                self.deleted(key)?;
            } else {
                self.add_put(key)?;
            }
        }
        self.deletes.extend(success.deletes);
        self.deletes.extend(failure.deletes);
        Ok(())
    }

    fn add_put(&mut self, key: &'a Bytes) -> Result<(), ApiError> {
        if self.puts.contains(key) {
            return Err(ApiError::DuplicateKey);
        }
        self.deleted(key)?;
        self.puts.insert(key);
        Ok(())
    }

    fn deleted(&self, key: &Bytes) -> Result<(), ApiError> {
        let hit = self.deletes.iter().any(|delete| covers(delete, key));
        if hit { Err(ApiError::DuplicateKey) } else { Ok(()) }
    }
}

/// Whether a deletion covers a key. As in etcd a `range_end` of one zero byte
/// is taken literally here, so a deletion of "everything from a key on" never
/// collides.
fn covers(delete: &DeleteRangeRequest, key: &Bytes) -> bool {
    if delete.range_end.is_empty() {
        return delete.key == *key;
    }
    delete.key <= *key && *key < delete.range_end
}
