//! A member with data, and its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::tools::Finished;
use skiff_test_support::{Client, Member};

pub(crate) const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");

pub(crate) fn util(args: &[&str]) -> Finished {
    Command::new(SKIFF)
        .args(["etcd", "util"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
        .into()
}

pub(crate) fn json(args: &[&str]) -> Value {
    serde_json::from_str(&util(args).ok()).expect("JSON")
}

pub(crate) fn lines(args: &[&str]) -> Vec<Value> {
    util(args).ok().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// The names and bytes of all files below a directory.
pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                all.insert(path.clone(), fs::read(&path).expect("a file"));
            }
        }
    }
    all
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

pub(crate) async fn put(client: &Client, key: &str, value: &str, lease: i64) {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let request = PutRequest { key, value, lease, ..Default::default() };
    client.put(request).await.expect("a write");
}

/// Writes of every kind; half of them end up in the tables, half in the log.
pub(crate) async fn write(member: &mut Member) {
    let client = member.client();
    client.lease_grant(LeaseGrantRequest { ttl: 5000, id: 77 }).await.expect("a lease");
    for number in 0..300 {
        put(
            &client,
            &format!("k{:03}", number % 100),
            &format!("value {number}"),
            if number % 7 == 0 { 77 } else { 0 },
        )
        .await;
        if number == 150 {
            member.stop().await.expect("it stops");
            member.start().expect("it starts");
            member.ready().await.expect("it answers");
        }
    }
    let operation = |key: &'static str| RequestOp {
        request: Some(request_op::Request::RequestPut(PutRequest {
            key: key.into(),
            value: "\u{0}\u{1}".into(),
            ..Default::default()
        })),
    };
    let txn = TxnRequest { success: vec![operation("t1"), operation("t2")], ..Default::default() };
    client.txn(txn).await.expect("a transaction");
    let range = DeleteRangeRequest { key: "k01".into(), range_end: "k02".into(), ..Default::default() };
    assert_eq!(client.delete_range(range).await.expect("a deletion").deleted, 10);
    client.compact(CompactionRequest { revision: 120, physical: true }).await.expect("a compaction");
    put(&client, "last", "word", 0).await;
}

pub(crate) async fn hash(client: &Client, revision: i64) -> HashKvResponse {
    client.hash_kv(HashKvRequest { revision }).await.expect("a hash")
}

/// What `etcdctl snapshot save` writes to a file.
pub(crate) async fn save(client: &Client, file: &Path) {
    let parts: Vec<SnapshotResponse> =
        client.collect("/etcdserverpb.Maintenance/Snapshot", SnapshotRequest {}).await.expect("a snapshot");
    fs::write(file, parts.iter().flat_map(|part| part.blob.to_vec()).collect::<Vec<u8>>()).expect("a file");
}
