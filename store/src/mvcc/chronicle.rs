//! A state as it is at one moment, to be written out elsewhere in the order in
//! which it came about.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::engine::Cf;
use crate::error::{ApiError, Error, Result};
use crate::mvcc::evaluate::EVENT_DELETE;
use crate::mvcc::state::{ROLE_PREFIX, USER_PREFIX, decode_version, named_row};
use crate::mvcc::view::{View, event_user_key};
use crate::mvcc::{Mvcc, SmallRow, Version, keys};
use crate::pb::mvccpb::KeyValue;
use crate::pb::skiff::v1::{StoredLease, StoredRole, StoredState, StoredUser};

/// Rows remembered while the versions that a compaction left are put in order:
/// the key space is walked once for each so many of them.
const SORTED_AT_ONCE: usize = 200_000;

/// The state at one moment: what is written later does not change it.
pub struct Chronicle {
    pub(super) view: Arc<View>,
}

impl Mvcc {
    /// The state as it is now.
    pub fn chronicle(&self) -> Chronicle {
        Chronicle { view: self.shared.view() }
    }
}

impl Chronicle {
    /// The state's own record.
    pub fn stored(&self) -> &StoredState {
        &self.view.state.stored
    }

    /// The leases, as last checkpointed.
    pub fn leases(&self) -> Vec<StoredLease> {
        self.view.state.leases.iter().map(|(_, lease)| lease.stored).collect()
    }

    /// The users, by name.
    pub fn users(&self) -> impl Iterator<Item = &StoredUser> {
        let auth = &self.view.state.auth;
        auth.users().filter_map(|name| auth.user(name).ok())
    }

    /// The roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = &StoredRole> {
        let auth = &self.view.state.auth;
        auth.roles().filter_map(|name| auth.role(name).ok())
    }

    /// Leases, users and roles as the rows that hold them.
    pub fn small_rows(&self) -> Vec<SmallRow> {
        let row = |cf, key, value: Vec<u8>| SmallRow { cf, key, value: Some(value.into()) };
        let leases = self.leases().into_iter();
        let leases = leases.map(|lease| row(Cf::Leases, keys::lease_key(lease.id), lease.encode_to_vec()));
        let users = self.users();
        let users = users.map(|user| row(Cf::Meta, named_row(USER_PREFIX, &user.name), user.encode_to_vec()));
        let roles = self.roles();
        let roles = roles.map(|role| row(Cf::Meta, named_row(ROLE_PREFIX, &role.name), role.encode_to_vec()));
        leases.chain(users).chain(roles).collect()
    }

    /// Gives `visit` every version that can be read or watched, in the order of
    /// revisions: of each key the newest one up to the compacted revision
    /// (deletions below it are not kept), and every later one.
    ///
    /// # Errors
    /// Faults of the engine; what `visit` fails with.
    pub fn versions(&self, visit: &mut dyn FnMut(Version) -> Result<()>) -> Result<()> {
        self.versions_sorted(SORTED_AT_ONCE, visit)
    }

    /// Gives `visit` every change after a revision, in order.
    ///
    /// # Errors
    /// As [`Chronicle::versions`]; [`ApiError::Compacted`] where changes after
    /// that revision are not kept any more.
    pub fn since(&self, revision: i64, visit: &mut dyn FnMut(Version) -> Result<()>) -> Result<()> {
        if revision < self.stored().compact_revision {
            return Err(ApiError::Compacted.into());
        }
        self.changes_after(revision, visit)
    }

    /// What a key was before its first change of a revision above the compacted
    /// one, with the sub-revision of its row; `None` where it did not exist.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn before(&self, key: &[u8], revision: i64) -> Result<Option<(KeyValue, u32)>> {
        self.view.row_at(key, revision - 1)
    }

    /// As [`Chronicle::versions`], with room to sort so many at once.
    pub(super) fn versions_sorted(
        &self,
        at_once: usize,
        visit: &mut dyn FnMut(Version) -> Result<()>,
    ) -> Result<()> {
        self.left_by_compaction(at_once, visit)?;
        self.changes_after(self.stored().compact_revision.max(0), visit)
    }

    fn left_by_compaction(&self, at_once: usize, visit: &mut dyn FnMut(Version) -> Result<()>) -> Result<()> {
        if self.stored().compact_revision < 1 {
            return Ok(());
        }
        let mut after = (0, 0);
        loop {
            let rows = self.oldest_rows(after, at_once)?;
            for (at, row) in &rows {
                let missing = || Error::Corruption(format!("row kv/{row:02x?} vanished"));
                let value = self.view.snapshot.get(Cf::Kv, row)?.ok_or_else(missing)?;
                let key = keys::user_key(keys::split(row)?.0)?;
                visit(version(key, *at, row, value)?)?;
                after = *at;
            }
            if rows.len() < at_once {
                return Ok(());
            }
        }
    }

    /// Rows of what is readable up to the compacted revision and changed after
    /// `after`, the `at_once` oldest of them.
    fn oldest_rows(&self, after: (i64, u32), at_once: usize) -> Result<BTreeMap<(i64, u32), Bytes>> {
        let compacted = self.stored().compact_revision;
        let mut rows = BTreeMap::new();
        let mut cursor = self.view.snapshot.cursor(Cf::Kv, false);
        cursor.seek(&[])?;
        let mut key = Bytes::new();
        let mut settled = false;
        while cursor.valid() {
            let row = cursor.key();
            let (encoded, revision, sub) = keys::split_whole(row)?;
            if encoded != key {
                key = Bytes::copy_from_slice(encoded);
                settled = false;
            }
            if revision <= compacted && !settled {
                settled = true;
                let gone = cursor.value().is_empty() && revision < compacted;
                if !gone && (revision, sub) > after {
                    rows.insert((revision, sub), Bytes::copy_from_slice(row));
                    if rows.len() > at_once {
                        rows.pop_last();
                    }
                }
            }
            cursor.next()?;
        }
        Ok(rows)
    }

    fn changes_after(&self, revision: i64, visit: &mut dyn FnMut(Version) -> Result<()>) -> Result<()> {
        let mut events = self.view.snapshot.cursor(Cf::Events, false);
        events.seek(&keys::event_key(revision + 1, 0))?;
        while events.valid() {
            let at = keys::event_place(events.key())?;
            let key = Bytes::copy_from_slice(event_user_key(events.as_ref())?);
            let row = keys::version_key(&key, at.0, at.1);
            let value = if events.value().first() == Some(&EVENT_DELETE) {
                Bytes::new()
            } else {
                let missing =
                    || Error::Corruption(format!("the version of revision {}.{} is missing", at.0, at.1));
                let value = self.view.snapshot.get(Cf::Kv, &row)?;
                value.filter(|value| !value.is_empty()).ok_or_else(missing)?
            };
            visit(version(key, at, &row, value)?)?;
            events.next()?;
        }
        Ok(())
    }
}

fn version(key: Bytes, (mod_revision, sub): (i64, u32), row: &[u8], value: Bytes) -> Result<Version> {
    let kv = decode_version(row, value)?;
    let deleted = kv.is_none();
    let kv = kv.unwrap_or_else(|| KeyValue { key, mod_revision, ..Default::default() });
    Ok(Version { kv, sub, deleted })
}
