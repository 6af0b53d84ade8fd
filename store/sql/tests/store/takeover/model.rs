//! What a store must serve after a history, worked out from what was done and
//! not from the rows that it left.

use std::collections::BTreeMap;

use super::history::{self, Step};
use super::shapes::{Names, Shape};

/// A key's value and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) value: String,
    pub(super) create_revision: i64,
    pub(super) mod_revision: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
}

/// All keys.
pub(super) type State = BTreeMap<String, Pair>;

/// A change of a key: `None` is a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) revision: i64,
    pub(super) key: String,
    pub(super) now: Option<Pair>,
    pub(super) before: Option<Pair>,
}

/// The state at the compaction, and every change since.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    base: State,
    pub(super) changes: Vec<Change>,
    /// Whether keys that differ in case are one.
    blind: bool,
    api_value: bool,
}

impl Model {
    /// After the history, in a table of a shape.
    pub(super) fn of(shape: &Shape) -> Self {
        let mut model = Self {
            revision: shape.first + i64::from(shape.two_compact_rows),
            compacted: 0,
            base: State::new(),
            changes: Vec::new(),
            blind: shape.names != Names::Exact,
            api_value: shape.api_value,
        };
        for step in history::steps(shape) {
            model.step(step);
        }
        model.blind = false;
        model
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(key, value) => self.put(key, value, 0),
            Step::Lease(key, value, ttl) => self.put(key, value, ttl),
            Step::Delete(key) => self.delete(key),
            Step::ApiServer(version, value) => {
                self.put("compact_rev_key", if self.api_value { value } else { "0" }, 0);
                self.last().version = version;
            }
            Step::Lost | Step::Gap => self.revision += 1,
            Step::Mistaken(key, other, value) => {
                self.put(key, value, 0);
                let create_revision = self.state()[other].create_revision;
                let pair = self.last();
                (pair.create_revision, pair.version) = (create_revision, 2);
            }
            Step::Compact => {
                self.compact(self.revision);
                // kine keeps no versions: of a key that was updated more is not known.
                for (key, pair) in &mut self.base {
                    if key != "compact_rev_key" {
                        pair.version = pair.version.min(2);
                    }
                }
            }
        }
    }

    fn last(&mut self) -> &mut Pair {
        self.changes.last_mut().and_then(|change| change.now.as_mut()).expect("a pair was put")
    }

    /// The keys now.
    pub(super) fn state(&self) -> State {
        self.state_at(self.revision)
    }

    /// The keys at a revision that is not compacted.
    pub(super) fn state_at(&self, revision: i64) -> State {
        let mut state = self.base.clone();
        for change in self.changes.iter().filter(|change| change.revision <= revision) {
            match &change.now {
                Some(pair) => drop(state.insert(change.key.clone(), pair.clone())),
                None => drop(state.remove(&change.key)),
            }
        }
        state
    }

    /// A key that is there under any spelling.
    fn spelling(&self, key: &str) -> Option<String> {
        let state = self.state();
        let same = |name: &&String| *name == key || self.blind && name.eq_ignore_ascii_case(key);
        state.keys().find(same).cloned()
    }

    /// Puts a key at the next revision.
    pub(super) fn put(&mut self, key: &str, value: &str, lease: i64) {
        if let Some(old) = self.spelling(key).filter(|old| old != key) {
            self.respell(&old, key);
        }
        self.revision += 1;
        let before = self.state().remove(key);
        let now = Pair {
            value: value.to_owned(),
            create_revision: before.as_ref().map_or(self.revision, |pair| pair.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(1, |pair| pair.version + 1),
            lease,
        };
        self.changes.push(Change { revision: self.revision, key: key.to_owned(), now: Some(now), before });
    }

    /// Deletes a key at the next revision, if it is there.
    pub(super) fn delete(&mut self, key: &str) {
        let Some(key) = self.spelling(key) else { return };
        self.revision += 1;
        let before = self.state().remove(&key);
        self.changes.push(Change { revision: self.revision, key, now: None, before });
    }

    /// A key has had its newest spelling all its life.
    fn respell(&mut self, old: &str, new: &str) {
        let born = self.state()[old].create_revision;
        if self.base.get(old).is_some_and(|pair| pair.create_revision == born) {
            let pair = self.base.remove(old).expect("just seen");
            self.base.insert(new.to_owned(), pair);
        }
        for change in &mut self.changes {
            let of_this_life = change.now.as_ref().is_some_and(|pair| pair.create_revision == born);
            if change.key == old && of_this_life {
                change.key = new.to_owned();
            }
        }
    }

    /// Forgets what was before a revision.
    pub(super) fn compact(&mut self, through: i64) {
        self.base = self.state_at(through);
        self.changes.retain(|change| change.revision > through);
        self.compacted = through;
    }

    /// What kine's own compaction leaves of versions that it never knew: keys
    /// that it wrote since a revision count anew.
    pub(super) fn forget_versions(&mut self, since: i64) {
        for pair in self.base.values_mut().filter(|pair| pair.mod_revision > since) {
            pair.version = pair.version.min(2);
        }
    }

    /// kine's own compaction removes a row that another key was mistaken for.
    pub(super) fn lose(&mut self, key: &str) {
        self.base.remove(key);
    }
}
