//! A state told in the order in which it came about, as a file of etcd's: what
//! is read back answers as the one that was written.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::bbolt::Writer;
use crate::conformance::fuzz::mutated;
use crate::engine::Engine;
use crate::etcd_snapshot::{self, Checksum, EtcdSnapshot};
use crate::pb::authpb;
use crate::pb::skiff::v1::{AuthChange, StoredUser, UserAdd, auth_change::Change as AuthOp};

fn told(mvcc: &Mvcc, at_once: usize) -> Vec<Version> {
    let mut versions = Vec::new();
    mvcc.chronicle()
        .versions_sorted(at_once, &mut |version| {
            versions.push(version);
            Ok(())
        })
        .unwrap();
    versions
}

fn written(mvcc: &Mvcc) -> File {
    let file = tempfile::tempfile().unwrap();
    let written = etcd_snapshot::write(mvcc, file.try_clone().unwrap()).unwrap();
    assert_eq!(written.size, file.metadata().unwrap().len());
    assert_eq!(written.revision, mvcc.revision());
    file
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn file_of(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// A store made of a file.
fn read_back(file: File, checksum: Checksum) -> Result<(Arc<dyn Engine>, Arc<Mvcc>)> {
    let engine: Arc<dyn Engine> = Arc::new(MemEngine::new());
    EtcdSnapshot::open(file, checksum)?.fill(engine.clone())?;
    audit(engine.as_ref(), None)?;
    let mvcc = Mvcc::open(engine.clone(), MvccConfig::default())?;
    Ok((engine, mvcc))
}

fn everything(revision: i64) -> pb::RangeRequest {
    let (key, range_end) = (Bytes::from_static(&[0]), Bytes::from_static(&[0]));
    pb::RangeRequest { key, range_end, revision, ..Default::default() }
}

fn range(mvcc: &Mvcc, revision: i64) -> pb::RangeResponse {
    match mvcc.read(None, &Read::Range(everything(revision))).unwrap() {
        ReadReply::Range(response) => response,
        other => panic!("{other:?}"),
    }
}

fn played(steps: &[Step]) -> Harness {
    let mut harness = Harness::new();
    steps.iter().for_each(|step| harness.run(step));
    harness.end_batch();
    harness
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..Default::default() })]

    #[test]
    fn what_is_told_is_the_history_in_order(steps in prop::collection::vec(step(), 0..60), at_once in 1usize..5) {
        let harness = played(&steps);
        let versions = told(&harness.mvcc, at_once);
        prop_assert!(versions.is_sorted_by(|a, b| (a.kv.mod_revision, a.sub) < (b.kv.mod_revision, b.sub)));
        let mut exported = Vec::new();
        let all = Export { range: KeyRange::From(Bytes::new()), revision: 0, history: true };
        harness.mvcc.export(&all, &mut |version| { exported.push(version); Ok(()) }).unwrap();
        exported.sort_by_key(|version| (version.kv.mod_revision, version.sub));
        prop_assert_eq!(versions, exported);
    }

    #[test]
    fn a_state_survives_etcds_format(steps in prop::collection::vec(step(), 0..60)) {
        let harness = played(&steps);
        let (engine, mvcc) = read_back(written(&harness.mvcc), Checksum::Compare).unwrap();
        let from = harness.model.compacted.max(1);
        for compacted_physically in [false, true] {
            prop_assert_eq!(mvcc.revision(), harness.mvcc.revision());
            prop_assert_eq!(mvcc.compact_revision(), harness.mvcc.compact_revision());
            for revision in from..=mvcc.revision() {
                prop_assert_eq!(range(&mvcc, revision), range(&harness.mvcc, revision), "at {}", revision);
                prop_assert_eq!(hash_kv(&mvcc, revision), hash_kv(&harness.mvcc, revision), "at {}", revision);
            }
            let events = |mvcc: &Mvcc| {
                let history: &dyn History = mvcc.shared.as_ref();
                history.read(&[0], &[0], from + 1, usize::MAX).ok().unwrap().events
            };
            prop_assert_eq!(events(&mvcc), events(&harness.mvcc));
            if !compacted_physically {
                while mvcc.compact_step().unwrap() {}
                audit(engine.as_ref(), None).unwrap();
            }
        }
        prop_assert!(mvcc.bytes_in_use() >= 0);
    }

    #[test]
    fn strange_snapshots_never_panic(
        steps in prop::collection::vec(step(), 0..30), seed in any::<u64>(), page in prop::option::of(0usize..12),
    ) {
        let mut bytes = bytes_of(&written(&played(&steps).mvcc));
        match page {
            // In place: what is behind stays where it is looked for.
            Some(page) if (page + 1) * 4096 <= bytes.len() => {
                let changed = mutated(&bytes[page * 4096..(page + 1) * 4096], seed);
                let len = changed.len().min(4096);
                bytes[page * 4096..page * 4096 + len].copy_from_slice(&changed[..len]);
            }
            _ => bytes = mutated(&bytes, seed),
        }
        let _ = read_back(file_of(&bytes), Checksum::Ignore);
        if let Ok(snapshot) = EtcdSnapshot::open(file_of(&bytes), Checksum::Ignore) {
            let _ = snapshot.summary();
        }
    }
}

