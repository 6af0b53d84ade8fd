//! Taking over the changes of another program that writes into the same
//! database, by its own rules for revisions: one change each, some left out.

use crate::api::WriteReply;
use crate::mvcc::evaluate::Evaluator;
use crate::mvcc::state::{Key, Meta};
use crate::pb::mvccpb::KeyValue;
use crate::pb::skiff::v1::{Adopt, AdoptedChange};

impl Evaluator {
    /// Makes the changes at the revisions they have.
    pub(super) fn adopt(&mut self, adopt: &Adopt) -> WriteReply {
        for change in &adopt.changes {
            self.adopt_change(change);
        }
        let stored = &mut self.view.state.stored;
        stored.revision = stored.revision.max(adopt.through);
        stored.sparse = true;
        WriteReply::Done(stored.revision)
    }

    /// What was before a pair, as its own row tells it: whoever loads that row
    /// must come to the same state.
    fn as_told(&mut self, kv: &KeyValue, previous: Option<Meta>) -> Option<Meta> {
        let lease = previous.map_or(0, |meta| meta.lease);
        let counted = previous.map_or(1, |meta| meta.version);
        if kv.create_revision == 0 {
            self.move_lease(&Key::from(&kv.key[..]), lease, 0);
            return None;
        }
        Some(Meta {
            create_revision: kv.create_revision,
            version: if kv.version > 0 { kv.version - 1 } else { counted },
            mod_revision: previous.map_or(0, |meta| meta.mod_revision),
            lease,
            sub: 0,
        })
    }

    fn adopt_change(&mut self, change: &AdoptedChange) {
        let Some(kv) = &change.kv else { return };
        if kv.mod_revision <= self.view.state.stored.revision {
            return;
        }
        self.view.state.stored.revision = kv.mod_revision - 1;
        let previous = self.view.state.index.get(&kv.key[..]).copied();
        match (change.deleted, previous) {
            (false, previous) => {
                let lease = if self.view.state.leases.get(&kv.lease).is_some() { kv.lease } else { 0 };
                let previous = self.as_told(kv, previous);
                self.write(&kv.key, kv.value.clone(), lease, previous);
            }
            (true, Some(meta)) => self.delete(Key::from(&kv.key[..]), meta),
            // It deleted what was not there: a revision without a change.
            (true, None) => {}
        }
        self.end_command();
        self.view.state.stored.revision = kv.mod_revision;
    }
}
