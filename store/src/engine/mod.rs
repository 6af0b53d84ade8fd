//! Engines: ordered maps of bytes, in column families, written in atomic
//! batches and read through snapshots.
//!
//! # Contract
//!
//! * A [`Batch`] is applied whole or not at all, also by a crash.
//! * [`Engine::flush`] makes everything written before it durable. Without it
//!   a crash may lose a suffix of the batches, never one out of the middle:
//!   the log above replays what is missing.
//! * A [`Snapshot`] is immune to later batches and costs O(1) to take.
//! * Iteration is in ascending byte order of keys, or descending on request.

#[cfg(test)]
mod conformance;
pub mod mem;
pub mod rocks;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;

/// A column family. The names are part of the persisted format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cf {
    /// Every kept version of every key.
    Kv,
    /// Every kept revision: which key it changed, and how.
    Events,
    /// Leases.
    Leases,
    /// Everything else: format version, applied position, alarms, members.
    Meta,
}

impl Cf {
    /// All column families.
    pub const ALL: [Cf; 4] = [Cf::Kv, Cf::Events, Cf::Leases, Cf::Meta];

    /// The persisted name.
    pub fn name(self) -> &'static str {
        match self {
            Cf::Kv => "kv",
            Cf::Events => "ev",
            Cf::Leases => "lease",
            Cf::Meta => "meta",
        }
    }
}

/// One change in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Set a key.
    Put(Cf, Bytes, Bytes),
    /// Remove a key.
    Delete(Cf, Bytes),
    /// Remove all keys from the first (inclusive) to the second (exclusive).
    /// Ranges that follow each other are cheap; many that lie within each other
    /// make reads slow until they are compacted.
    DeleteRange(Cf, Bytes, Bytes),
}

/// Changes applied together, in order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The changes.
    pub ops: Vec<Op>,
}

impl Batch {
    /// Adds a put.
    pub fn put(&mut self, cf: Cf, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push(Op::Put(cf, key.into(), value.into()));
    }

    /// Adds a removal.
    pub fn delete(&mut self, cf: Cf, key: impl Into<Bytes>) {
        self.ops.push(Op::Delete(cf, key.into()));
    }

    /// Adds the removal of a range.
    pub fn delete_range(&mut self, cf: Cf, from: impl Into<Bytes>, to: impl Into<Bytes>) {
        self.ops.push(Op::DeleteRange(cf, from.into(), to.into()));
    }
}

/// What an engine occupies, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineSize {
    /// On disk and in write buffers.
    pub total: u64,
}

/// A cursor over a column family, positioned by `seek`.
///
/// `key` and `value` borrow from the cursor; copy what must outlive a step.
pub trait Cursor: Send {
    /// Goes to the first key at or after `key`.
    fn seek(&mut self, key: &[u8]) -> Result<()>;
    /// Goes to the last key at or before `key`.
    fn seek_for_prev(&mut self, key: &[u8]) -> Result<()>;
    /// Goes one key further. Only while `valid`.
    fn next(&mut self) -> Result<()>;
    /// Goes one key back. Only while `valid`.
    fn prev(&mut self) -> Result<()>;
    /// The cursor stands on a key.
    fn valid(&self) -> bool;
    /// The key. Only while `valid`.
    fn key(&self) -> &[u8];
    /// The value. Only while `valid`.
    fn value(&self) -> &[u8];
}

/// A state of an engine that later batches do not change.
pub trait Snapshot: Send + Sync {
    /// Reads a key.
    fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Bytes>>;
    /// A cursor, not positioned yet. With `fill_cache` false a long scan does
    /// not push out what others use.
    fn cursor(&self, cf: Cf, fill_cache: bool) -> Box<dyn Cursor + '_>;
}

/// An ordered store of bytes.
pub trait Engine: Send + Sync + 'static {
    /// Applies a batch. Blocks while the engine is behind.
    fn write(&self, batch: Batch) -> Result<()>;
    /// The current state.
    fn snapshot(&self) -> Arc<dyn Snapshot>;
    /// Makes everything written so far durable.
    fn flush(&self) -> Result<()>;
    /// Makes a copy in `dir`, which must not exist, out of hard links where it
    /// can. The copy holds everything written before the call.
    fn checkpoint(&self, dir: &Path) -> Result<()>;
    /// Gives the space of removed keys back, range by range, while reads and
    /// writes go on.
    fn reclaim(&self) -> Result<()>;
    /// What the engine occupies.
    fn size(&self) -> EngineSize;
}