fn apply(mvcc: &Mvcc, ops: impl IntoIterator<Item = Op>) {
    let commands: Vec<Command> = ops.into_iter().map(command).collect();
    let index = mvcc.applied_index() + 1;
    let outcome = mvcc.apply(&[Entry { term: 1, index, position: Bytes::new(), commands }]).unwrap();
    for reply in outcome.into_iter().flat_map(|outcome| outcome.replies) {
        reply.unwrap();
    }
}

fn auth(change: AuthOp) -> Op {
    Op::Auth(AuthChange { change: Some(change) })
}

fn with_users_and_leases() -> Arc<Mvcc> {
    let engine: Arc<dyn Engine> = Arc::new(MemEngine::new());
    let mvcc = open(&engine);
    let user = |name: &str, hash: &'static [u8]| {
        auth(AuthOp::UserAdd(UserAdd {
            name: name.into(),
            password_hash: hash.into(),
            no_password: hash.is_empty(),
        }))
    };
    let role = |name: &str| auth(AuthOp::RoleAdd(pb::AuthRoleAddRequest { name: name.into() }));
    let grant = |user: &str, role: &str| {
        auth(AuthOp::UserGrant(pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() }))
    };
    let permit = |key: &'static [u8], end: &'static [u8], perm_type| {
        let perm = authpb::Permission { perm_type, key: key.into(), range_end: end.into() };
        auth(AuthOp::RoleGrant(pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) }))
    };
    apply(
        &mvcc,
        [
            user("root", b"$2b$04$hash"),
            user("certificate", b""),
            role("root"),
            role("r"),
            role("a"),
            permit(b"z", b"", 0),
            permit(b"b", b"c", 2),
            grant("root", "root"),
            grant("certificate", "r"),
            grant("certificate", "a"),
        ],
    );
    let lease = |id| Op::LeaseGrant(pb::LeaseGrantRequest { id, ttl: 1000 + id.signum() });
    apply(&mvcc, [lease(7), lease(i64::MAX), lease(-9)]);
    let checkpoint = pb::LeaseCheckpoint { id: 7, remaining_ttl: 12 };
    apply(
        &mvcc,
        [
            Op::LeaseCheckpoint(pb::LeaseCheckpointRequest { checkpoints: vec![checkpoint] }),
            Op::Put(pb::PutRequest { key: "k".into(), value: "v".into(), lease: 7, ..Default::default() }),
            Op::Put(pb::PutRequest { key: "n".into(), lease: -9, ..Default::default() }),
            Op::Alarm(pb::AlarmRequest { action: 1, member_id: 3, alarm: pb::AlarmType::Nospace as i32 }),
            auth(AuthOp::Enable(pb::AuthEnableRequest {})),
        ],
    );
    mvcc
}

#[test]
fn leases_users_roles_and_alarms_survive_etcds_format() {
    let mvcc = with_users_and_leases();
    let (engine, again) = read_back(written(&mvcc), Checksum::Compare).unwrap();
    assert_eq!(again.leases(), mvcc.leases());
    assert_eq!(again.leases().len(), 3);
    assert_eq!(again.alarms(), mvcc.alarms());
    assert_eq!(again.vitals(), mvcc.vitals());
    assert!(again.vitals().0, "auth is on");
    // An older binary must not serve it to everyone.
    assert_eq!(stored_format(engine.as_ref()).unwrap(), Some(FORMAT));
    let (before, after) = (mvcc.chronicle(), again.chronicle());
    let users: Vec<&StoredUser> = after.users().collect();
    assert_eq!(users, before.users().collect::<Vec<_>>());
    assert_eq!(users.len(), 2);
    assert_eq!(after.roles().collect::<Vec<_>>(), before.roles().collect::<Vec<_>>());
    let state = again.shared.view();
    assert_eq!(state.state.leases.get(&7).unwrap().keys.iter().count(), 1, "the key hangs on its lease");
}

#[test]
fn a_snapshot_without_its_checksum_is_taken_only_where_asked() {
    let mvcc = with_users_and_leases();
    let bytes = bytes_of(&written(&mvcc));
    let database = &bytes[..bytes.len() - 32];
    let refused = |bytes: &[u8]| match read_back(file_of(bytes), Checksum::Compare) {
        Err(Error::Corruption(text)) => text,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    };
    assert!(refused(database).contains("--skip-hash-check"));
    assert!(refused(&bytes[..bytes.len() - 1]).contains("--skip-hash-check"));
    let (_, taken) = read_back(file_of(database), Checksum::Ignore).unwrap();
    assert_eq!(taken.revision(), mvcc.revision());
    // In the padding of a page, where nothing but the checksum tells.
    let mut flipped = bytes.clone();
    flipped[2 * 4096 - 1] ^= 1;
    assert!(refused(&flipped).contains("does not fit"));
    read_back(file_of(&flipped), Checksum::Ignore).unwrap();
}

