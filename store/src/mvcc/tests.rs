//! The state machine against a model that keeps every revision whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::engine::mem::MemEngine;
use crate::engine::rocks::{RocksEngine, RocksOptions};
use crate::error::ApiError;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::mvccpb::KeyValue;
use crate::pb::skiff::v1::LeaseRevoke;
use crate::pb::skiff::v1::command::Op;
use crate::watch::History;

mod chronicle;
mod fuzz;
mod offline;

type Map = BTreeMap<Bytes, KeyValue>;

/// Every revision of the key space, kept whole.
struct Model {
    revisions: BTreeMap<i64, Map>,
    compacted: i64,
    /// Revisions that changed a key twice, which the maps do not show.
    rewritten: Vec<i64>,
}

impl Model {
    fn new() -> Self {
        Self { revisions: BTreeMap::from([(1, Map::new())]), compacted: -1, rewritten: Vec::new() }
    }

    fn revision(&self) -> i64 {
        *self.revisions.last_key_value().unwrap().0
    }

    fn now(&self) -> &Map {
        self.revisions.last_key_value().unwrap().1
    }

    fn put(map: &mut Map, revision: i64, key: &Bytes, value: &Bytes) {
        let old = map.get(key).cloned();
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: old.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        map.insert(key.clone(), kv);
    }

    fn delete(map: &mut Map, range: &KeyRange) -> usize {
        let before = map.len();
        map.retain(|key, _| !range.contains(key));
        before - map.len()
    }

    fn commit(&mut self, map: Map) {
        if map != *self.now() {
            let next = self.revision() + 1;
            self.revisions.insert(next, map);
        }
    }

    /// A Range, evaluated the slow way.
    fn range(&self, request: &pb::RangeRequest) -> Result<(Vec<KeyValue>, bool, i64), ApiError> {
        if request.revision > self.revision() {
            return Err(ApiError::FutureRevision);
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(ApiError::Compacted);
        }
        let at = if request.revision <= 0 { self.revision() } else { request.revision };
        let range = KeyRange::new(&request.key, &request.range_end);
        let mut kvs: Vec<_> =
            self.revisions[&at].values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        let count = kvs.len() as i64;
        if request.count_only {
            return Ok((Vec::new(), false, count));
        }
        kvs.retain(|kv| {
            (request.max_mod_revision == 0 || kv.mod_revision <= request.max_mod_revision)
                && (request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision)
                && (request.max_create_revision == 0 || kv.create_revision <= request.max_create_revision)
                && (request.min_create_revision == 0 || kv.create_revision >= request.min_create_revision)
        });
        let mut more = request.limit > 0 && kvs.len() as i64 > request.limit;
        let filtered = request.max_mod_revision != 0
            || request.min_mod_revision != 0
            || request.max_create_revision != 0
            || request.min_create_revision != 0;
        if more && request.sort_order == 0 && !filtered {
            kvs.truncate(request.limit as usize + 1);
        }
        let descending = request.sort_order == SortOrder::Descend as i32;
        kvs.sort_by(|a, b| {
            let ordering = match SortTarget::try_from(request.sort_target).unwrap() {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if descending { ordering.reverse() } else { ordering }
        });
        more &= kvs.len() as i64 > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok((kvs, more, count))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(Bytes, Bytes),
    Delete(Bytes, Bytes),
    Txn(Vec<(Bytes, Bytes)>, Bytes),
    /// Changes a key twice in one revision, by nested transactions: deletes and
    /// puts, or the other way round.
    Rewrite(Bytes, Bytes, bool),
    Compact(i64),
    CompactPhysically,
    Reopen,
    Range(pb::RangeRequest),
    EndEntry,
    EndBatch,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(0xff)], 1..4)
        .prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![2 => Just(Bytes::new()), 1 => Just(Bytes::from_static(&[0])), 3 => key()]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from)
}

