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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use skiff_store::engine::mem::MemEngine;
    use skiff_store::mvcc::{Entry, Mvcc, MvccConfig};
    use skiff_store::pb::etcdserverpb as pb;
    use skiff_store::pb::skiff::v1::Command;
    use skiff_store::pb::skiff::v1::command::Op;

    use super::*;

    fn op(change: &Change) -> pb::RequestOp {
        use pb::request_op::Request;
        let request = match change {
            Change::Put(key, value, lease) => Request::RequestPut(pb::PutRequest {
                key: key.clone(),
                value: value.clone(),
                lease: *lease,
                ..Default::default()
            }),
            Change::Delete(key) => {
                Request::RequestDeleteRange(pb::DeleteRangeRequest { key: key.clone(), ..Default::default() })
            }
        };
        pb::RequestOp { request: Some(request) }
    }

    /// A store that counts revisions as an etcd does.
    struct Store {
        mvcc: Arc<Mvcc>,
        index: u64,
    }

    impl Store {
        fn new() -> Self {
            let mvcc = Mvcc::open(Arc::new(MemEngine::new()), MvccConfig::default()).expect("a store");
            Self { mvcc, index: 0 }
        }

        fn run(&mut self, op: Op) {
            self.index += 1;
            let commands = vec![Command::from(op)];
            let entry = Entry { term: 1, index: self.index, position: Bytes::new(), commands };
            self.mvcc.apply(&[entry]).expect("it is applied");
        }

        fn change(&mut self, changes: &[Change]) {
            let txn = pb::TxnRequest { success: changes.iter().map(op).collect(), ..Default::default() };
            self.run(Op::Txn(txn));
        }

        fn compact(&mut self, revision: i64) {
            self.run(Op::Compact(pb::CompactionRequest { revision, physical: true }));
        }

        /// Does a step over, as one who writes into an etcd does it.
        fn follow(&mut self, step: &Step) {
            match step {
                Step::Idle(through) => {
                    while self.mvcc.revision() < *through {
                        self.change(&[Change::Put(FILLER.into(), Bytes::new(), 0)]);
                    }
                }
                Step::Change(revision, changes) => {
                    assert_eq!(self.mvcc.revision() + 1, *revision);
                    let mut changes = changes.clone();
                    changes.push(Change::Delete(FILLER.into()));
                    self.change(&changes);
                    assert_eq!(self.mvcc.revision(), *revision);
                }
            }
        }
    }

    /// Changes of one revision: each of another key.
    fn changes() -> impl Strategy<Value = Vec<Change>> {
        proptest::collection::btree_map(0..6u8, proptest::option::of(0..9u8), 1..4).prop_map(|changes| {
            let change = |(key, value): (u8, Option<u8>)| {
                let key = Bytes::from(vec![b'k', key]);
                match value {
                    Some(value) => Change::Put(key, vec![value].into(), 0),
                    None => Change::Delete(key),
                }
            };
            changes.into_iter().map(change).collect()
        })
    }

    proptest! {
        /// Whatever happened and wherever it was compacted: what is done over,
        /// in one go or in two, is the same to everyone who looks.
        #[test]
        fn what_is_done_over_is_the_same(
            history in proptest::collection::vec(changes(), 1..60),
            compacted in proptest::option::of(0.0..1.0f64),
            broken_off in 0.0..1.0f64,
        ) {
            let mut origin = Store::new();
            for changes in &history {
                origin.change(changes);
            }
            let revision = origin.mvcc.revision();
            let compacted = compacted.map(|part| 2 + ((revision - 2).max(0) as f64 * part) as i64);
            let compacted = compacted.filter(|at| *at <= revision);
            if let Some(at) = compacted {
                origin.compact(at);
            }
            let chronicle = origin.mvcc.chronicle();
            let mut copy = Store::new();
            let stop = (revision as f64 * broken_off) as i64;
            steps(&chronicle, 1, &mut |step| {
                let at = match &step { Step::Idle(at) | Step::Change(at, _) => *at };
                if at <= stop {
                    copy.follow(&step);
                }
                Ok(())
            }).expect("steps");
            steps(&chronicle, copy.mvcc.revision(), &mut |step| {
                copy.follow(&step);
                Ok(())
            }).expect("steps");
            if let Some(at) = compacted {
                copy.compact(at);
            }
            let copied = copy.mvcc.chronicle().digest(FILLER).expect("a digest");
            prop_assert_eq!(copied, chronicle.digest(FILLER).expect("a digest"));
        }
    }
}
