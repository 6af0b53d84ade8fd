//! What is held in memory: the index of live keys, the leases, and a few
//! small tables. Every part is a persistent structure, so that a copy costs
//! O(1): the applier changes a copy and publishes it, readers keep the one
//! they started with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::auth::{AuthState, LeaseKeys};
use crate::engine::{Cf, Snapshot};
use crate::error::{ApiError, Error, Result};
use crate::index::{Builder, OutOfOrder, Tree};
use crate::mvcc::{index_file, keys};
use crate::pb::etcdserverpb as pb;
use crate::pb::mvccpb::KeyValue;
use crate::pb::skiff::v1::{StoredCompaction, StoredLease, StoredRole, StoredState, StoredUser};
use prost::Message;

/// A user key in the index. Its own allocation: a slice of the request it came
/// with would keep that whole request in memory.
pub(crate) type Key = Arc<[u8]>;

/// What the index knows of a live key: everything but the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    /// Sub-revision of the last change: with `mod_revision` it names the row.
    pub(crate) sub: u32,
}

impl Meta {
    /// The pair without its value.
    pub(crate) fn to_kv(self, key: &[u8]) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            value: Bytes::new(),
            lease: self.lease,
        }
    }
}

impl Meta {
    /// Of a pair and the sub-revision of its row.
    pub(crate) fn of(kv: &KeyValue, sub: u32) -> Self {
        Self {
            sub,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// A lease and the keys attached to it.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) stored: StoredLease,
    pub(crate) keys: Tree<Key, ()>,
}

/// The state between two log entries.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) stored: StoredState,
    pub(crate) index: Tree<Key, Meta>,
    pub(crate) leases: Tree<i64, Lease>,
    pub(crate) members: Arc<BTreeMap<u64, pb::Member>>,
    pub(crate) auth: AuthState,
}

/// Row keys of the column family `meta`. Persisted: frozen.
pub(crate) const STATE_ROW: &[u8] = b"state";
pub(crate) const COMPACTION_ROW: &[u8] = b"compaction";
pub(crate) const FORMAT_ROW: &[u8] = b"format";
pub(crate) const MEMBER_PREFIX: &[u8] = b"member/";
pub(crate) const USER_PREFIX: &[u8] = b"auth/user/";
pub(crate) const ROLE_PREFIX: &[u8] = b"auth/role/";

/// An empty store stands at revision 1, so that the first write is 2, as in
/// etcd.
const FIRST_REVISION: i64 = 1;

/// What etcd calls the compacted revision before the first compaction: a
/// compaction at 0 is then still possible, and harmless.
pub(crate) const NEVER_COMPACTED: i64 = -1;

impl State {
    /// Loads the state of an engine.
    ///
    /// With `index_file`, the index comes from there where that is possible.
    pub(crate) fn load(
        snapshot: &dyn Snapshot,
        compaction: &StoredCompaction,
        index_file: Option<&Path>,
    ) -> Result<Self> {
        let stored = match snapshot.get(Cf::Meta, STATE_ROW)? {
            Some(bytes) => decode::<StoredState>(&bytes, "meta/state")?,
            None => StoredState {
                revision: FIRST_REVISION,
                compact_revision: NEVER_COMPACTED,
                ..Default::default()
            },
        };
        let from_file = match index_file {
            Some(path) => index_file::load(path, snapshot, &stored, compaction)?,
            None => None,
        };
        let index = match from_file {
            Some(index) => index,
            None => load_index(snapshot, stored.revision)?,
        };
        let leases = load_leases(snapshot, &index)?;
        let members: Vec<pb::Member> = load_messages(snapshot, MEMBER_PREFIX)?;
        let members = members.into_iter().map(|member| (member.id, member)).collect();
        let users: Vec<StoredUser> = load_messages(snapshot, USER_PREFIX)?;
        let roles: Vec<StoredRole> = load_messages(snapshot, ROLE_PREFIX)?;
        let auth = AuthState::new(stored.auth_enabled, stored.auth_revision, users, roles);
        Ok(Self { stored, index, leases, members: Arc::new(members), auth })
    }
}

/// Decodes a stored message, naming the place where it is damaged.
pub(crate) fn decode<M: Message + Default>(bytes: &[u8], place: &str) -> Result<M> {
    M::decode(bytes).map_err(|e| Error::Corruption(format!("row {place}: {e}")))
}

/// Decodes the value of a `kv` row; `None` for a tombstone.
pub(crate) fn decode_version(row: &[u8], value: Bytes) -> Result<Option<KeyValue>> {
    if value.is_empty() {
        return Ok(None);
    }
    KeyValue::decode(value).map(Some).map_err(|e| Error::Corruption(format!("row kv/{row:02x?}: {e}")))
}

/// Walks the newest version of every key.
fn load_index(snapshot: &dyn Snapshot, revision: i64) -> Result<Tree<Key, Meta>> {
    let mut live = Builder::new();
    let mut cursor = snapshot.cursor(Cf::Kv, false);
    cursor.seek(&[])?;
    while cursor.valid() {
        let row = cursor.key();
        let (_, newest, sub) = keys::split_whole(row)?;
        if newest > revision {
            return Err(Error::Corruption(format!(
                "row kv/{row:02x?} has revision {newest}, above the store's {revision}"
            )));
        }
        // Borrowed decoding would save the copy of the value; the cursor's
        // bytes do not outlive a step, and prost needs an owned buffer.
        if let Some(kv) = decode_version(row, Bytes::copy_from_slice(cursor.value()))? {
            live.push(Key::from(&kv.key[..]), Meta::of(&kv, sub)).map_err(out_of_order)?;
        }
        skip_versions(cursor.as_mut())?;
    }
    Ok(live.finish())
}

/// Goes to the first row of the next key.
pub(crate) fn skip_versions(cursor: &mut dyn crate::engine::Cursor) -> Result<()> {
    // Most keys have few versions: step first, seek when there are many.
    const STEPS: usize = 8;
    let current = Bytes::copy_from_slice(keys::split(cursor.key())?.0);
    for _ in 0..STEPS {
        cursor.next()?;
        if !cursor.valid() || keys::split(cursor.key())?.0 != current {
            return Ok(());
        }
    }
    let after = keys::after_versions(cursor.key())?;
    cursor.seek(&after)
}

fn load_leases(snapshot: &dyn Snapshot, index: &Tree<Key, Meta>) -> Result<Tree<i64, Lease>> {
    let mut leases: BTreeMap<i64, (StoredLease, Vec<(Key, ())>)> = BTreeMap::new();
    let mut cursor = snapshot.cursor(Cf::Leases, false);
    cursor.seek(&[])?;
    while cursor.valid() {
        let stored: StoredLease = decode(cursor.value(), "lease")?;
        leases.insert(stored.id, (stored, Vec::new()));
        cursor.next()?;
    }
    for (key, meta) in index.iter() {
        if meta.lease != 0 {
            match leases.get_mut(&meta.lease) {
                Some((_, keys)) => keys.push((key.clone(), ())),
                None => {
                    return Err(Error::Corruption(format!(
                        "key {:?} is attached to lease {:016x}, which is not stored",
                        String::from_utf8_lossy(key),
                        meta.lease
                    )));
                }
            }
        }
    }
    let mut tree = Builder::new();
    for (id, (stored, keys)) in leases {
        let keys = Tree::bulk_load(keys).map_err(out_of_order)?;
        tree.push(id, Lease { stored, keys }).map_err(out_of_order)?;
    }
    Ok(tree.finish())
}

/// Rows are sorted by key; a key met twice or too late is damage.
fn out_of_order(_: OutOfOrder) -> Error {
    Error::Corruption("keys of column family kv or lease are not in order".into())
}

/// The messages of all rows of `meta` under a prefix.
fn load_messages<M: Message + Default>(snapshot: &dyn Snapshot, prefix: &[u8]) -> Result<Vec<M>> {
    let mut messages = Vec::new();
    let mut cursor = snapshot.cursor(Cf::Meta, false);
    cursor.seek(prefix)?;
    while cursor.valid() && cursor.key().starts_with(prefix) {
        let place = format!("meta/{}", String::from_utf8_lossy(cursor.key()));
        messages.push(decode(cursor.value(), &place)?);
        cursor.next()?;
    }
    Ok(messages)
}

/// The row key of a member's attributes.
pub(crate) fn member_row(id: u64) -> Bytes {
    let mut row = MEMBER_PREFIX.to_vec();
    row.extend_from_slice(&id.to_be_bytes());
    row.into()
}

/// The row key of a user or a role.
pub(crate) fn named_row(prefix: &[u8], name: &str) -> Bytes {
    [prefix, name.as_bytes()].concat().into()
}

impl LeaseKeys for State {
    fn each_key(
        &self,
        lease: i64,
        each: &mut dyn FnMut(&[u8]) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let lease = self.leases.get(&lease);
        lease.iter().flat_map(|lease| lease.keys.iter()).try_for_each(|(key, ())| each(key))
    }

    fn each_leased_key(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), ApiError>) -> Result<(), ApiError> {
        let leases = self.leases.iter();
        leases.flat_map(|(_, lease)| lease.keys.iter()).try_for_each(|(key, ())| each(key))
    }
}
