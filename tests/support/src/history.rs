//! Checks what clients were told against the history that the cluster kept.
//!
//! Revisions are a witness of the order in which writes took effect, so each check is one pass: every
//! acknowledged write is in the history at its revision; every change in the history was asked for, once;
//! revisions agree with real time; a read shows exactly the state at its revision.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// One key written: a value, or none for a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Key.
    pub key: String,
    /// A value that no other write has, or nothing for a deletion.
    pub value: Option<u64>,
}

/// A write as its client saw it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The client.
    pub client: u64,
    /// When it was sent, since the start of the load.
    pub start: Duration,
    /// When its answer, or the lack of one, was known.
    pub end: Duration,
    /// What was written, in order, all in one revision.
    pub writes: Vec<Written>,
    /// The revision acknowledged; nothing when the outcome is unknown.
    pub revision: Option<i64>,
}

/// A linearizable read of all keys.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The revision in the header.
    pub revision: i64,
    /// Key, value and mod revision, in key order.
    pub pairs: Vec<(String, u64, i64)>,
}

/// One change of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub revision: i64,
    /// Key.
    pub key: String,
    /// The value, or nothing for a deletion.
    pub value: Option<u64>,
    /// The key's version, 0 for a deletion.
    pub version: i64,
    /// The key's create revision, 0 for a deletion.
    pub create_revision: i64,
}

/// Checks everything; answers the broken rules, a few of each kind.
pub fn check(history: &[Change], records: &[Record], observed: &[Observed]) -> Vec<String> {
    let mut faults = Vec::new();
    let by_revision = group(history, &mut faults);
    acknowledged(&by_revision, records, &mut faults);
    asked_for(history, records, &mut faults);
    real_time(records, &mut faults);
    metadata(history, &mut faults);
    reads(history, observed, &mut faults);
    faults.truncate(20);
    faults
}

fn group<'a>(history: &'a [Change], faults: &mut Vec<String>) -> BTreeMap<i64, Vec<&'a Change>> {
    let mut by_revision: BTreeMap<i64, Vec<&Change>> = BTreeMap::new();
    for pair in history.windows(2) {
        if pair[0].revision > pair[1].revision {
            faults.push(format!("history goes back: {:?} then {:?}", pair[0], pair[1]));
        }
    }
    for change in history {
        by_revision.entry(change.revision).or_default().push(change);
    }
    by_revision
}

/// Every acknowledged write is in the history, whole, at the revision it was acknowledged with.
fn acknowledged(history: &BTreeMap<i64, Vec<&Change>>, records: &[Record], faults: &mut Vec<String>) {
    let mut owners: HashMap<i64, &Record> = HashMap::new();
    for record in records {
        let Some(revision) = record.revision else { continue };
        if let Some(other) = owners.insert(revision, record) {
            faults.push(format!("revision {revision} was acknowledged to {other:?} and to {record:?}"));
        }
        let Some(changes) = history.get(&revision) else {
            faults.push(format!("LOST: an acknowledged write is not in the history: {record:?}"));
            continue;
        };
        for write in record.writes.iter().filter(|write| write.value.is_some()) {
            if !changes.iter().any(|change| change.key == write.key && change.value == write.value) {
                faults.push(format!("LOST: acknowledged {record:?}, the history has {changes:?}"));
            }
        }
        for change in changes {
            let wanted = Written { key: change.key.clone(), value: change.value };
            if !record.writes.contains(&wanted) {
                faults.push(format!("the history has {change:?} in the revision of {record:?}"));
            }
        }
    }
}

/// Every put in the history was sent by a client, and took effect once.
fn asked_for(history: &[Change], records: &[Record], faults: &mut Vec<String>) {
    let mut sent: HashMap<u64, &Record> = HashMap::new();
    for record in records {
        for value in record.writes.iter().filter_map(|write| write.value) {
            sent.insert(value, record);
        }
    }
    let mut seen: HashMap<u64, i64> = HashMap::new();
    for change in history {
        let Some(value) = change.value.filter(|value| *value != 0) else { continue };
        match sent.get(&value) {
            None => faults.push(format!("nobody wrote {change:?}")),
            Some(record) => {
                if record.revision.is_some_and(|revision| revision != change.revision) {
                    faults.push(format!("{record:?} took effect elsewhere: {change:?}"));
                }
            }
        }
        if let Some(other) = seen.insert(value, change.revision) {
            faults.push(format!("{change:?} took effect at {other} already"));
        }
    }
}

