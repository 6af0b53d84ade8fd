//! Reading.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::revision::Revision;
use super::{BLOCK, CHECKSUM, Checksum, bucket, entry, io_failed, sha256};
use crate::bbolt::{Database, Value};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::mvcc::{Filler, Version};
use crate::pb::authpb;
use crate::pb::etcdserverpb::AlarmMember;
use crate::pb::mvccpb::KeyValue;
use crate::pb::skiff::v1::{StoredLease, StoredRole, StoredState, StoredUser};

/// A snapshot of an etcd, open for reading.
pub struct EtcdSnapshot {
    database: Database,
}

/// Of the versions in a snapshot.
struct Found {
    /// The newest revision.
    newest: i64,
    /// The newest revision before it at which nothing changed.
    newest_hole: i64,
}

/// What `etcdutl snapshot status` says of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// CRC-32C of everything in it.
    pub hash: u32,
    /// Revision of the newest version it keeps.
    pub revision: i64,
    /// Entries of all its buckets, versions of keys among them.
    pub total_key: u64,
    /// Bytes of the database.
    pub total_size: u64,
}

impl EtcdSnapshot {
    /// Opens a file and compares its checksum, unless that is not to count:
    /// then it may also be missing, as in a member's own `member/snap/db`.
    ///
    /// # Errors
    /// [`Error::Corruption`] where it is damaged or cut off; [`Error::Storage`]
    /// where the disk fails.
    pub fn open(file: File, checksum: Checksum) -> Result<Self> {
        let len = file.metadata().map_err(io_failed)?.len();
        let has_checksum = len % BLOCK == CHECKSUM;
        let database = if has_checksum { len - CHECKSUM } else { len };
        if checksum == Checksum::Compare {
            if !has_checksum {
                return Err(Error::Corruption(
                    "snapshot missing hash but --skip-hash-check=false: the file is cut off, or was copied from \
                     a data directory"
                        .to_owned(),
                ));
            }
            let mut expected = [0; CHECKSUM as usize];
            file.read_exact_at(&mut expected, database).map_err(io_failed)?;
            if expected != sha256(&file, database)? {
                return Err(Error::Corruption(
                    "the snapshot's checksum does not fit its contents".to_owned(),
                ));
            }
        }
        Ok(Self { database: Database::open(file, database)? })
    }

    /// Counts and hashes everything.
    ///
    /// # Errors
    /// [`Error::Corruption`] where it contradicts itself.
    pub fn summary(&self) -> Result<Summary> {
        let mut summary = Summary { hash: 0, revision: 0, total_key: 0, total_size: self.database.size() };
        let mut buckets = self.database.buckets()?;
        while let Some(item) = buckets.next()? {
            let Value::Bucket(found) = item.value else {
                return Err(damaged(format_args!("{:?} is no bucket", String::from_utf8_lossy(&item.key))));
            };
            summary.hash = crc32c::crc32c_append(summary.hash, &item.key);
            let holds_versions = item.key == bucket::KEY.as_bytes();
            let mut entries = self.database.cursor(&found)?;
            while let Some(item) = entries.next()? {
                summary.hash = crc32c::crc32c_append(summary.hash, &item.key);
                if let Value::Bytes(value) = &item.value {
                    summary.hash = crc32c::crc32c_append(summary.hash, value);
                }
                if holds_versions {
                    summary.revision = revision(&item.key)?.0.main;
                }
                summary.total_key += 1;
            }
        }
        Ok(summary)
    }

    /// Fills an empty engine with the state. Blocks. What it writes is durable
    /// once the engine is flushed.
    ///
    /// # Errors
    /// [`Error::Corruption`] where it contradicts itself; faults of the engine.
    pub fn fill(&self, engine: Arc<dyn Engine>) -> Result<()> {
        let mut filler = Filler::new(engine)?;
        let found = self.versions(&mut filler)?;
        self.each(bucket::LEASE, |_, value| filler.lease(&decode::<StoredLease>(value, "a lease")?))?;
        self.each(bucket::USERS, |_, value| filler.user(&user(decode(value, "a user")?)?))?;
        self.each(bucket::ROLES, |_, value| filler.role(&role(decode(value, "a role")?)?))?;
        filler.fresh_state(self.state(found)?);
        filler.finish()
    }

