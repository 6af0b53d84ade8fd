//! What is read of a member that was killed.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::{Member, Program, Scratch};

use crate::common::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_member_is_read_as_it_answered() {
    let scratch = Scratch::new("util-read");
    let mut member =
        Member::single(Program::Skiff(SKIFF.into()), &scratch.path().join("m")).await.expect("it starts");
    write(&mut member).await;
    let client = member.client();
    let (newest, earlier) = (hash(&client, 0).await, hash(&client, 200).await);
    let everything = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
    let range = client.range(everything.clone()).await.expect("a read");
    let then = client.range(RangeRequest { revision: 200, ..everything }).await.expect("a read of the past");
    let status = client.status(StatusRequest {}).await.expect("a status");
    let member_id = status.header.as_ref().expect("a header").member_id;

    let data = member.data_dir();
    let refused = util(&["status", path(&data)]);
    let pid = member.pid().expect("it runs").to_string();
    assert!(refused.code == 1 && refused.stderr.contains(&pid), "{}", refused.stderr);
    assert!(refused.stderr.contains("stop it first"), "{}", refused.stderr);
    for tool in ["defrag", "verify", "hashkv", "dump keys", "dump log"] {
        let args: Vec<&str> = tool.split(' ').chain(["--data-dir", path(&data)]).collect();
        assert_eq!(util(&args).code, 1, "{tool} of a running member");
    }
    member.kill();
    let before = contents(&data);

    let found = json(&["hashkv", "--data-dir", path(&data), "-w", "json"]);
    assert_eq!(found["hash"], newest.hash);
    assert_eq!(
        (&found["hashRevision"], &found["compactRevision"]),
        (&newest.hash_revision.into(), &120.into())
    );
    let found = json(&["hashkv", path(&data), "--rev=200", "--write-out=json"]);
    assert_eq!(found["hash"], earlier.hash);
    assert!(util(&["hashkv", path(&data), "--rev", "50"]).stderr.contains("compacted"));

    let found = json(&["status", path(&data), "-w", "json"]);
    let revision = range.header.as_ref().expect("a header").revision;
    assert_eq!((&found["revision"], &found["totalKey"]), (&revision.into(), &range.count.into()));
    assert_eq!((&found["hash"], &found["leases"]), (&newest.hash.into(), &1.into()));
    assert_eq!(found["memberID"], format!("{member_id:x}"));
    assert_eq!(found["members"][0]["name"], "m1");
    assert_eq!((&found["raftTerm"], &found["raftUnconfirmed"]), (&status.raft_term.into(), &0.into()));
    assert_eq!(found["raftAppliedIndex"], status.raft_applied_index);
    for format in ["simple", "table", "fields"] {
        assert!(util(&["status", path(&data), "-w", format]).ok().contains(&revision.to_string()));
    }

    let key = |line: &Value| line["key"]["text"].as_str().expect("a key").to_owned();
    let keys = |kvs: &[skiff_test_support::pb::mvccpb::KeyValue]| {
        kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect::<Vec<_>>()
    };
    let dumped = lines(&["dump", "keys", path(&data)]);
    assert_eq!(dumped.iter().map(key).collect::<Vec<_>>(), keys(&range.kvs));
    let t1 = dumped.iter().find(|line| key(line) == "t1").expect("a key of the transaction");
    assert_eq!((&t1["value"]["base64"], &t1["value"]["text"]), (&"AAE=".into(), &"\\x00\\x01".into()));
    let dumped = lines(&["dump", "keys", path(&data), "--rev=200"]);
    assert_eq!(dumped.iter().map(key).collect::<Vec<_>>(), keys(&then.kvs));
    let dumped = lines(&["dump", "keys", path(&data), "--prefix=k01", "--history"]);
    assert!(dumped.iter().all(|line| key(line).starts_with("k01")));
    assert_eq!(dumped.iter().filter(|line| line["deleted"] == true).count(), 10);

    let log = lines(&["dump", "log", "--data-dir", path(&data)]);
    let indexes: Vec<u64> = log.iter().map(|line| line["index"].as_u64().expect("an index")).collect();
    assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{indexes:?}");
    assert_eq!(indexes.last(), Some(&status.raft_index));
    let commands: Vec<&Value> = log.iter().filter_map(|line| line["commands"].as_array()).flatten().collect();
    let last = commands.iter().rfind(|command| command["op"] == "put").expect("a put");
    assert_eq!((&last["key"]["text"], &last["value"]["base64"]), (&"last".into(), &"d29yZA==".into()));
    let txn = commands.iter().find(|command| command["op"] == "txn").expect("a transaction");
    assert_eq!(txn["success"][1]["key"]["text"], "t2");
    let (first, second) = (indexes[3].to_string(), indexes[4].to_string());
    assert_eq!(lines(&["dump", "log", path(&data), "--from", &first, "--to", &second]), log[3..5]);
    assert_eq!(delimited(&data), log.len());

    let verified = util(&["verify", path(&data)]).ok();
    assert!(verified.contains("everything is whole"), "{verified}");
    assert!(contents(&data) == before, "a tool that only looks changed something");

    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    assert_eq!(hash(&member.client(), newest.hash_revision).await.hash, newest.hash);
}

/// Messages in the protobuf form of the log.
fn delimited(data: &Path) -> usize {
    let output = Command::new(SKIFF)
        .args(["etcd", "util", "dump", "log", path(data), "--format=protobuf"])
        .output()
        .expect("it runs");
    assert!(output.status.success());
    let mut rest = &output.stdout[..];
    let mut messages = 0;
    while !rest.is_empty() {
        let length = prost::decode_length_delimiter(&mut rest).expect("a length");
        rest = rest.get(length..).expect("a whole message");
        messages += 1;
    }
    messages
}