#[test]
fn a_revision_that_etcd_would_give_out_twice_is_not_written() {
    let engine: Arc<dyn Engine> = Arc::new(MemEngine::new());
    let mut batch = Batch::default();
    let stored =
        crate::pb::skiff::v1::StoredState { revision: 9, compact_revision: -1, ..Default::default() };
    batch.put(Cf::Meta, STATE_ROW, stored.encode_to_vec());
    engine.write(batch).unwrap();
    let error = etcd_snapshot::write(&open(&engine), tempfile::tempfile().unwrap()).unwrap_err();
    assert!(error.to_string().contains("nothing changed at revision 9"), "{error}");
}

/// A key of etcd's bucket `key`.
fn etcd_key(main: i64, sub: i64, deleted: bool) -> Vec<u8> {
    let tombstone: &[u8] = if deleted { b"t" } else { b"" };
    [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes(), tombstone].concat()
}

/// A file of etcd's with these versions and compacted revisions, and no other
/// buckets, as an etcd that was never used for more has none of some.
fn etcd_file(
    versions: &[(i64, i64, Option<KeyValue>)],
    finished: Option<i64>,
    scheduled: Option<i64>,
) -> File {
    let mut writer = Writer::new(tempfile::tempfile().unwrap()).unwrap();
    writer
        .bucket("key", |out| {
            versions.iter().try_for_each(|(main, sub, kv)| {
                let gone = KeyValue { key: "k".into(), ..Default::default() };
                let value = kv.as_ref().unwrap_or(&gone).encode_to_vec();
                out.put(&etcd_key(*main, *sub, kv.is_none()), &value)
            })
        })
        .unwrap();
    writer
        .bucket("meta", |out| {
            let revision = |revision: i64| etcd_key(revision, 0, false);
            finished.map_or(Ok(()), |at| out.put(b"finishedCompactRev", &revision(at)))?;
            scheduled.map_or(Ok(()), |at| out.put(b"scheduledCompactRev", &revision(at)))
        })
        .unwrap();
    writer.finish().unwrap()
}

fn kv(create_revision: i64, mod_revision: i64, version: i64) -> Option<KeyValue> {
    let (key, value) = (Bytes::from_static(b"k"), Bytes::from_static(b"v"));
    Some(KeyValue { key, value, create_revision, mod_revision, version, lease: 0 })
}

/// etcd had begun to compact at 6 and removed what was replaced up to 3.
#[test]
fn a_compaction_that_etcd_had_not_finished_counts_and_is_finished() {
    let versions =
        [(3, 0, kv(2, 3, 2)), (4, 0, None), (5, 0, kv(5, 5, 1)), (6, 0, kv(5, 6, 2)), (7, 0, kv(5, 7, 3))];
    let (engine, mvcc) = read_back(etcd_file(&versions, Some(2), Some(6)), Checksum::Ignore).unwrap();
    assert_eq!((mvcc.revision(), mvcc.compact_revision()), (7, 6));
    let refused = mvcc.read(None, &Read::Range(everything(5)));
    assert!(matches!(refused, Err(Error::Api(ApiError::Compacted))), "{refused:?}");
    let before = hash_kv(&mvcc, 7);
    while mvcc.compact_step().unwrap() {}
    audit(engine.as_ref(), None).unwrap();
    assert_eq!(hash_kv(&mvcc, 7), before);
    assert_eq!(told(&mvcc, 10).iter().map(|version| version.kv.mod_revision).collect::<Vec<_>>(), [6, 7]);
}

#[test]
fn where_all_was_deleted_and_compacted_the_revision_is_the_compacted_one() {
    let (_, mvcc) = read_back(etcd_file(&[], Some(9), Some(9)), Checksum::Ignore).unwrap();
    assert_eq!((mvcc.revision(), mvcc.compact_revision()), (9, 9));
}

#[test]
fn contradictions_are_refused() {
    let refused = |versions: &[(i64, i64, Option<KeyValue>)]| match read_back(
        etcd_file(versions, None, None),
        Checksum::Ignore,
    ) {
        Err(Error::Corruption(text)) => text,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    };
    assert!(refused(&[(2, 0, kv(2, 3, 1))]).contains("of revision 3"));
    assert!(refused(&[(0, 0, kv(0, 0, 1))]).contains("out of order"));
    assert!(refused(&[(2, 0, kv(2, 2, 1)), (2, 0, None)]).contains("out of order"));
    assert!(refused(&[(2, i64::MAX, kv(2, 2, 1))]).contains("is no revision"));
    let leased = kv(2, 2, 1).map(|kv| KeyValue { lease: 5, ..kv });
    assert!(refused(&[(2, 0, leased)]).contains("not stored"));
    let nameless = kv(2, 2, 1).map(|kv| KeyValue { key: Bytes::new(), ..kv });
    assert!(refused(&[(2, 0, nameless)]).contains("holds a change of key"));
    // Not etcd's at all.
    let other = Writer::new(tempfile::tempfile().unwrap()).unwrap().finish().unwrap();
    let error = read_back(other, Checksum::Ignore).err().unwrap().to_string();
    assert!(error.contains("no bucket"), "{error}");
}
