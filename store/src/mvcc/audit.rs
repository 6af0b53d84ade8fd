//! Looking a whole store over: does everything that is written down agree?
//!
//! The engine's checksums tell that rows are what was written; this tells that
//! what was written makes sense: versions of a key follow each other, every
//! revision above the compacted one has its changes and each change its
//! version, leases of keys exist, and the index file gives the same index as
//! the rows. Nothing is changed.

use std::path::Path;

use bytes::Bytes;

use crate::engine::{Cf, Engine, Snapshot};
use crate::error::{Error, Result};
use crate::mvcc::compaction::Compaction;
use crate::mvcc::evaluate::{EVENT_DELETE, EVENT_PUT};
use crate::mvcc::index_file::{self, Examined};
use crate::mvcc::state::{self, State};
use crate::mvcc::view::event_user_key;
use crate::mvcc::{keys, stored_format};
use crate::pb::mvccpb::KeyValue;
use crate::pb::skiff::v1::StoredState;

/// What a look at the index file found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexFile {
    /// There is none.
    Absent,
    /// It is whole, but too old for this state, or of another one.
    Unused,
    /// It gives the same index as the rows.
    Agrees,
}

/// What an audit looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Newest revision.
    pub revision: i64,
    /// Revision compacted at; -1 before the first compaction.
    pub compact_revision: i64,
    /// Keys there are.
    pub keys: usize,
    /// Versions kept, tombstones too.
    pub versions: usize,
    /// Changes kept.
    pub events: usize,
    /// Leases.
    pub leases: usize,
    /// The index file.
    pub index_file: IndexFile,
}

/// Reads everything in `engine` and checks it; the first contradiction is the
/// error. An empty engine passes.
///
/// # Errors
/// [`Error::Corruption`] naming the row or file; [`Error::Storage`] where a
/// newer version wrote it, or the disk fails.
pub fn audit(engine: &dyn Engine, index_file: Option<&Path>) -> Result<Audit> {
    let snapshot = engine.snapshot();
    let snapshot = snapshot.as_ref();
    let empty = stored_format(engine)?.is_none();
    let compaction = Compaction::load(snapshot)?.stored;
    let state = State::load(snapshot, &compaction, None)?;
    let stored = &state.stored;
    if stored.revision < 1 || stored.compact_revision > stored.revision {
        return Err(damaged(format!(
            "row meta/state: revision {}, compacted at {}",
            stored.revision, stored.compact_revision
        )));
    }
    let versions = versions(snapshot, stored)?;
    let events = events(snapshot, stored)?;
    if versions.above_compaction != events.above_compaction {
        return Err(damaged(format!(
            "column family kv has {} versions above revision {}, column family ev {} changes",
            versions.above_compaction, stored.compact_revision, events.above_compaction
        )));
    }
    if empty && versions.all > 0 {
        return Err(damaged("row meta/format is missing".into()));
    }
    let index_file = match index_file {
        None => IndexFile::Absent,
        Some(path) => match index_file::examine(path, snapshot, stored, &compaction)? {
            Examined::Absent => IndexFile::Absent,
            Examined::Unused => IndexFile::Unused,
            Examined::Read(index) if index.iter().eq(state.index.iter()) => IndexFile::Agrees,
            Examined::Read(_) => {
                return Err(damaged(format!(
                    "{}: it does not give the index that the keys have; delete it, it is made again",
                    path.display()
                )));
            }
        },
    };
    Ok(Audit {
        revision: stored.revision,
        compact_revision: stored.compact_revision,
        keys: state.index.len(),
        versions: versions.all,
        events: events.all,
        leases: state.leases.len(),
        index_file,
    })
}

/// Rows of a column family.
#[derive(Default)]
struct Counted {
    all: usize,
    above_compaction: usize,
}

impl Counted {
    fn add(&mut self, revision: i64, stored: &StoredState) {
        self.all += 1;
        self.above_compaction += usize::from(revision > stored.compact_revision);
    }
}

