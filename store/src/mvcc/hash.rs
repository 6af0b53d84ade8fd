//! Hashes that members compare.
//!
//! HashKV at revision R covers every version that a store compacted at C keeps
//! and that was written at or before R: for each key all versions above C, and
//! the newest at or below C unless it is a tombstone below C. It is computed
//! from what is readable, not from what happens to be stored, so it is the
//! same on a member whose physical compaction is behind.

use bytes::Bytes;
use prost::Message;

use crate::engine::Cf;
use crate::error::{ApiError, Result};
use crate::mvcc::keys;
use crate::mvcc::read::header;
use crate::mvcc::view::View;
use crate::pb::etcdserverpb as pb;

/// Answers a HashKV; revision 0 means the newest.
///
/// # Errors
/// The revision is compacted or in the future; faults of the engine.
pub(crate) fn hash_kv(view: &View, request: &pb::HashKvRequest) -> Result<pb::HashKvResponse> {
    let stored = &view.state.stored;
    if request.revision > stored.revision {
        return Err(ApiError::FutureRevision.into());
    }
    if request.revision > 0 && request.revision < stored.compact_revision {
        return Err(ApiError::Compacted.into());
    }
    let revision = if request.revision <= 0 { stored.revision } else { request.revision };
    Ok(pb::HashKvResponse {
        header: header(stored.revision),
        hash: hash_versions(view, revision)?,
        compact_revision: stored.compact_revision,
        hash_revision: revision,
    })
}

/// Answers a Hash: the newest key space, the leases, the users and the roles.
pub(crate) fn hash(view: &View) -> Result<pb::HashResponse> {
    let mut crc = hash_versions(view, view.state.stored.revision)?;
    for (id, lease) in view.state.leases.iter() {
        crc = crc32c::crc32c_append(crc, &id.to_be_bytes());
        crc = crc32c::crc32c_append(crc, &lease.stored.ttl.to_be_bytes());
    }
    let auth = &view.state.auth;
    for user in auth.users() {
        crc = crc32c::crc32c_append(crc, &auth.user(user)?.encode_to_vec());
    }
    for role in auth.roles() {
        crc = crc32c::crc32c_append(crc, &auth.role(role)?.encode_to_vec());
    }
    Ok(pb::HashResponse { header: header(view.state.stored.revision), hash: crc })
}

fn hash_versions(view: &View, revision: i64) -> Result<u32> {
    let compacted = view.state.stored.compact_revision;
    let mut crc = crc32c::crc32c(&compacted.to_be_bytes());
    let mut cursor = view.snapshot.cursor(Cf::Kv, false);
    cursor.seek(&[])?;
    let mut key = Bytes::new();
    let mut settled = false;
    while cursor.valid() {
        let row = cursor.key();
        let (of, at) = keys::split(row)?;
        if of != key {
            key = Bytes::copy_from_slice(of);
            settled = false;
        }
        if at <= revision && !settled {
            settled = at <= compacted;
            let tombstone = cursor.value().is_empty();
            if !(tombstone && at < compacted) {
                crc = crc32c::crc32c_append(crc, row);
                crc = crc32c::crc32c_append(crc, cursor.value());
            }
        }
        cursor.next()?;
    }
    Ok(crc)
}
