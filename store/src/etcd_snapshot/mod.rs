//! etcd's own snapshots: its database as `etcdctl snapshot save` writes it, a
//! [`bbolt`](crate::bbolt) file with the SHA-256 of its bytes behind it.
//!
//! * [`EtcdSnapshot`] reads one, and fills an engine with it: every version
//!   that is kept, at its revision, with its lease; leases; users, roles and
//!   whether they count; alarms; the compacted revision.
//! * [`write()`] writes one out of a [`Mvcc`](crate::mvcc::Mvcc), for etcd's own
//!   `etcdutl snapshot restore`.
//!
//! Buckets: `key` holds versions by revision, the others what their names say.
//!
//! Not here: what only concerns the cluster that the snapshot was taken of, and
//! what a restore replaces in either direction: its members and versions, and
//! the membership of its log. A written snapshot leaves these empty.

mod read;
mod revision;
mod write;

use std::fs::File;

pub use crate::archive::Checksum;
pub use crate::bbolt::is_bbolt as is_etcd_snapshot;
pub use read::{EtcdSnapshot, Summary};
pub use write::{Written, write};

use crate::error::{Error, Result};

/// Bytes of the checksum behind the database.
const CHECKSUM: u64 = 32;
/// All before the checksum is a multiple of this.
const BLOCK: u64 = 512;
/// Bytes read at a time.
const BUFFER: usize = 256 << 10;

/// Names of buckets.
mod bucket {
    pub(super) const ALARM: &str = "alarm";
    pub(super) const AUTH: &str = "auth";
    pub(super) const ROLES: &str = "authRoles";
    pub(super) const USERS: &str = "authUsers";
    pub(super) const CLUSTER: &str = "cluster";
    pub(super) const KEY: &str = "key";
    pub(super) const LEASE: &str = "lease";
    pub(super) const MEMBERS: &str = "members";
    pub(super) const REMOVED: &str = "members_removed";
    pub(super) const META: &str = "meta";
}

/// Keys of the buckets `auth` and `meta`.
mod entry {
    pub(super) const ENABLED: &[u8] = b"authEnabled";
    pub(super) const AUTH_REVISION: &[u8] = b"authRevision";
    pub(super) const INDEX: &[u8] = b"consistent_index";
    pub(super) const FINISHED: &[u8] = b"finishedCompactRev";
    pub(super) const SCHEDULED: &[u8] = b"scheduledCompactRev";
    pub(super) const TERM: &[u8] = b"term";
}

fn io_failed(error: std::io::Error) -> Error {
    Error::Storage(format!("etcd's snapshot: {error}"))
}

/// The SHA-256 of the first `len` bytes of a file.
fn sha256(file: &File, len: u64) -> Result<[u8; CHECKSUM as usize]> {
    use sha2::{Digest, Sha256};
    use std::os::unix::fs::FileExt;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < len {
        let part = &mut buffer[..(len - at).min(BUFFER as u64) as usize];
        file.read_exact_at(part, at).map_err(io_failed)?;
        hash.update(&*part);
        at += part.len() as u64;
    }
    Ok(hash.finalize().into())
}