/// A write acknowledged before another one was sent has the lower revision.
fn real_time(records: &[Record], faults: &mut Vec<String>) {
    let mut ordered: Vec<&Record> = records.iter().filter(|record| record.revision.is_some()).collect();
    ordered.sort_by_key(|record| record.revision);
    let mut latest_start: Option<&Record> = None;
    for record in ordered {
        if let Some(lower) = latest_start
            && record.end < lower.start
        {
            faults.push(format!("{record:?} was over before {lower:?} began, but has the higher revision"));
        }
        if latest_start.is_none_or(|lower| lower.start < record.start) {
            latest_start = Some(record);
        }
    }
}

/// Versions count up from 1 and create revisions stay, from each creation on.
fn metadata(history: &[Change], faults: &mut Vec<String>) {
    let mut state: HashMap<&str, (i64, i64)> = HashMap::new();
    for change in history {
        match change.value {
            Some(_) => {
                let (create, version) = state
                    .get(change.key.as_str())
                    .map_or((change.revision, 1), |(create, version)| (*create, version + 1));
                if (change.create_revision, change.version) != (create, version) {
                    faults
                        .push(format!("{change:?} should have create revision {create}, version {version}"));
                }
                state.insert(&change.key, (change.create_revision, change.version));
            }
            None => {
                if state.remove(change.key.as_str()).is_none() {
                    faults.push(format!("{change:?} deletes what is not there"));
                }
            }
        }
    }
}

/// A read shows the state at its revision.
fn reads(history: &[Change], observed: &[Observed], faults: &mut Vec<String>) {
    let mut ordered: Vec<&Observed> = observed.iter().collect();
    ordered.sort_by_key(|read| read.revision);
    let mut state: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
    let mut rest = history.iter().peekable();
    for read in ordered {
        while let Some(change) = rest.next_if(|change| change.revision <= read.revision) {
            match change.value {
                Some(value) => drop(state.insert(&change.key, (value, change.revision))),
                None => drop(state.remove(change.key.as_str())),
            }
        }
        let expected = state.iter().map(|(key, (value, revision))| (*key, *value, *revision));
        let found = read.pairs.iter().map(|(key, value, revision)| (key.as_str(), *value, *revision));
        if !expected.clone().eq(found.clone()) {
            let difference = expected.zip(found).find(|(expected, found)| expected != found);
            faults.push(format!("a read at {} does not show the state there: {difference:?}", read.revision));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: i64, key: &str, value: u64, version: i64, create_revision: i64) -> Change {
        Change { revision, key: key.to_owned(), value: Some(value), version, create_revision }
    }

    fn record(start: u64, end: u64, value: u64, revision: Option<i64>) -> Record {
        Record {
            client: 0,
            start: Duration::from_millis(start),
            end: Duration::from_millis(end),
            writes: vec![Written { key: "k".to_owned(), value: Some(value) }],
            revision,
        }
    }

    #[test]
    fn a_good_history_passes() {
        let history = [change(2, "k", 7, 1, 2), change(3, "k", 8, 2, 2)];
        let records = [record(0, 1, 7, Some(2)), record(2, 3, 8, None), record(4, 5, 9, None)];
        let read = Observed { revision: 3, pairs: vec![("k".to_owned(), 8, 3)] };
        assert_eq!(check(&history, &records, &[read]), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_found() {
        let history = [change(2, "k", 7, 1, 2), change(3, "k", 8, 2, 2)];
        let both = [record(0, 1, 7, Some(2)), record(2, 3, 8, Some(3))];
        let lost = [both[0].clone(), both[1].clone(), record(4, 5, 9, Some(4))];
        assert!(check(&history, &lost, &[])[0].contains("LOST"));
        assert!(check(&history, &both[..1], &[])[0].contains("nobody wrote"));
        let reversed = [record(4, 5, 7, Some(2)), record(2, 3, 8, Some(3))];
        assert!(check(&history, &reversed, &[])[0].contains("was over before"));
        let twice = [history[0].clone(), change(3, "k", 7, 2, 2)];
        assert!(check(&twice, &[record(0, 1, 7, None)], &[])[0].contains("already"));
        let version = [change(2, "k", 7, 1, 2), change(3, "k", 8, 3, 2)];
        assert!(check(&version, &both, &[])[0].contains("should have"));
        let stale = Observed { revision: 3, pairs: vec![("k".to_owned(), 7, 2)] };
        assert!(check(&history, &both, &[stale])[0].contains("does not show"));
    }
}
