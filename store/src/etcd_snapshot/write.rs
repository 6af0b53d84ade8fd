//! Writing.

use std::fs::File;
use std::os::unix::fs::FileExt;

use prost::Message;

use super::revision::Revision;
use super::{CHECKSUM, bucket, entry, io_failed, sha256};
use crate::bbolt::{BucketWriter, Writer};
use crate::error::{Error, Result};
use crate::mvcc::{Chronicle, Mvcc, Version};
use crate::pb::authpb;
use crate::pb::mvccpb::KeyValue;
use crate::pb::skiff::v1::{StoredRole, StoredUser};

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Revision of the state.
    pub revision: i64,
    /// Bytes of the file, its checksum included.
    pub size: u64,
}

/// Writes the state as of now into an empty file, open for reading too, which
/// is durable when this returns. Writes to `mvcc` go on meanwhile. Blocks.
///
/// # Errors
/// Faults of the engine; [`Error::Storage`] where the disk fails;
/// [`Error::Other`] where etcd's format cannot express the state.
pub fn write(mvcc: &Mvcc, file: File) -> Result<Written> {
    let chronicle = mvcc.chronicle();
    let mut writer = Writer::new(file)?;
    // In the order of the names.
    writer.bucket(bucket::ALARM, |out| alarms(&chronicle, out))?;
    writer.bucket(bucket::AUTH, |out| {
        let stored = chronicle.stored();
        out.put(entry::ENABLED, &[u8::from(stored.auth_enabled)])?;
        out.put(entry::AUTH_REVISION, &stored.auth_revision.max(1).to_be_bytes())
    })?;
    writer.bucket(bucket::ROLES, |out| {
        chronicle.roles().try_for_each(|role| out.put(role.name.as_bytes(), &etcd_role(role).encode_to_vec()))
    })?;
    writer.bucket(bucket::USERS, |out| {
        chronicle.users().try_for_each(|user| out.put(user.name.as_bytes(), &etcd_user(user).encode_to_vec()))
    })?;
    writer.bucket(bucket::CLUSTER, |_| Ok(()))?;
    writer.bucket(bucket::KEY, |out| versions(&chronicle, out))?;
    writer.bucket(bucket::LEASE, |out| leases(&chronicle, out))?;
    writer.bucket(bucket::MEMBERS, |_| Ok(()))?;
    writer.bucket(bucket::REMOVED, |_| Ok(()))?;
    writer.bucket(bucket::META, |out| meta(&chronicle, out))?;
    let file = writer.finish()?;
    let len = file.metadata().map_err(io_failed)?.len();
    let sum = sha256(&file, len)?;
    file.write_all_at(&sum, len).map_err(io_failed)?;
    file.sync_all().map_err(io_failed)?;
    Ok(Written { revision: chronicle.stored().revision, size: len + CHECKSUM })
}

type Out<'a> = BucketWriter<'a, File>;

fn alarms(chronicle: &Chronicle, out: &mut Out<'_>) -> Result<()> {
    let mut alarms: Vec<_> = chronicle.stored().alarms.iter().map(Message::encode_to_vec).collect();
    alarms.sort();
    alarms.dedup();
    alarms.iter().filter(|alarm| !alarm.is_empty()).try_for_each(|alarm| out.put(alarm, &[]))
}

fn versions(chronicle: &Chronicle, out: &mut Out<'_>) -> Result<()> {
    let stored = chronicle.stored();
    // What etcd takes for the revision of a state without versions.
    let mut newest = stored.compact_revision.max(1);
    chronicle.versions(&mut |Version { kv, sub, deleted }| {
        let at = Revision { main: kv.mod_revision, sub };
        newest = newest.max(at.main);
        let kv = if deleted { KeyValue { key: kv.key, ..Default::default() } } else { kv };
        out.put(&at.encode(deleted), &kv.encode_to_vec())
    })?;
    if newest != stored.revision {
        // etcd would count on from the newest change and give revisions out twice.
        return Err(Error::Other(format!(
            "nothing changed at revision {}, the newest one, which etcd's format cannot express: write a key or \
             compact at that revision first",
            stored.revision
        )));
    }
    Ok(())
}

fn leases(chronicle: &Chronicle, out: &mut Out<'_>) -> Result<()> {
    let mut leases = chronicle.leases();
    // Ids below 0 come last in etcd's order.
    leases.sort_by_key(|lease| lease.id as u64);
    // Field by field the message that etcd keeps.
    leases.iter().try_for_each(|lease| out.put(&lease.id.to_be_bytes(), &lease.encode_to_vec()))
}

fn meta(chronicle: &Chronicle, out: &mut Out<'_>) -> Result<()> {
    let stored = chronicle.stored();
    out.put(entry::INDEX, &stored.applied_index.to_be_bytes())?;
    if stored.compact_revision >= 0 {
        let compacted = Revision { main: stored.compact_revision, sub: 0 }.encode(false);
        out.put(entry::FINISHED, &compacted)?;
        out.put(entry::SCHEDULED, &compacted)?;
    }
    out.put(entry::TERM, &stored.applied_term.to_be_bytes())
}

fn etcd_user(user: &StoredUser) -> authpb::User {
    authpb::User {
        name: user.name.clone().into(),
        password: user.password_hash.clone(),
        roles: user.roles.clone(),
        options: Some(authpb::UserAddOptions { no_password: user.no_password }),
    }
}

fn etcd_role(role: &StoredRole) -> authpb::Role {
    authpb::Role { name: role.name.clone().into(), key_permission: role.permissions.clone() }
}
