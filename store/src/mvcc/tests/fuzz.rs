//! Rows and commands that no correct binary wrote: refused or taken, never a
//! panic, since they come from a disk and from peers.

use super::*;
use crate::conformance::fuzz::mutated;
use crate::engine::Engine;

/// Everything that reads a store, whatever it answers.
fn read_everything(mvcc: &Mvcc) {
    let everything = pb::RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: Bytes::from_static(&[0]),
        ..Default::default()
    };
    for revision in [0, 1, 2, mvcc.revision().saturating_sub(1)] {
        let _ = mvcc.read(None, &Read::Range(pb::RangeRequest { revision, ..everything.clone() }));
        let _ = mvcc.read(None, &Read::HashKv(pb::HashKvRequest { revision }));
        let export = Export { range: KeyRange::From(Bytes::new()), revision, history: true };
        let _ = mvcc.export(&export, &mut |_| Ok(()));
    }
    let _ = mvcc.read(None, &Read::Hash(pb::HashRequest {}));
    let _ = mvcc.read(None, &Read::LeaseLeases(pb::LeaseLeasesRequest {}));
    let shared: &dyn History = mvcc.shared.as_ref();
    let _ = shared.read(&[0], &[0], 1, 1 << 20);
    let _ = shared.prev_kv(b"a", 3);
    for _ in 0..100 {
        if !matches!(mvcc.compact_step(), Ok(true)) {
            break;
        }
    }
}

fn any_row() -> impl Strategy<Value = (usize, Vec<u8>, Vec<u8>)> {
    let small = prop_oneof![Just(0u8), Just(1), Just(2), Just(0xff), any::<u8>()];
    (0..Cf::ALL.len(), prop::collection::vec(small, 0..20), prop::collection::vec(any::<u8>(), 0..24))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..Default::default() })]

    #[test]
    fn strange_rows_never_panic(rows in prop::collection::vec(any_row(), 0..12)) {
        let engine: Arc<dyn Engine> = Arc::new(MemEngine::new());
        let mut batch = Batch::default();
        for (cf, key, value) in rows {
            batch.put(Cf::ALL[cf], key, value);
        }
        engine.write(batch).unwrap();
        let _ = audit(engine.as_ref(), None);
        if let Ok(mvcc) = Mvcc::open(engine.clone(), MvccConfig::default()) {
            read_everything(&mvcc);
        }
    }

    #[test]
    fn changed_rows_never_panic(
        steps in prop::collection::vec(step(), 1..30),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<u64>()), 1..4),
    ) {
        let mut harness = Harness::new();
        harness.push(Op::LeaseGrant(pb::LeaseGrantRequest { id: 7, ttl: 60 }));
        steps.iter().for_each(|step| harness.run(step));
        harness.end_batch();
        let mut rows = Vec::new();
        for cf in Cf::ALL {
            let snapshot = harness.engine.snapshot();
            let mut cursor = snapshot.cursor(cf, false);
            cursor.seek(&[]).unwrap();
            while cursor.valid() {
                rows.push((cf, cursor.key().to_vec(), cursor.value().to_vec()));
                cursor.next().unwrap();
            }
        }
        let mut batch = Batch::default();
        for (at, in_key, seed) in changes {
            let (cf, key, value) = &rows[at.index(rows.len())];
            batch.delete(*cf, key.clone());
            if in_key {
                batch.put(*cf, mutated(key, seed), value.clone());
            } else {
                batch.put(*cf, key.clone(), mutated(value, seed));
            }
        }
        harness.engine.write(batch).unwrap();
        let _ = audit(harness.engine.as_ref(), None);
        if let Ok(mvcc) = Mvcc::open(harness.engine.clone(), MvccConfig::default()) {
            read_everything(&mvcc);
            let put = put_request(&Bytes::from_static(b"a"), &Bytes::from_static(b"b"));
            let entry = Entry { term: 1, index: u64::MAX, position: Bytes::new(), commands: vec![command(Op::Put(put))] };
            let _ = mvcc.apply(&[entry]);
            read_everything(&mvcc);
        }
    }

    /// What a peer or the log hands over as commands is applied or refused.
    #[test]
    fn strange_commands_never_panic(
        steps in prop::collection::vec(step(), 0..10),
        commands in prop::collection::vec((any_command(), any::<u64>(), any::<bool>()), 1..8),
    ) {
        let mut harness = Harness::new();
        steps.iter().for_each(|step| harness.run(step));
        harness.end_batch();
        let commands: Vec<Command> = commands
            .into_iter()
            .filter_map(|(command, seed, whole)| {
                let bytes = command.encode_to_vec();
                let bytes = if whole { bytes } else { mutated(&bytes, seed) };
                Command::decode(&bytes[..]).ok()
            })
            .collect();
        let known = commands.iter().all(|command| command.op.is_some());
        let entry = Entry { term: 1, index: harness.index + 1, position: Bytes::new(), commands };
        let applied = harness.mvcc.apply(&[entry]);
        // A command of a newer version stops a member: all others are answered.
        prop_assert_eq!(applied.is_ok(), known, "{:?}", applied.err());
        read_everything(&harness.mvcc);
        // What was applied can be read again after a restart.
        open(&harness.engine);
    }
}

