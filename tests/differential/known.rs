//! The differences that are meant: the whole list, each as narrow as it can be.
//!
//! The server compared with is etcd 3.5; this project answers as etcd 3.6 where the two differ.

use skiff_test_support::pb::etcdserverpb::{HashKvResponse, StatusResponse};

/// The hash covers each server's own form of storage; only members of one cluster agree on it.
/// `hash_revision` is there since 3.6.
pub(crate) fn hash_kv(answer: &mut HashKvResponse) {
    answer.hash = 0;
    answer.hash_revision = 0;
}

/// Fields since 3.6.
pub(crate) fn status(answer: &mut StatusResponse) {
    answer.storage_version.clear();
    answer.db_size_quota = 0;
    answer.downgrade_info = None;
}

/// gRPC's own text for a message over the limit names the library's limits; the rest is compared as it is.
pub(crate) fn error_text(text: &str) -> String {
    if text.contains("received message larger than max") || text.contains("message length too large") {
        return "message larger than max".to_owned();
    }
    text.to_owned()
}
