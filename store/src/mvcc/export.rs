//! Writing the key space out, one version at a time, in key order.

use bytes::Bytes;

use crate::engine::Cf;
use crate::error::Result;
use crate::mvcc::range::KeyRange;
use crate::mvcc::view::View;
use crate::mvcc::{Mvcc, keys, state};
use crate::pb::mvccpb::KeyValue;

/// What to write out.
#[derive(Debug, Clone)]
pub struct Export {
    /// These keys.
    pub range: KeyRange,
    /// As of this revision; 0 for the newest.
    pub revision: i64,
    /// Every version kept up to the revision, newest first within a key, the
    /// deletions too; otherwise only what exists at the revision.
    pub history: bool,
}

/// A version of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// The pair; of a deletion its key and revision alone.
    pub kv: KeyValue,
    /// Which of the changes of its revision made it, from 0.
    pub sub: u32,
    /// The key was deleted here.
    pub deleted: bool,
}

impl Mvcc {
    /// Gives `visit` one version after the other; holds one at a time.
    ///
    /// # Errors
    /// The revision is compacted or in the future; faults of the engine; what
    /// `visit` fails with.
    pub fn export(&self, export: &Export, visit: &mut dyn FnMut(Version) -> Result<()>) -> Result<()> {
        let view = self.shared.view();
        let revision = view.resolve_revision(export.revision)?;
        walk(&view, export, revision, visit)
    }
}

fn walk(
    view: &View,
    export: &Export,
    revision: i64,
    visit: &mut dyn FnMut(Version) -> Result<()>,
) -> Result<()> {
    let compacted = view.state.stored.compact_revision;
    let mut cursor = view.snapshot.cursor(Cf::Kv, false);
    cursor.seek(&export.range.first_row())?;
    let mut key = Bytes::new();
    // What is older than the version found last cannot be read any more.
    let mut settled = false;
    while cursor.valid() && export.range.holds_row(cursor.key()) {
        let (encoded, at, sub) = keys::split_whole(cursor.key())?;
        if encoded != key {
            key = Bytes::copy_from_slice(encoded);
            settled = false;
        }
        if at <= revision && !settled {
            settled = !export.history || at <= compacted;
            let kv = state::decode_version(cursor.key(), Bytes::copy_from_slice(cursor.value()))?;
            let deleted = kv.is_none();
            if !deleted || (export.history && at >= compacted) {
                let kv = match kv {
                    Some(kv) => kv,
                    None => KeyValue { key: keys::user_key(&key)?, mod_revision: at, ..Default::default() },
                };
                visit(Version { kv, sub, deleted })?;
            }
        }
        cursor.next()?;
    }
    Ok(())
}
