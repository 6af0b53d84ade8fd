//! What the offline tools stand on: the audit, the export, and the beginning
//! of another cluster.

use super::*;
use crate::engine::{Engine, Op as RowOp};

fn exported(mvcc: &Mvcc, export: &Export) -> Result<Vec<Version>> {
    let mut versions = Vec::new();
    mvcc.export(export, &mut |version| {
        versions.push(version);
        Ok(())
    })?;
    Ok(versions)
}

fn all(revision: i64, history: bool) -> Export {
    Export { range: KeyRange::From(Bytes::new()), revision, history }
}

/// Every row of a column family.
fn rows(engine: &dyn Engine, cf: Cf) -> Vec<(Bytes, Bytes)> {
    let snapshot = engine.snapshot();
    let mut cursor = snapshot.cursor(cf, false);
    cursor.seek(&[]).unwrap();
    let mut rows = Vec::new();
    while cursor.valid() {
        rows.push((Bytes::copy_from_slice(cursor.key()), Bytes::copy_from_slice(cursor.value())));
        cursor.next().unwrap();
    }
    rows
}

fn played(steps: &[Step]) -> Harness {
    let mut harness = Harness::new();
    steps.iter().for_each(|step| harness.run(step));
    harness.end_batch();
    harness
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..Default::default() })]

    #[test]
    fn a_store_passes_its_audit(steps in prop::collection::vec(step(), 0..60), compact: bool) {
        let harness = played(&steps);
        if compact {
            while harness.mvcc.compact_step().unwrap() {}
        }
        let audit = audit(harness.engine.as_ref(), None).unwrap();
        prop_assert_eq!(audit.revision, harness.model.revision());
        prop_assert_eq!(audit.keys, harness.model.now().len());
        prop_assert_eq!(audit.index_file, IndexFile::Absent);
    }

    /// A row that is gone or changed is found, unless compaction could have
    /// removed it.
    #[test]
    fn an_audit_finds_a_damaged_row(
        steps in prop::collection::vec(step(), 1..60),
        at in any::<prop::sample::Index>(),
        events: bool,
        bits in prop::option::of((any::<prop::sample::Index>(), 1u8..)),
    ) {
        let harness = played(&steps);
        let cf = if events { Cf::Events } else { Cf::Kv };
        let compacted = harness.mvcc.compact_revision();
        let revision = |row: &Bytes| match cf {
            Cf::Kv => keys::split(row).unwrap().1,
            _ => keys::event_revision(row).unwrap(),
        };
        let rows: Vec<_> =
            rows(harness.engine.as_ref(), cf).into_iter().filter(|(row, _)| revision(row) > compacted).collect();
        prop_assume!(!rows.is_empty());
        let (row, value) = &rows[at.index(rows.len())];
        let mut batch = Batch { ops: vec![RowOp::Delete(cf, row.clone())] };
        if let Some((byte, bits)) = bits {
            // Another row than the one that belongs there.
            let mut other = row.to_vec();
            let byte = byte.index(other.len());
            other[byte] ^= bits;
            batch.put(cf, other, value.clone());
        }
        harness.engine.write(batch).unwrap();
        prop_assert!(audit(harness.engine.as_ref(), None).is_err());
    }

    #[test]
    fn an_export_is_what_a_range_reads(steps in prop::collection::vec(step(), 0..60)) {
        let harness = played(&steps);
        for (revision, map) in &harness.model.revisions {
            let found = exported(&harness.mvcc, &all(*revision, false));
            if *revision < harness.model.compacted {
                prop_assert!(matches!(found, Err(Error::Api(ApiError::Compacted))));
                continue;
            }
            let found: Vec<KeyValue> = found.unwrap().into_iter().map(|version| version.kv).collect();
            prop_assert_eq!(found, map.values().cloned().collect::<Vec<_>>());
        }
        // Every change above the compacted revision is a version of the history.
        let compacted = harness.mvcc.compact_revision();
        let history = exported(&harness.mvcc, &all(0, true)).unwrap();
        let newer = history.iter().filter(|version| version.kv.mod_revision > compacted).count();
        let events = rows(harness.engine.as_ref(), Cf::Events);
        let changes = events.iter().filter(|(row, _)| keys::event_revision(row).unwrap() > compacted).count();
        prop_assert_eq!(newer, changes);
    }

    #[test]
    fn a_rebased_store_keeps_its_keys(steps in prop::collection::vec(step(), 0..40), by in prop::option::of(1i64..1 << 40)) {
        let harness = played(&steps);
        let keys: Vec<KeyValue> = harness.model.now().values().cloned().collect();
        let place = Rebase { term: 1, index: 1, position: Bytes::from_static(b"place"), bump: by };
        let revision = rebase(harness.engine.as_ref(), &place).unwrap();
        prop_assert_eq!(revision, harness.model.revision() + by.unwrap_or(0));
        audit(harness.engine.as_ref(), None).unwrap();
        let mvcc = open(&harness.engine);
        prop_assert_eq!((mvcc.applied_index(), mvcc.position()), (1, Bytes::from_static(b"place")));
        prop_assert_eq!(mvcc.revision(), revision);
        if by.is_some() {
            prop_assert_eq!(mvcc.compact_revision(), revision);
        }
        let found: Vec<KeyValue> = exported(&mvcc, &all(0, false)).unwrap().into_iter().map(|v| v.kv).collect();
        prop_assert_eq!(found, keys);
        while mvcc.compact_step().unwrap() {}
        audit(harness.engine.as_ref(), None).unwrap();
    }
}

