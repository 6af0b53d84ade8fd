//! Checks of single requests and of transactions.

use skiff_store::ApiError;
use skiff_store::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use skiff_store::pb::etcdserverpb::request_op::Request;
use skiff_store::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::intervals;

/// Checks a range.
pub(crate) fn range(request: &RangeRequest) -> Result<(), ApiError> {
    if request.key.is_empty() {
        return Err(ApiError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(ApiError::InvalidSortOption);
    }
    Ok(())
}

/// Whether a range can be streamed in key order: sorted by nothing but the
/// ascending key, and not filtered by revisions.
pub(crate) fn range_stream(request: &RangeRequest) -> bool {
    let by_key =
        request.sort_target == SortTarget::Key as i32 && request.sort_order != SortOrder::Descend as i32;
    let unsorted =
        request.sort_order == SortOrder::None as i32 && request.sort_target == SortTarget::Key as i32;
    let unfiltered = request.min_mod_revision == 0
        && request.max_mod_revision == 0
        && request.min_create_revision == 0
        && request.max_create_revision == 0;
    (by_key || unsorted) && unfiltered
}

/// Checks a put.
pub(crate) fn put(request: &PutRequest) -> Result<(), ApiError> {
    if request.key.is_empty() {
        return Err(ApiError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(ApiError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(ApiError::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
pub(crate) fn delete_range(request: &DeleteRangeRequest) -> Result<(), ApiError> {
    if request.key.is_empty() { Err(ApiError::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction: its operations first, then, in each branch, that no
/// key is written twice.
pub(crate) fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), ApiError> {
    operations(request, max_ops)?;
    intervals::check(&request.success)?;
    intervals::check(&request.failure)
}

/// The longest of the three lists counts; what it leaves of the budget is for
/// each nested transaction. The recursion is bounded by protobuf's own limit
/// on nesting.
fn operations(request: &TxnRequest, max_ops: usize) -> Result<(), ApiError> {
    let count = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(rest) = max_ops.checked_sub(count) else { return Err(ApiError::TooManyOps) };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(ApiError::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| operation(op, rest))
}

fn operation(op: &RequestOp, rest: usize) -> Result<(), ApiError> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => operations(request, rest),
        None => Err(ApiError::KeyNotFound),
    }
}

/// Whether a transaction consists of ranges only; a nested one does not count.
pub(crate) fn txn_reads_only(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}
