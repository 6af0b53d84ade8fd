//! Hashes by which two states are told apart wherever they are kept.
//!
//! What is hashed is what clients can see, field by field: nothing of how or
//! where it is stored, nothing of the log.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest as _, Sha256};

use crate::engine::Cf;
use crate::error::Result;
use crate::mvcc::state::decode_version;
use crate::mvcc::{Chronicle, Version, keys};
use crate::pb::mvccpb::KeyValue;

/// Bytes of a hash.
const LEN: usize = 32;

/// The hashes of a state, SHA-256 each, and what they cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Of the pairs that exist, with their revisions, versions and leases.
    pub pairs: [u8; LEN],
    /// Of every version that can be read or watched, in the order of revisions,
    /// and of the compacted revision.
    pub history: [u8; LEN],
    /// Of the leases and their granted TTLs.
    pub leases: [u8; LEN],
    /// Of users and roles.
    pub auth: [u8; LEN],
    /// The revision.
    pub revision: i64,
    /// The compacted revision; below 1 before the first compaction.
    pub compact_revision: i64,
    /// Pairs that exist.
    pub keys: u64,
    /// Versions that can be read or watched.
    pub versions: u64,
    /// Leases.
    pub lease_count: u64,
    /// Bytes of the keys and values of those versions.
    pub bytes: u64,
}

impl Chronicle {
    /// Hashes the state, as if there were no key `without`. Reads all of it.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn digest(&self, without: &[u8]) -> Result<Digest> {
        let stored = self.stored();
        let mut history = Sha256::new();
        history.update(stored.compact_revision.max(0).to_be_bytes());
        let (mut versions, mut bytes) = (0, 0);
        self.versions(&mut |Version { kv, sub, deleted }| {
            if kv.key == without {
                return Ok(());
            }
            versions += 1;
            bytes += (kv.key.len() + kv.value.len()) as u64;
            // Which of the changes of a compacted revision is left nobody can see.
            let sub = if kv.mod_revision > stored.compact_revision { sub } else { 0 };
            history.update([u8::from(deleted)]);
            history.update(sub.to_be_bytes());
            add_pair(&mut history, &kv);
            Ok(())
        })?;
        let (pairs, keys) = self.pairs(without)?;
        let leases = self.leases();
        Ok(Digest {
            pairs,
            history: history.finalize().into(),
            lease_count: leases.len() as u64,
            leases: self.hash_of_leases(),
            auth: self.hash_of_auth(),
            revision: stored.revision,
            compact_revision: stored.compact_revision,
            keys,
            versions,
            bytes,
        })
    }

    fn pairs(&self, without: &[u8]) -> Result<([u8; LEN], u64)> {
        let mut hash = Sha256::new();
        let mut count = 0;
        let mut cursor = self.view.snapshot.cursor(Cf::Kv, false);
        cursor.seek(&[])?;
        let mut key = Bytes::new();
        while cursor.valid() {
            let (encoded, ..) = keys::split_whole(cursor.key())?;
            if encoded != key {
                key = Bytes::copy_from_slice(encoded);
                // The first row of a key is its newest.
                let kv = decode_version(cursor.key(), Bytes::copy_from_slice(cursor.value()))?;
                if let Some(kv) = kv.filter(|kv| kv.key != without) {
                    add_pair(&mut hash, &kv);
                    count += 1;
                }
            }
            cursor.next()?;
        }
        Ok((hash.finalize().into(), count))
    }

    fn hash_of_leases(&self) -> [u8; LEN] {
        let mut leases = self.leases();
        leases.sort_by_key(|lease| lease.id);
        let mut hash = Sha256::new();
        for lease in leases {
            hash.update(lease.id.to_be_bytes());
            hash.update(lease.ttl.to_be_bytes());
        }
        hash.finalize().into()
    }

    fn hash_of_auth(&self) -> [u8; LEN] {
        let mut hash = Sha256::new();
        for user in self.users() {
            hash.update(user.encode_length_delimited_to_vec());
        }
        hash.update([0]);
        for role in self.roles() {
            hash.update(role.encode_length_delimited_to_vec());
        }
        hash.finalize().into()
    }
}

fn add_pair(hash: &mut Sha256, kv: &KeyValue) {
    for number in [kv.mod_revision, kv.create_revision, kv.version, kv.lease] {
        hash.update(number.to_be_bytes());
    }
    for bytes in [&kv.key, &kv.value] {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
}
