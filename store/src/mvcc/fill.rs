//! Filling an empty engine with a state that is kept elsewhere.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::engine::{Batch, Cf, Engine};
use crate::error::{Error, Result};
use crate::mvcc::evaluate::{EVENT_DELETE, EVENT_PUT, row_bytes};
use crate::mvcc::state::{
    COMPACTION_ROW, FORMAT_ROW, ROLE_PREFIX, STATE_ROW, USER_PREFIX, decode, named_row,
};
use crate::mvcc::{FORMAT, Version, check_format, keys};
use crate::pb::skiff::v1::{StoredCompaction, StoredLease, StoredRole, StoredState, StoredUser};

/// Bytes written at once.
const BATCH_BYTES: i64 = 4 << 20;

/// Writes a state into an empty engine, part by part, in any order; the engine
/// can be opened once [`Filler::finish`] was called.
pub struct Filler {
    engine: Arc<dyn Engine>,
    batch: Batch,
    batch_bytes: i64,
    total_bytes: i64,
    stored: Option<StoredState>,
}

impl Filler {
    /// Begins.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn new(engine: Arc<dyn Engine>) -> Result<Self> {
        check_format(engine.as_ref())?;
        Ok(Self { engine, batch: Batch::default(), batch_bytes: 0, total_bytes: 0, stored: None })
    }

    /// Adds a version of a key.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn version(&mut self, version: &Version) -> Result<()> {
        let Version { kv, sub, deleted } = version;
        let row = keys::version_key(&kv.key, kv.mod_revision, *sub);
        let value: Bytes = if *deleted { Bytes::new() } else { kv.encode_to_vec().into() };
        let mut event = BytesMut::with_capacity(1 + kv.key.len());
        event.put_u8(if *deleted { EVENT_DELETE } else { EVENT_PUT });
        event.put_slice(&kv.key);
        let bytes = row_bytes(&row, &value, &kv.key);
        self.batch.put(Cf::Kv, row, value);
        self.batch.put(Cf::Events, keys::event_key(kv.mod_revision, *sub), event.freeze());
        self.added(bytes)
    }

    /// Adds a row of a lease, a user, a role or a member, as
    /// [`Prepared::small_rows`](super::Prepared::small_rows) gave it.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn small_row(&mut self, cf: Cf, key: Bytes, value: Bytes) -> Result<()> {
        // What is no key counts for the batch, not for the size of the state.
        self.batch_bytes += (key.len() + value.len()) as i64;
        self.batch.put(cf, key, value);
        self.added(0)
    }

    /// Sets the state's own record.
    ///
    /// # Errors
    /// [`Error::Corruption`] where it cannot be read.
    pub fn state(&mut self, stored: &[u8]) -> Result<()> {
        self.stored = Some(decode(stored, "of the state")?);
        Ok(())
    }

    /// Adds a lease.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn lease(&mut self, lease: &StoredLease) -> Result<()> {
        self.small_row(Cf::Leases, keys::lease_key(lease.id), lease.encode_to_vec().into())
    }

    /// Adds a user.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn user(&mut self, user: &StoredUser) -> Result<()> {
        self.small_row(Cf::Meta, named_row(USER_PREFIX, &user.name), user.encode_to_vec().into())
    }

    /// Adds a role.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn role(&mut self, role: &StoredRole) -> Result<()> {
        self.small_row(Cf::Meta, named_row(ROLE_PREFIX, &role.name), role.encode_to_vec().into())
    }

    /// Sets the record of a state that no store of ours had before, after
    /// everything else was added.
    pub fn fresh_state(&mut self, stored: StoredState) {
        if stored.auth_enabled {
            // A binary that knows no users must not serve this store to anyone.
            self.batch.put(Cf::Meta, FORMAT_ROW, FORMAT.to_be_bytes().to_vec());
        }
        self.stored = Some(StoredState { bytes_written: self.total_bytes, ..stored });
    }

    fn added(&mut self, bytes: i64) -> Result<()> {
        self.total_bytes += bytes;
        self.batch_bytes += bytes;
        if self.batch_bytes >= BATCH_BYTES {
            self.batch_bytes = 0;
            self.engine.write(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    /// Writes the rest.
    ///
    /// # Errors
    /// Faults of the engine; no state was set.
    pub fn finish(mut self) -> Result<()> {
        let stored = self.stored.ok_or_else(|| Error::Other("a state without its record".into()))?;
        // What the other place has removed already counts as removed here.
        let bytes_removed = stored.bytes_written - self.total_bytes;
        let compaction = StoredCompaction { done_through: 0, bytes_removed };
        self.batch.put(Cf::Meta, STATE_ROW, stored.encode_to_vec());
        self.batch.put(Cf::Meta, COMPACTION_ROW, compaction.encode_to_vec());
        self.engine.write(self.batch)
    }
}