prop_compose! {
    fn range_request()(
        key in key(), range_end in range_end(), limit in 0i64..5, revision in -1i64..60,
        sort_order in 0i32..3, sort_target in 0i32..5, plain in any::<bool>(),
        keys_only in any::<bool>(), count_only in prop::bool::weighted(0.2),
        filters in prop::collection::vec(prop_oneof![3 => Just(0i64), 1 => 1i64..40], 4),
    ) -> pb::RangeRequest {
        pb::RangeRequest {
            key, range_end, limit, revision, keys_only, count_only,
            sort_order: if plain { 0 } else { sort_order },
            sort_target: if plain { 0 } else { sort_target },
            serializable: false,
            min_mod_revision: filters[0], max_mod_revision: filters[1],
            min_create_revision: filters[2], max_create_revision: filters[3],
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (key(), value()).prop_map(|(k, v)| Step::Put(k, v)),
        2 => (key(), range_end()).prop_map(|(k, e)| Step::Delete(k, e)),
        2 => (prop::collection::vec((key(), value()), 0..3), key()).prop_map(|(p, d)| Step::Txn(p, d)),
        1 => (key(), value(), any::<bool>()).prop_map(|(k, v, d)| Step::Rewrite(k, v, d)),
        1 => (0i64..60).prop_map(Step::Compact),
        1 => Just(Step::CompactPhysically),
        1 => Just(Step::Reopen),
        6 => range_request().prop_map(Step::Range),
        3 => Just(Step::EndEntry),
        3 => Just(Step::EndBatch),
    ]
}

fn command(op: Op) -> Command {
    Command::from(op)
}

fn put_request(key: &Bytes, value: &Bytes) -> pb::PutRequest {
    pb::PutRequest { key: key.clone(), value: value.clone(), ..Default::default() }
}

/// A store and its model, with the commands not applied yet.
struct Harness {
    engine: Arc<dyn Engine>,
    mvcc: Arc<Mvcc>,
    model: Model,
    index: u64,
    entry: Vec<Command>,
    batch: Vec<Entry>,
}

impl Harness {
    fn new() -> Self {
        Self::on(Arc::new(MemEngine::new()))
    }

    fn on(engine: Arc<dyn Engine>) -> Self {
        let mvcc = open(&engine);
        Self { engine, mvcc, model: Model::new(), index: 0, entry: Vec::new(), batch: Vec::new() }
    }

    fn push(&mut self, op: Op) {
        self.entry.push(command(op));
    }

    fn end_entry(&mut self) {
        self.index += 1;
        let commands = std::mem::take(&mut self.entry);
        let position = Bytes::copy_from_slice(&self.index.to_be_bytes());
        self.batch.push(Entry { term: 1, index: self.index, position, commands });
    }

    fn end_batch(&mut self) -> Vec<Result<WriteReply>> {
        self.end_entry();
        let batch = std::mem::take(&mut self.batch);
        let replies: Vec<_> = self.mvcc.apply(&batch).unwrap().into_iter().flat_map(|o| o.replies).collect();
        assert_eq!(self.mvcc.revision(), self.model.revision());
        assert_eq!(self.mvcc.applied_index(), self.index);
        replies
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Put(key, value) => {
                self.push(Op::Put(put_request(key, value)));
                let mut map = self.model.now().clone();
                Model::put(&mut map, self.model.revision() + 1, key, value);
                self.model.commit(map);
            }
            Step::Delete(key, range_end) => {
                self.push(Op::DeleteRange(pb::DeleteRangeRequest {
                    key: key.clone(),
                    range_end: range_end.clone(),
                    prev_kv: false,
                }));
                let mut map = self.model.now().clone();
                Model::delete(&mut map, &KeyRange::new(key, range_end));
                self.model.commit(map);
            }
            Step::Txn(puts, delete) => self.txn(puts, delete),
            Step::Rewrite(key, value, delete_first) => self.rewrite(key, value, *delete_first),
            Step::Compact(revision) => {
                self.push(Op::Compact(pb::CompactionRequest { revision: *revision, physical: false }));
                if *revision > self.model.compacted && *revision <= self.model.revision() {
                    self.model.compacted = *revision;
                }
            }
            Step::CompactPhysically => {
                self.mvcc.compact_step().unwrap();
            }
            Step::Reopen => {
                self.end_batch();
                let mvcc = open(&self.engine);
                assert_eq!(mvcc.position(), self.mvcc.position());
                assert_eq!(mvcc.bytes_in_use(), self.mvcc.bytes_in_use());
                self.mvcc = mvcc;
            }
            Step::Range(request) => {
                self.end_batch();
                self.check_range(request);
            }
            Step::EndEntry => self.end_entry(),
            Step::EndBatch => {
                self.end_batch();
            }
        }
    }

    /// Puts distinct keys, deletes one that is not among them, and reads what
    /// it wrote.
    fn txn(&mut self, puts: &[(Bytes, Bytes)], delete: &Bytes) {
        let puts: BTreeMap<_, _> = puts.iter().filter(|(key, _)| key != delete).cloned().collect();
        let mut success: Vec<_> = puts.iter().map(|(k, v)| Request::RequestPut(put_request(k, v))).collect();
        success.push(Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: delete.clone(),
            ..Default::default()
        }));
        let success = success.into_iter().map(|r| pb::RequestOp { request: Some(r) }).collect();
        self.push(Op::Txn(pb::TxnRequest { success, ..Default::default() }));
        let revision = self.model.revision() + 1;
        let mut map = self.model.now().clone();
        for (key, value) in &puts {
            Model::put(&mut map, revision, key, value);
        }
        Model::delete(&mut map, &KeyRange::One(delete.clone()));
        self.model.commit(map);
    }

    fn rewrite(&mut self, key: &Bytes, value: &Bytes, delete_first: bool) {
        let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
        let mut ops = [Request::RequestDeleteRange(delete), Request::RequestPut(put_request(key, value))];
        let revision = self.model.revision() + 1;
        let mut map = self.model.now().clone();
        map.remove(key);
        if delete_first {
            Model::put(&mut map, revision, key, value);
        } else {
            ops.reverse();
        }
        let success = ops
            .into_iter()
            .map(|op| {
                let inner = vec![pb::RequestOp { request: Some(op) }];
                let txn = pb::TxnRequest { success: inner, ..Default::default() };
                pb::RequestOp { request: Some(Request::RequestTxn(txn)) }
            })
            .collect();
        self.push(Op::Txn(pb::TxnRequest { success, ..Default::default() }));
        // Takes a revision even where nothing is left of it.
        self.model.revisions.insert(revision, map);
        self.model.rewritten.push(revision);
    }

    fn check_range(&self, request: &pb::RangeRequest) {
        let expected = self.model.range(request);
        let read = self.mvcc.read(None, &Read::Range(request.clone()));
        match (read, expected) {
            (Ok(ReadReply::Range(response)), Ok((kvs, more, count))) => {
                assert_eq!(response.kvs, kvs, "{request:?}");
                assert_eq!((response.more, response.count), (more, count), "{request:?}");
                assert_eq!(response.header.unwrap().revision, self.model.revision());
            }
            (Err(Error::Api(error)), Err(expected)) => assert_eq!(error, expected, "{request:?}"),
            (read, expected) => panic!("{request:?}: {read:?}, expected {expected:?}"),
        }
        self.check_stream(request);
    }

    fn check_stream(&self, request: &pb::RangeRequest) {
        let plain = pb::RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            limit: request.limit,
            revision: request.revision,
            keys_only: request.keys_only,
            count_only: request.count_only,
            ..Default::default()
        };
        let Ok(ReadReply::Range(whole)) = self.mvcc.read(None, &Read::Range(plain.clone())) else { return };
        let mut merged = pb::RangeResponse::default();
        for chunk in self.mvcc.read_chunks(None, &plain, 8).unwrap() {
            let chunk = chunk.unwrap();
            merged.kvs.extend(chunk.kvs);
            merged.header = chunk.header;
            merged.more |= chunk.more;
            merged.count += chunk.count;
        }
        assert_eq!(merged, whole, "{plain:?}");
    }

    /// Every change that can still be watched, as the model tells it.
    fn check_history(&self) {
        let from = self.model.compacted.max(1);
        let page = self.mvcc.shared.read(&[0], &[0], from, usize::MAX).ok().unwrap();
        let mut expected = Vec::new();
        for (revision, map) in self.model.revisions.range(from.max(2)..) {
            if self.model.rewritten.contains(revision) {
                continue;
            }
            let before = &self.model.revisions[&(revision - 1)];
            for (key, kv) in map {
                if before.get(key) != Some(kv) {
                    expected.push((*revision, key.clone(), Some(kv.clone())));
                }
            }
            for key in before.keys().filter(|key| !map.contains_key(*key)) {
                expected.push((*revision, key.clone(), None));
            }
        }
        let mut events: Vec<_> = page
            .events
            .iter()
            .map(|event| {
                let kv = event.kv.clone().unwrap();
                (kv.mod_revision, kv.key.clone(), (event.r#type == 0).then_some(kv))
            })
            .filter(|event| !self.model.rewritten.contains(&event.0))
            .collect();
        for revision in self.model.rewritten.iter().filter(|revision| **revision >= from) {
            let of_it =
                page.events.iter().filter(|event| event.kv.as_ref().unwrap().mod_revision == *revision);
            assert!((1..=2).contains(&of_it.count()), "a change for each of the two that did something");
        }
        assert!(events.is_sorted_by_key(|event| event.0));
        events.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        expected.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        // A key changed twice in one transaction would show here.
        assert_eq!(events, expected);
        for (revision, key, _) in &expected {
            if *revision > self.model.compacted {
                let before = self.model.revisions[&(revision - 1)].get(key).cloned();
                assert_eq!(self.mvcc.shared.prev_kv(key, *revision).unwrap(), before);
            }
        }
    }
}

fn open(engine: &Arc<dyn Engine>) -> Arc<Mvcc> {
    Mvcc::open(engine.clone(), MvccConfig { compaction_batch: 2, ..Default::default() }).unwrap()
}

fn hash_kv(mvcc: &Mvcc, revision: i64) -> pb::HashKvResponse {
    match mvcc.read(None, &Read::HashKv(pb::HashKvRequest { revision })).unwrap() {
        ReadReply::HashKv(response) => response,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..Default::default() })]

    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut harness = Harness::new();
        for step in &steps {
            harness.run(step);
        }
        harness.end_batch();
        harness.check_history();
        let before = hash_kv(&harness.mvcc, 0);
        while harness.mvcc.compact_step().unwrap() {}
        // What is hashed does not depend on how far compaction has got.
        prop_assert_eq!(hash_kv(&harness.mvcc, 0), before);
        harness.check_history();
        let everything = pb::RangeRequest {
            key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), ..Default::default()
        };
        harness.check_range(&everything);
        for revision in harness.model.compacted.max(1)..=harness.model.revision() {
            harness.check_range(&pb::RangeRequest { revision, ..everything.clone() });
        }
    }

    #[test]
    fn space_comes_back(keys in prop::collection::vec(key(), 1..40)) {
        let mut harness = Harness::new();
        for key in &keys {
            harness.run(&Step::Put(key.clone(), Bytes::from_static(b"value")));
        }
        harness.run(&Step::Delete(Bytes::from_static(&[0]), Bytes::from_static(&[0])));
        let last = harness.model.revision();
        harness.run(&Step::Put(Bytes::from_static(b"z"), Bytes::new()));
        harness.run(&Step::Compact(last + 1));
        harness.end_batch();
        while harness.mvcc.compact_step().unwrap() {}
        // One key is left, with its change.
        let row = keys::version_key(b"z", last + 1, 0);
        let version = harness.engine.snapshot().get(Cf::Kv, &row).unwrap().unwrap();
        prop_assert_eq!(harness.mvcc.bytes_in_use(), evaluate::row_bytes(&row, &version, b"z"));
        let snapshot = harness.engine.snapshot();
        let mut rows = snapshot.cursor(Cf::Kv, false);
        rows.seek(&[]).unwrap();
        rows.next().unwrap();
        prop_assert!(!rows.valid());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..Default::default() })]

    /// An index file, of whatever age, changes nothing but the time to open;
    /// with any byte flipped it is not used, or the flip was of no account.
    #[test]
    fn an_index_file_changes_nothing(
        before in prop::collection::vec(step(), 1..30),
        after in prop::collection::vec(step(), 0..30),
        flip in prop::option::of((any::<prop::sample::Index>(), 1u8..)),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let config = MvccConfig { index_file: Some(path.clone()), compaction_batch: 2, ..Default::default() };
        let mut harness = Harness::new();
        before.iter().for_each(|step| harness.run(step));
        harness.end_batch();
        harness.mvcc = Mvcc::open(harness.engine.clone(), config.clone()).unwrap();
        harness.mvcc.save_index().unwrap();
        after.iter().for_each(|step| harness.run(step));
        harness.end_batch();
        if let (Some((at, bits)), Ok(mut file)) = (flip, std::fs::read(&path)) {
            let at = at.index(file.len());
            file[at] ^= bits;
            std::fs::write(&path, file).unwrap();
        }
        let indexed = Mvcc::open(harness.engine.clone(), config).unwrap();
        let rebuilt = open(&harness.engine);
        let entries = |mvcc: &Mvcc| -> Vec<_> {
            mvcc.shared.view().state.index.iter().map(|(key, meta)| (key.clone(), *meta)).collect()
        };
        prop_assert_eq!(entries(&indexed), entries(&rebuilt));
    }
}