#[test]
fn a_revision_is_not_raised_beyond_all_bounds() {
    let harness = played(&[]);
    let place = |by| Rebase { term: 1, index: 1, position: Bytes::new(), bump: Some(by) };
    for by in [-1, i64::MAX, i64::MAX - 1] {
        assert!(matches!(rebase(harness.engine.as_ref(), &place(by)), Err(Error::Other(_))), "{by}");
    }
}

#[test]
fn what_is_no_store_cannot_begin_a_cluster() {
    let place = Rebase { term: 1, index: 1, position: Bytes::new(), bump: None };
    assert!(matches!(rebase(&MemEngine::default(), &place), Err(Error::Corruption(_))));
}

#[test]
fn an_audit_compares_the_index_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let config = MvccConfig { index_file: Some(path.clone()), ..Default::default() };
    let mut harness = Harness::new();
    harness.run(&Step::Put(Bytes::from_static(b"a"), Bytes::from_static(b"b")));
    harness.end_batch();
    Mvcc::open(harness.engine.clone(), config).unwrap().save_index().unwrap();
    assert_eq!(audit(harness.engine.as_ref(), Some(&path)).unwrap().index_file, IndexFile::Agrees);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = audit(harness.engine.as_ref(), Some(&path)).unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}

/// Revisions that another program left out are no damage, and its changes are
/// like any other.
#[test]
fn an_adopted_history_passes_its_audit() {
    use crate::pb::skiff::v1::{Adopt, AdoptedChange};
    let engine = Arc::new(crate::engine::mem::MemEngine::new());
    let mvcc = Mvcc::open(engine.clone(), MvccConfig::default()).unwrap();
    let change = |key: &'static str, value: &'static str, create_revision, mod_revision| AdoptedChange {
        kv: Some(KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision,
            mod_revision,
            ..Default::default()
        }),
        deleted: value.is_empty(),
    };
    let changes = vec![
        change("a", "1", 0, 4),
        change("b", "1", 0, 5),
        change("a", "2", 4, 9),
        change("gone", "", 0, 10),
        // Its first versions were compacted away by the other program.
        change("c", "7", 3, 11),
    ];
    let adopt = Adopt { changes, through: 12 };
    let entry = |index, op| Entry {
        term: 1,
        index,
        position: Bytes::new(),
        commands: vec![crate::pb::skiff::v1::Command::from(op)],
    };
    mvcc.apply(&[entry(1, crate::pb::skiff::v1::command::Op::Adopt(adopt))]).unwrap();
    assert_eq!(mvcc.revision(), 12);
    let put = pb::PutRequest { key: "a".into(), value: "3".into(), ..Default::default() };
    mvcc.apply(&[entry(2, crate::pb::skiff::v1::command::Op::Put(put))]).unwrap();
    let found = exported(&mvcc, &all(0, false)).unwrap();
    let found: Vec<_> =
        found.iter().map(|v| (v.kv.create_revision, v.kv.mod_revision, v.kv.version)).collect();
    assert_eq!(found, [(4, 13, 3), (5, 5, 1), (3, 11, 2)]);
    assert_eq!(audit(engine.as_ref(), None).unwrap().revision, 13);
}