    /// Gives every version to the filler.
    fn versions(&self, filler: &mut Filler) -> Result<Found> {
        if self.database.bucket(bucket::KEY.as_bytes())?.is_none() {
            return Err(damaged("it has no bucket \"key\": it is no etcd's"));
        }
        let mut last: Option<Revision> = None;
        let mut newest_hole = 0;
        self.each(bucket::KEY, |key, value| {
            let (at, deleted) = revision(&key)?;
            if at.main > last.map_or(1, |last| last.main) + 1 {
                newest_hole = at.main - 1;
            }
            if at.main < 1 || last.is_some_and(|last| last >= at) {
                return Err(damaged(format_args!("revision {}.{} is out of order", at.main, at.sub)));
            }
            last = Some(at);
            let mut kv: KeyValue = decode(value, "a version of a key")?;
            if deleted {
                kv = KeyValue { key: kv.key, mod_revision: at.main, ..Default::default() };
            }
            if kv.key.is_empty() || kv.mod_revision != at.main {
                return Err(damaged(format_args!(
                    "revision {}.{} holds a change of key {:?} of revision {}",
                    at.main,
                    at.sub,
                    String::from_utf8_lossy(&kv.key),
                    kv.mod_revision
                )));
            }
            filler.version(&Version { kv, sub: at.sub, deleted })
        })?;
        Ok(Found { newest: last.map_or(0, |last| last.main), newest_hole })
    }

    fn state(&self, Found { newest, newest_hole }: Found) -> Result<StoredState> {
        let mut stored = StoredState { compact_revision: -1, ..Default::default() };
        self.each(bucket::META, |key, value| {
            // A compaction that was not finished counts already.
            if key == entry::FINISHED || key == entry::SCHEDULED {
                stored.compact_revision = stored.compact_revision.max(revision(&value)?.0.main);
            }
            Ok(())
        })?;
        self.each(bucket::AUTH, |key, value| {
            if key == entry::ENABLED {
                stored.auth_enabled = match value[..] {
                    [0] => false,
                    [1] => true,
                    _ => return Err(damaged("it does not say whether auth is on")),
                };
            } else if key == entry::AUTH_REVISION {
                let number = value[..].try_into().map(u64::from_be_bytes);
                stored.auth_revision = number.map_err(|_| damaged("the auth revision is no number"))?;
            }
            Ok(())
        })?;
        self.each(bucket::ALARM, |key, _| {
            stored.alarms.push(decode::<AlarmMember>(key, "an alarm")?);
            Ok(())
        })?;
        // A store begins at 1; where all newer ones were deleted and compacted,
        // the compacted revision is the newest.
        stored.revision = newest.max(stored.compact_revision).max(1);
        // No etcd leaves revisions out; what was moved out of a database may.
        stored.sparse = newest_hole > stored.compact_revision;
        Ok(stored)
    }

    /// Visits the pairs of a bucket; of none where there is no such bucket.
    fn each(&self, name: &str, mut visit: impl FnMut(Bytes, Bytes) -> Result<()>) -> Result<()> {
        let Some(found) = self.database.bucket(name.as_bytes())? else { return Ok(()) };
        let mut entries = self.database.cursor(&found)?;
        while let Some(item) = entries.next()? {
            let Value::Bytes(value) = item.value else {
                return Err(damaged(format_args!("bucket {name:?} holds a bucket")));
            };
            visit(item.key, value)?;
        }
        Ok(())
    }
}

fn revision(key: &[u8]) -> Result<(Revision, bool)> {
    Revision::decode(key).ok_or_else(|| damaged(format_args!("{key:02x?} is no revision")))
}

fn user(user: authpb::User) -> Result<StoredUser> {
    let mut roles = user.roles;
    roles.sort();
    Ok(StoredUser {
        name: text(&user.name, "a user")?,
        password_hash: user.password,
        no_password: user.options.is_some_and(|options| options.no_password),
        roles,
    })
}

fn role(role: authpb::Role) -> Result<StoredRole> {
    let mut permissions = role.key_permission;
    permissions.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(StoredRole { name: text(&role.name, "a role")?, permissions })
}

fn text(bytes: &[u8], what: &str) -> Result<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| damaged(format_args!("{what} is called {bytes:02x?}")))
}

fn decode<M: Message + Default>(bytes: Bytes, what: &str) -> Result<M> {
    M::decode(bytes).map_err(|error| damaged(format_args!("{what}: {error}")))
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::Corruption(format!("etcd's snapshot: {what}"))
}
