//! Doing a history over again, for a target whose revisions count on by
//! themselves: one write for each revision of the source.
//!
//! Of what was compacted only the outcome is known: when a key was created, when
//! it was changed last, and how often. The writes in between are made up, in
//! such a way that revisions and versions come out the same. At revisions at
//! which nothing is known to have happened another key is written, [`FILLER`],
//! which is gone in the end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use skiff_store::mvcc::{Chronicle, Version};
use skiff_store::{Error, Result};

/// The key that is written where nothing else is.
pub(super) const FILLER: &[u8] = b"\0skiff-datastore-migrate";

/// The first revision that a write makes.
const FIRST: i64 = 2;

/// What to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// At every revision up to this one: anything.
    Idle(i64),
    /// At this revision: these changes, in this order.
    Change(i64, Vec<Change>),
}

/// A change of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// A pair as it is from now on: key, value, lease.
    Put(Bytes, Bytes, i64),
    /// A key is deleted.
    Delete(Bytes),
}

/// A key as a compaction left it.
#[derive(Debug)]
struct Early {
    key: Bytes,
    created: i64,
    changed: i64,
    version: i64,
    deleted: bool,
}

/// Gives `visit` what to write behind revision `after`.
///
/// # Errors
/// Faults of the state, or that it cannot have come about by writes; what
/// `visit` fails with.
pub(super) fn steps(
    chronicle: &Chronicle,
    after: i64,
    visit: &mut dyn FnMut(Step) -> Result<()>,
) -> Result<()> {
    let stored = chronicle.stored();
    let compacted = stored.compact_revision.max(0);
    let mut out = Steps { at: FIRST - 1, after, visit };
    if compacted > after {
        let mut early = Vec::new();
        chronicle.versions(&mut |version| {
            if version.kv.mod_revision <= compacted {
                early.push(Early::of(&version)?);
            }
            Ok(())
        })?;
        replay_early(chronicle, early, compacted, &mut out)?;
    } else {
        out.at = after;
    }
    let mut changes = Vec::new();
    let mut at = 0;
    chronicle.since(out.at.max(compacted), &mut |version| {
        let revision = version.kv.mod_revision;
        if revision != at && !changes.is_empty() {
            out.change(at, std::mem::take(&mut changes))?;
        }
        at = revision;
        changes.push(match version.deleted {
            true => Change::Delete(version.kv.key),
            false => Change::Put(version.kv.key, version.kv.value, version.kv.lease),
        });
        Ok(())
    })?;
    if !changes.is_empty() {
        out.change(at, changes)?;
    }
    out.idle_through(stored.revision)
}

/// Steps in order, those up to `after` left out.
struct Steps<'a> {
    at: i64,
    after: i64,
    visit: &'a mut dyn FnMut(Step) -> Result<()>,
}

impl Steps<'_> {
    fn change(&mut self, revision: i64, changes: Vec<Change>) -> Result<()> {
        self.idle_through(revision - 1)?;
        self.at = revision;
        if revision > self.after { (self.visit)(Step::Change(revision, changes)) } else { Ok(()) }
    }

    fn idle_through(&mut self, revision: i64) -> Result<()> {
        if revision <= self.at {
            return Ok(());
        }
        self.at = revision;
        if revision > self.after { (self.visit)(Step::Idle(revision)) } else { Ok(()) }
    }
}

impl Early {
    fn of(version: &Version) -> Result<Self> {
        let kv = &version.kv;
        let early = Self {
            key: kv.key.clone(),
            // A deletion at the compacted revision tells no more than itself.
            created: if version.deleted { kv.mod_revision - 1 } else { kv.create_revision },
            changed: kv.mod_revision,
            version: if version.deleted { 2 } else { kv.version },
            deleted: version.deleted,
        };
        let between = early.changed - early.created;
        let possible = early.created >= FIRST
            && match early.version {
                1 => between == 0,
                version => version > 1 && between >= version - 1,
            };
        if possible {
            return Ok(early);
        }
        Err(Error::Other(format!(
            "key {:?} of revision {}, created at {}, is of version {}: no etcd can come to that; choose a snapshot \
             or a database as the target",
            String::from_utf8_lossy(&early.key),
            early.changed,
            early.created,
            early.version
        )))
    }

    /// Puts between the first and the last that are still to be made, where
    /// `made` have been.
    fn left(&self, made: i64) -> i64 {
        self.version - 2 - made
    }
}

/// What led to what a compaction left.
fn replay_early(chronicle: &Chronicle, early: Vec<Early>, compacted: i64, out: &mut Steps<'_>) -> Result<()> {
    let (mut firsts, mut lasts) = (by(&early, |key| key.created), by(&early, |key| key.changed));
    // Keys with puts in between, by the revision at which these must begin at
    // the latest, one at each revision.
    let mut between: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
    let mut made = vec![0; early.len()];
    let mut revision = FIRST;
    while revision <= compacted {
        let mut changes = Vec::new();
        let mut added = Vec::new();
        for index in firsts.remove(&revision).unwrap_or_default() {
            let key = &early[index];
            if key.version == 1 {
                // Its first put is its last.
                continue;
            }
            changes.push(Change::Put(key.key.clone(), Bytes::new(), 0));
            added.push(index);
        }
        for index in lasts.remove(&revision).unwrap_or_default() {
            changes.push(last_change(chronicle, &early[index])?);
        }
        while let Some(Reverse((latest, index))) = between.peek().copied()
            && (latest <= revision || changes.is_empty())
        {
            between.pop();
            made[index] += 1;
            changes.push(Change::Put(early[index].key.clone(), Bytes::new(), 0));
            added.push(index);
        }
        for index in added {
            let key = &early[index];
            let left = key.left(made[index]);
            if left > 0 {
                between.push(Reverse((key.changed - left, index)));
            }
        }
        if !changes.is_empty() {
            out.change(revision, changes)?;
            revision += 1;
            continue;
        }
        // Nothing happens until the next first or last put.
        let next = [firsts.keys().next(), lasts.keys().next()].into_iter().flatten().min().copied();
        let next = next.unwrap_or(compacted + 1).min(compacted + 1);
        out.idle_through(next - 1)?;
        revision = next;
    }
    Ok(())
}

fn by(early: &[Early], revision: impl Fn(&Early) -> i64) -> BTreeMap<i64, Vec<usize>> {
    let mut found: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, key) in early.iter().enumerate() {
        found.entry(revision(key)).or_default().push(index);
    }
    found
}

fn last_change(chronicle: &Chronicle, early: &Early) -> Result<Change> {
    if early.deleted {
        return Ok(Change::Delete(early.key.clone()));
    }
    let found = chronicle.before(&early.key, early.changed + 1)?;
    let (kv, _) = found.ok_or_else(|| {
        Error::Corruption(format!("key {:?} vanished", String::from_utf8_lossy(&early.key)))
    })?;
    Ok(Change::Put(kv.key, kv.value, kv.lease))
}
