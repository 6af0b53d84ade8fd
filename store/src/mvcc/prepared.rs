//! What entries will do to the state, before it is done: for stores that keep
//! the state in a second place and must write there first.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::engine::{Batch, Cf, Op};
use crate::error::Result;
use crate::mvcc::state::{STATE_ROW, State, decode_version};
use crate::mvcc::view::View;
use crate::mvcc::{EntryOutcome, keys};
use crate::pb::mvccpb::{Event, KeyValue};

/// Evaluated entries, not applied yet.
pub struct Prepared {
    pub(super) base: Arc<View>,
    pub(super) state: State,
    pub(super) batch: Batch,
    pub(super) events: Vec<Event>,
    pub(super) outcomes: Vec<EntryOutcome>,
}

/// One change of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its revision.
    pub revision: i64,
    /// Which of the changes of its revision it is, from 0.
    pub sub: u32,
    /// The pair from now on; `None` where the key was deleted.
    pub kv: Option<KeyValue>,
    /// The pair until now, with the sub-revision of its change.
    pub previous: Option<(KeyValue, u32)>,
}

/// A row that is not of the key space: a lease, a user, a role, a member's
/// attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct SmallRow {
    /// Its table.
    pub cf: Cf,
    /// Its key there.
    pub key: Bytes,
    /// Its value; `None` where it was removed.
    pub value: Option<Bytes>,
}

impl Prepared {
    /// True where nothing changes but the log's position.
    pub fn is_empty(&self) -> bool {
        let (mut before, mut after) = (self.base.state.stored.clone(), self.state.stored.clone());
        for stored in [&mut before, &mut after] {
            (stored.applied_index, stored.applied_term, stored.position) = (0, 0, Bytes::new());
        }
        let tokens = self.outcomes.iter().any(|outcome| !outcome.tokens.is_empty());
        before == after && !tokens && self.batch.ops.iter().all(is_state)
    }

    /// What the entries answer.
    pub fn outcomes(&self) -> &[EntryOutcome] {
        &self.outcomes
    }

    /// The answers alone, where nothing is to be applied.
    pub fn into_outcomes(self) -> Vec<EntryOutcome> {
        self.outcomes
    }

    /// The revision they lead to.
    pub fn revision(&self) -> i64 {
        self.state.stored.revision
    }

    /// The compacted revision they lead to; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.state.stored.compact_revision
    }

    /// The state's own record as stored, which [`super::Filler::state`] takes.
    pub fn stored_state(&self) -> Bytes {
        self.state.stored.encode_to_vec().into()
    }

    /// The granted TTL of a lease, as they leave it.
    pub fn lease_ttl(&self, id: i64) -> Option<i64> {
        self.state.leases.get(&id).map(|lease| lease.stored.ttl)
    }

    /// The changes of keys, in order.
    ///
    /// # Errors
    /// Faults of the engine.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let mut newest: HashMap<Bytes, Option<(KeyValue, u32)>> = HashMap::new();
        let mut changes = Vec::new();
        for op in &self.batch.ops {
            let Op::Put(Cf::Kv, row, version) = op else { continue };
            let (encoded, revision, sub) = keys::split_whole(row)?;
            let key = keys::user_key(encoded)?;
            let kv = decode_version(row, version.clone())?;
            let written = newest.insert(key.clone(), kv.clone().map(|kv| (kv, sub)));
            let previous = match written {
                Some(previous) => previous,
                None => self.before(&key)?,
            };
            changes.push(Change { key, revision, sub, kv, previous });
        }
        Ok(changes)
    }

    fn before(&self, key: &[u8]) -> Result<Option<(KeyValue, u32)>> {
        let meta = self.base.state.index.get(key).copied();
        meta.map(|meta| Ok((self.base.fetch(key, &meta)?, meta.sub))).transpose()
    }

    /// The other rows that change, in order.
    pub fn small_rows(&self) -> Vec<SmallRow> {
        let row = |op: &Op| match op {
            Op::Put(cf @ (Cf::Leases | Cf::Meta), key, value) if !is_state(op) => {
                Some(SmallRow { cf: *cf, key: key.clone(), value: Some(value.clone()) })
            }
            Op::Delete(cf @ (Cf::Leases | Cf::Meta), key) => {
                Some(SmallRow { cf: *cf, key: key.clone(), value: None })
            }
            _ => None,
        };
        self.batch.ops.iter().filter_map(row).collect()
    }
}

fn is_state(op: &Op) -> bool {
    matches!(op, Op::Put(Cf::Meta, key, _) if key == STATE_ROW)
}