/// Checks the `kv` rows, newest to oldest within a key.
fn versions(snapshot: &dyn Snapshot, stored: &StoredState) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut cursor = snapshot.cursor(Cf::Kv, false);
    cursor.seek(&[])?;
    // The key of the row before, and what it held: `None` for a tombstone.
    let mut newer: Option<(Bytes, Option<KeyValue>)> = None;
    while cursor.valid() {
        let row = cursor.key();
        let (encoded, revision, _) = keys::split_whole(row)?;
        let place = || format!("row kv/{row:02x?}");
        if revision < 1 || revision > stored.revision {
            return Err(damaged(format!("{}: revision {revision} of {}", place(), stored.revision)));
        }
        let kv = state::decode_version(row, Bytes::copy_from_slice(cursor.value()))?;
        if let Some(kv) = &kv {
            check_version(kv, encoded, revision).map_err(|what| damaged(format!("{}: {what}", place())))?;
        } else {
            keys::user_key(encoded)?;
        }
        if let Some((key, above)) = &newer
            && key == encoded
            && !follows(kv.as_ref(), above.as_ref())
        {
            return Err(damaged(format!("{}: the next version of the key does not follow it", place())));
        }
        counted.add(revision, stored);
        newer = Some((Bytes::copy_from_slice(encoded), kv.map(|kv| KeyValue { value: Bytes::new(), ..kv })));
        cursor.next()?;
    }
    Ok(counted)
}

/// Checks a version against the row that holds it.
fn check_version(kv: &KeyValue, encoded: &[u8], revision: i64) -> Result<(), String> {
    if keys::first_version_key(&kv.key) != encoded {
        return Err(format!("holds the key {:?}", String::from_utf8_lossy(&kv.key)));
    }
    if kv.mod_revision != revision {
        return Err(format!("holds a change of revision {}", kv.mod_revision));
    }
    if kv.version < 1 || kv.create_revision < 1 || kv.create_revision > kv.mod_revision {
        return Err(format!("version {}, created at revision {}", kv.version, kv.create_revision));
    }
    Ok(())
}

/// True where `newer` can be the version after `older`.
fn follows(older: Option<&KeyValue>, newer: Option<&KeyValue>) -> bool {
    match (older, newer) {
        (Some(older), Some(newer)) => {
            newer.version == older.version + 1 && newer.create_revision == older.create_revision
        }
        (None, Some(newer)) => newer.version == 1,
        (Some(_), None) => true,
        (None, None) => false,
    }
}

/// Checks the `ev` rows, and that each above the compacted revision has its
/// version.
fn events(snapshot: &dyn Snapshot, stored: &StoredState) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut cursor = snapshot.cursor(Cf::Events, false);
    cursor.seek(&[])?;
    // A new store stands at revision 1, which has no changes.
    let kept_from = stored.compact_revision.max(1);
    let (mut last, mut next_sub) = (kept_from, 0);
    while cursor.valid() {
        let (revision, sub) = keys::event_place(cursor.key())?;
        let kind = cursor.value().first().copied();
        let key = event_user_key(cursor.as_ref())?;
        let damaged = |what: &str| {
            let key = String::from_utf8_lossy(key);
            Err(damaged(format!("column family ev, revision {revision}.{sub}, key {key:?}: {what}")))
        };
        if !matches!(kind, Some(EVENT_PUT | EVENT_DELETE)) {
            return damaged("neither a put nor a delete");
        }
        if revision > stored.revision {
            return damaged("the store's revision is lower");
        }
        if revision > kept_from {
            let expected = if revision == last { (last, next_sub) } else { (last + 1, 0) };
            let skips = stored.sparse && sub == 0 && revision > last;
            if (revision, sub) != expected && !skips {
                return damaged(&format!("changes from {}.{} on are missing", expected.0, expected.1));
            }
            (last, next_sub) = (revision, sub + 1);
            let version = snapshot.get(Cf::Kv, &keys::version_key(key, revision, sub))?;
            match version {
                None => return damaged("its version is not in column family kv"),
                Some(version) if version.is_empty() != (kind == Some(EVENT_DELETE)) => {
                    return damaged("its version in column family kv is of the other kind");
                }
                Some(_) => {}
            }
        }
        counted.add(revision, stored);
        cursor.next()?;
    }
    if last != stored.revision && !stored.sparse {
        return Err(damaged(format!(
            "column family ev ends with revision {last}, the store's revision is {}",
            stored.revision
        )));
    }
    Ok(counted)
}

fn damaged(what: String) -> Error {
    Error::Corruption(what)
}