fn grant(id: i64, ttl: i64) -> Op {
    Op::LeaseGrant(pb::LeaseGrantRequest { id, ttl })
}

fn leased_put(key: &'static [u8], lease: i64) -> Op {
    Op::Put(pb::PutRequest { key: Bytes::from_static(key), lease, ..Default::default() })
}

#[test]
fn a_revoked_lease_takes_its_keys_in_one_revision() {
    let mut harness = Harness::new();
    for op in
        [grant(7, 60), leased_put(b"a", 7), leased_put(b"b", 7), leased_put(b"c", 7), leased_put(b"c", 0)]
    {
        harness.push(op);
    }
    harness.push(Op::LeaseRevoke(LeaseRevoke { id: 7, expired_in_term: 0 }));
    harness.end_entry();
    let outcomes = harness.mvcc.apply(&std::mem::take(&mut harness.batch)).unwrap();
    assert!(outcomes[0].replies.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(outcomes[0].leases.len(), 2);
    assert_eq!(harness.mvcc.revision(), 6, "four puts and one revision for the revoke");
    assert_eq!(harness.mvcc.key_count(), 1);
    let page = harness.mvcc.shared.read(b"a", b"z", 6, usize::MAX).ok().unwrap();
    assert_eq!(page.events.len(), 2, "both deletions are events of revision 6");
}

#[test]
fn an_expiry_of_an_earlier_term_is_void() {
    let mut harness = Harness::new();
    harness.push(grant(7, 60));
    harness.push(Op::LeaseRevoke(LeaseRevoke { id: 7, expired_in_term: 99 }));
    harness.end_entry();
    let outcomes = harness.mvcc.apply(&std::mem::take(&mut harness.batch)).unwrap();
    assert!(matches!(outcomes[0].replies[1], Err(Error::Api(ApiError::LeaseNotFound))));
    assert!(harness.mvcc.lease(7).is_some());
}

#[test]
fn leases_and_attachments_survive_a_restart() {
    let mut harness = Harness::new();
    for op in [grant(7, 60), grant(8, 5), leased_put(b"a", 7)] {
        harness.push(op);
    }
    harness.push(Op::LeaseCheckpoint(pb::LeaseCheckpointRequest {
        checkpoints: vec![pb::LeaseCheckpoint { id: 7, remaining_ttl: 31 }],
    }));
    harness.end_entry();
    harness.mvcc.apply(&std::mem::take(&mut harness.batch)).unwrap();
    let mvcc = open(&harness.engine);
    assert_eq!(mvcc.leases().len(), 2);
    let request = pb::LeaseTimeToLiveRequest { id: 7, keys: true };
    let ReadReply::LeaseTimeToLive(response) = mvcc.read(None, &Read::LeaseTimeToLive(request)).unwrap()
    else {
        panic!("wrong answer");
    };
    assert_eq!((response.ttl, response.granted_ttl), (31, 60));
    assert_eq!(response.keys, vec![Bytes::from_static(b"a")]);
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let engine: Arc<dyn Engine> = Arc::new(MemEngine::new());
    let mut batch = Batch::default();
    batch.put(Cf::Meta, FORMAT_ROW, 9u32.to_be_bytes().to_vec());
    engine.write(batch).unwrap();
    let error = Mvcc::open(engine, MvccConfig::default()).err().unwrap().to_string();
    assert!(error.contains("format 9") && error.contains("newer skiff"), "{error}");
}

#[test]
fn an_empty_store_can_be_compacted_at_zero_once() {
    let mut harness = Harness::new();
    assert_eq!(hash_kv(&harness.mvcc, 0).compact_revision, -1);
    for revision in [-1, 0, 0] {
        harness.push(Op::Compact(pb::CompactionRequest { revision, physical: false }));
    }
    harness.end_entry();
    let outcomes = harness.mvcc.apply(&std::mem::take(&mut harness.batch)).unwrap();
    let failed: Vec<_> = outcomes[0].replies.iter().map(Result::is_err).collect();
    assert_eq!(failed, [true, false, true]);
    assert_eq!(hash_kv(&harness.mvcc, 0).compact_revision, 0);
}

#[test]
fn a_range_in_a_transaction_may_be_compacted_by_a_negative_revision() {
    let harness = Harness::new();
    let read = |revision| {
        let range = pb::RangeRequest { key: Bytes::from_static(b"a"), revision, ..Default::default() };
        let request = Some(Request::RequestRange(range));
        let success = vec![pb::RequestOp { request }];
        harness.mvcc.read(None, &Read::Txn(pb::TxnRequest { success, ..Default::default() }))
    };
    assert!(read(-1).is_ok());
    assert!(matches!(read(-2), Err(Error::Api(ApiError::Compacted))));
}

#[test]
fn a_space_alarm_refuses_what_takes_space_only() {
    let mut harness = Harness::new();
    harness.push(leased_put(b"a", 0));
    harness.push(Op::Alarm(pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Activate as i32,
        member_id: 1,
        alarm: pb::AlarmType::Nospace as i32,
    }));
    harness.push(leased_put(b"b", 0));
    harness.push(grant(1, 1));
    harness.push(Op::DeleteRange(pb::DeleteRangeRequest {
        key: Bytes::from_static(b"a"),
        ..Default::default()
    }));
    harness.end_entry();
    let outcomes = harness.mvcc.apply(&std::mem::take(&mut harness.batch)).unwrap();
    let failed: Vec<_> = outcomes[0].replies.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, false, true, true, false]);
    assert_eq!(open(&harness.engine).alarms().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]

    /// A range in a transaction, after writes in the same one, reads the past
    /// as it reads it alone.
    #[test]
    fn a_range_in_a_transaction_reads_the_past(
        steps in prop::collection::vec(step(), 1..40),
        pending in prop::collection::vec(step(), 0..8),
        request in range_request(),
        key in key(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(&dir.path().join("db"), &RocksOptions::default()).unwrap();
        let mut harness = Harness::on(Arc::new(engine));
        steps.iter().for_each(|step| harness.run(step));
        harness.end_batch();
        // Not applied when the transaction is evaluated: in the same batch.
        pending.iter().filter(|step| matches!(step, Step::Put(..) | Step::Delete(..))).for_each(|step| harness.run(step));
        let expected = harness.model.range(&request);
        let delete = pb::DeleteRangeRequest { key: Bytes::from_static(&[0]), range_end: Bytes::from_static(&[0]), prev_kv: true };
        let inner = pb::TxnRequest {
            success: vec![pb::RequestOp { request: Some(Request::RequestRange(request.clone())) }],
            ..Default::default()
        };
        let ops = [
            Request::RequestPut(put_request(&key, &Bytes::from_static(b"new"))),
            Request::RequestDeleteRange(delete),
            Request::RequestTxn(inner),
        ];
        let success = ops.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
        harness.push(Op::Txn(pb::TxnRequest { success, ..Default::default() }));
        harness.end_entry();
        let batch = std::mem::take(&mut harness.batch);
        let reply = harness.mvcc.apply(&batch).unwrap().pop().unwrap().replies.pop().unwrap();
        if request.revision > 0 {
            match (reply, expected) {
                (Ok(WriteReply::Txn(txn)), Ok((kvs, more, count))) => {
                    let Some(pb::response_op::Response::ResponseTxn(inner)) = &txn.responses[2].response else { panic!() };
                    let Some(pb::response_op::Response::ResponseRange(range)) = &inner.responses[0].response else { panic!() };
                    prop_assert_eq!(&range.kvs, &kvs);
                    prop_assert_eq!((range.more, range.count), (more, count));
                }
                (Err(Error::Api(error)), Err(expected)) => prop_assert_eq!(error, expected),
                (reply, expected) => prop_assert!(false, "{:?}, expected {:?}", reply, expected),
            }
        }
    }
}