fn any_key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(0xff)], 0..3).prop_map(Bytes::from)
}

fn any_number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1), Just(2), Just(7), Just(-1), Just(i64::MIN), Just(i64::MAX), any::<i64>()]
}

fn any_command() -> impl Strategy<Value = Command> {
    let op = prop_oneof![
        (any_key(), any_number(), any::<bool>(), any::<bool>()).prop_map(
            |(key, lease, ignore_value, ignore_lease)| {
                Op::Put(pb::PutRequest {
                    key,
                    lease,
                    ignore_value,
                    ignore_lease,
                    prev_kv: true,
                    ..Default::default()
                })
            }
        ),
        (any_key(), any_key()).prop_map(|(key, range_end)| {
            Op::DeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: true })
        }),
        (any_key(), any_number(), any::<i32>(), any::<i32>()).prop_map(|(key, number, target, result)| {
            let request =
                pb::RangeRequest { key: key.clone(), revision: number, limit: number, ..Default::default() };
            let put = pb::PutRequest { key: key.clone(), lease: number, ..Default::default() };
            let compare = pb::Compare {
                key,
                target,
                result,
                target_union: Some(pb::compare::TargetUnion::Version(number)),
                ..Default::default()
            };
            let op = |request| pb::RequestOp { request: Some(request) };
            let inner =
                pb::TxnRequest { success: vec![op(Request::RequestPut(put.clone()))], ..Default::default() };
            Op::Txn(pb::TxnRequest {
                compare: vec![compare],
                success: vec![op(Request::RequestRange(request)), op(Request::RequestPut(put))],
                failure: vec![op(Request::RequestTxn(inner)), pb::RequestOp { request: None }],
            })
        }),
        any_number().prop_map(|revision| Op::Compact(pb::CompactionRequest { revision, physical: true })),
        (any_number(), any_number()).prop_map(|(id, ttl)| Op::LeaseGrant(pb::LeaseGrantRequest { id, ttl })),
        (any_number(), any::<u64>())
            .prop_map(|(id, expired_in_term)| { Op::LeaseRevoke(LeaseRevoke { id, expired_in_term }) }),
        (any_number(), any_number()).prop_map(|(id, remaining_ttl)| {
            let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl }];
            Op::LeaseCheckpoint(pb::LeaseCheckpointRequest { checkpoints })
        }),
        (any::<i32>(), any::<u64>(), any::<i32>())
            .prop_map(|(action, member_id, alarm)| Op::Alarm(pb::AlarmRequest { action, member_id, alarm })),
        ".{0,9}".prop_map(Op::ClusterVersion),
    ];
    op.prop_map(command)
}
