//! The offline tools on the files of real members: what they say is what the
//! member said while it ran.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::tools::Finished;
use skiff_test_support::{Client, Member, MemberOptions, Program, Rng, Scratch, ports};

const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");

fn util(args: &[&str]) -> Finished {
    Command::new(SKIFF)
        .args(["etcd", "util"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
        .into()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&util(args).ok()).expect("JSON")
}

fn lines(args: &[&str]) -> Vec<Value> {
    util(args).ok().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// The names and bytes of all files below a directory.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
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

fn copy(from: &Path, to: &Path) {
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

async fn put(client: &Client, key: &str, value: &str, lease: i64) {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let request = PutRequest { key, value, lease, ..Default::default() };
    client.put(request).await.expect("a write");
}

/// Writes of every kind; half of them end up in the tables, half in the log.
async fn write(member: &mut Member) {
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

async fn hash(client: &Client, revision: i64) -> HashKvResponse {
    client.hash_kv(HashKvRequest { revision }).await.expect("a hash")
}

/// What `etcdctl snapshot save` writes to a file.
async fn save(client: &Client, file: &Path) {
    let parts: Vec<SnapshotResponse> =
        client.collect("/etcdserverpb.Maintenance/Snapshot", SnapshotRequest {}).await.expect("a snapshot");
    fs::write(file, parts.iter().flat_map(|part| part.blob.to_vec()).collect::<Vec<u8>>()).expect("a file");
}

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

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_named() {
    let scratch = Scratch::new("util-damage");
    let mut member =
        Member::single(Program::Skiff(SKIFF.into()), &scratch.path().join("m")).await.expect("it starts");
    write(&mut member).await;
    // Everything into the tables and the index file, then a bit more of log.
    member.stop().await.expect("it stops");
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    put(&member.client(), "one", "more", 0).await;
    member.kill();
    let data = member.data_dir();
    for file in contents(&data).into_keys().filter(|file| path(file).contains("/wal/spare-")) {
        fs::remove_file(file).expect("a removal");
    }
    let original = scratch.path().join("original");
    copy(&data, &original);
    let seed = Rng::seed_from_env("SKIFF_UTIL_SEED");
    println!("SKIFF_UTIL_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut found = 0;
    let candidates: Vec<PathBuf> = contents(&data).into_keys().filter(|file| holds_data(file)).collect();
    for file in &candidates {
        for damage in ["flip", "cut", "gone"] {
            fs::remove_dir_all(&data).expect("the last round's files go");
            copy(&original, &data);
            let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
            let mut bytes = fs::read(file).expect("a file");
            // What counts of a segment is at its beginning.
            let used = if name.ends_with(".wal") { 4096 + 200 } else { bytes.len() };
            match damage {
                "flip" => {
                    let at = rng.below(used.min(bytes.len()) as u64) as usize;
                    // The rest of a segment's first block is not used.
                    let at = if name.ends_with(".wal") && at >= 60 { 4096 + at % 40 } else { at };
                    // Not the bit by which letters differ in case: a checksum is read either way.
                    bytes[at] ^= 1 << rng.below(5);
                    fs::write(file, bytes).expect("a write");
                }
                "cut" => fs::write(file, &bytes[..bytes.len() / 2]).expect("a write"),
                _ => fs::remove_file(file).expect("a removal"),
            }
            let before = contents(&data);
            let done = util(&["verify", path(&data)]);
            assert!(contents(&data) == before, "{damage} {name}: verify changed something");
            if done.code == 0 {
                // An index file may be missing; RocksDB's tables end with bytes that nothing reads, and a
                // manifest's last record may be torn: the log then holds what it told of.
                let harmless = (damage == "gone" && name == "index")
                    || (damage == "flip" && name.ends_with(".sst"))
                    || (damage != "gone" && name.starts_with("MANIFEST-"))
                    || (damage == "cut" && name.ends_with(".wal"));
                assert!(harmless, "{damage} {name} was not found:\n{}", done.stdout);
                continue;
            }
            found += 1;
            assert_eq!(done.code, 1, "{damage} {name}: {}", done.stderr);
            assert!(!done.stderr.contains("panicked"), "{damage} {name}: {}", done.stderr);
            let folder =
                file.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
            let folder_named = |folder: &str| done.stderr.contains(&format!("/{folder}"));
            let named = done.stderr.contains(name)
                || ((folder.starts_with("db-") || damage == "gone") && folder_named(folder));
            assert!(named, "{damage} {name} is not named: {}", done.stderr);
        }
    }
    assert!(found >= candidates.len(), "{found} of {} damaged files found", 3 * candidates.len());
}

fn holds_data(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(name, "CURRENT" | "metadata" | "index")
        || name.ends_with(".wal")
        || name.ends_with(".sst")
        || name.starts_with("MANIFEST-")
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_given_back() {
    let scratch = Scratch::new("util-defrag");
    // Compacts so slowly that the member stops with almost all of it still to do.
    let options = MemberOptions::single(Program::Skiff(SKIFF.into()), &scratch.path().join("m"))
        .flag("--compaction-batch-limit=1")
        .flag("--compaction-sleep-interval=1h");
    let mut member = Member::new(options);
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    let client = member.client();
    let mut rng = Rng::new(1);
    for number in 0..400 {
        let value: String = (0..8000).map(|_| char::from(b'a' + rng.below(26) as u8)).collect();
        put(&client, &format!("k{}", number % 4), &value, 0).await;
    }
    member.stop().await.expect("it stops");
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    member
        .client()
        .compact(CompactionRequest { revision: 401, physical: false })
        .await
        .expect("a compaction");
    let before = hash(&member.client(), 0).await;
    member.stop().await.expect("it stops");
    let data = member.data_dir();
    let size =
        |data: &Path| json(&["status", path(data), "-w", "json"])["totalSize"].as_u64().expect("a size");
    let fat = size(&data);
    let done = util(&["defrag", "--data-dir", path(&data)]);
    assert!(done.stderr.contains("rewriting tables: "), "{}", done.stderr);
    assert!(done.ok().contains("Finished defragmenting"));
    let slim = size(&data);
    assert!(slim < fat / 4, "{fat} bytes before, {slim} now");
    util(&["verify", path(&data)]).ok();
    member.start().expect("it starts");
    member.ready().await.expect("it answers");
    assert_eq!(hash(&member.client(), before.hash_revision).await.hash, before.hash);
    assert_eq!(util(&["defrag", "--data-dir", path(&scratch.path().join("nothing"))]).code, 1);
    assert!(!scratch.path().join("nothing").exists());
}

/// Command lines of a cluster that does not run yet.
fn planned(dir: &Path, size: usize) -> Vec<MemberOptions> {
    let mut members: Vec<MemberOptions> = (1..=size)
        .map(|number| {
            let name = format!("r{number}");
            let mut options = MemberOptions::single(Program::Skiff(SKIFF.into()), &dir.join(&name));
            options.name = name;
            options.peer_port = ports::free_port();
            options.advertised_peer_port = options.peer_port;
            options.flag("--initial-cluster-token=restored")
        })
        .collect();
    let cluster: Vec<String> =
        members.iter().map(|m| format!("{}=http://127.0.0.1:{}", m.name, m.peer_port)).collect();
    for member in &mut members {
        member.initial_cluster = cluster.join(",");
    }
    members
}

fn restore(options: &MemberOptions, file: &Path, more: &[&str]) -> Finished {
    fs::create_dir_all(&options.dir).expect("a directory");
    let urls = format!("http://127.0.0.1:{}", options.peer_port);
    let data = options.dir.join("data");
    let mut args =
        vec!["snapshot", "restore", path(file), "--data-dir", path(&data), "--name", &options.name];
    args.extend(["--initial-cluster", &options.initial_cluster, "--initial-advertise-peer-urls", &urls]);
    args.extend(["--initial-cluster-token", "restored"]);
    args.extend(more);
    util(&args)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_becomes_a_cluster() {
    let scratch = Scratch::new("util-restore");
    let mut member =
        Member::single(Program::Skiff(SKIFF.into()), &scratch.path().join("m")).await.expect("it starts");
    write(&mut member).await;
    let client = member.client();
    let file = scratch.path().join("backup");
    save(&client, &file).await;
    let (newest, earlier) = (hash(&client, 0).await, hash(&client, 200).await);
    let alarm = AlarmRequest { action: 0, ..Default::default() };
    assert!(client.alarm(alarm).await.expect("alarms").alarms.is_empty());
    member.kill();

    let simple = util(&["snapshot", "status", path(&file)]).ok();
    assert!(simple.starts_with(&format!("{:x}, {}, ", newest.hash, newest.hash_revision)), "{simple}");
    let status = json(&["snapshot", "status", path(&file), "--write-out=json"]);
    assert_eq!((&status["hash"], &status["revision"]), (&newest.hash.into(), &newest.hash_revision.into()));
    assert_eq!(status["totalSize"], fs::metadata(&file).expect("a file").len());
    assert_eq!(json(&["hashkv", path(&file), "--rev=200", "-w=json"])["hash"], earlier.hash);
    util(&["verify", path(&file)]).ok();

    let plans = planned(scratch.path(), 3);
    let mut members = Vec::new();
    for plan in plans {
        restore(&plan, &file, &[]).ok();
        util(&["verify", path(&plan.dir.join("data"))]).ok();
        members.push(Member::new(plan));
    }
    for member in &mut members {
        member.start().expect("it starts");
    }
    for member in &mut members {
        member.ready().await.expect("it answers");
        let found = hash(&member.client(), newest.hash_revision).await;
        assert_eq!((found.hash, found.compact_revision), (newest.hash, newest.compact_revision));
    }
    put(&members[0].client(), "after", "all", 0).await;
    let read = RangeRequest { key: "after".into(), ..Default::default() };
    for member in &members {
        assert_eq!(
            member.client().range(read.clone()).await.expect("a read").kvs[0].mod_revision,
            newest.hash_revision + 1
        );
    }
    let list =
        members[2].client().member_list(MemberListRequest { linearizable: true }).await.expect("members");
    let names: Vec<&str> = list.members.iter().map(|member| member.name.as_str()).collect();
    assert!(names.len() == 3 && names.iter().all(|name| name.starts_with('r')), "{names:?}");
    let lease = LeaseTimeToLiveRequest { id: 77, keys: true };
    let lease = members[1].client().lease_time_to_live(lease).await.expect("a lease");
    assert!(lease.granted_ttl == 5000 && !lease.keys.is_empty(), "{lease:?}");
    // A member that dies comes back, like any other.
    members[1].kill();
    put(&members[0].client(), "meanwhile", "here", 0).await;
    members[1].start().expect("it starts");
    members[1].ready().await.expect("it answers");
    let read = RangeRequest { key: "meanwhile".into(), ..Default::default() };
    assert_eq!(members[1].client().range(read).await.expect("a read").count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_can_raise_the_revision() {
    let scratch = Scratch::new("util-bump");
    let member =
        Member::single(Program::Skiff(SKIFF.into()), &scratch.path().join("m")).await.expect("it starts");
    let client = member.client();
    put(&client, "a", "1", 0).await;
    let file = scratch.path().join("backup");
    save(&client, &file).await;
    let plan = planned(scratch.path(), 1).remove(0);
    for flags in
        [&["--bump-revision=5"][..], &["--mark-compacted"], &["--bump-revision=-5", "--mark-compacted"]]
    {
        assert_eq!(restore(&plan, &file, flags).code, 2, "{flags:?}");
    }
    restore(&plan, &file, &["--bump-revision=1000", "--mark-compacted"]).ok();
    let mut restored = Member::new(plan);
    restored.start().expect("it starts");
    restored.ready().await.expect("it answers");
    let client = restored.client();
    let read = RangeRequest { key: "a".into(), ..Default::default() };
    let found = client.range(read.clone()).await.expect("a read");
    assert_eq!((found.header.expect("a header").revision, found.kvs[0].mod_revision), (1002, 2));
    let past = client.range(RangeRequest { revision: 2, ..read }).await.expect_err("it is compacted");
    assert!(past.message().contains("compacted"), "{past}");
    put(&client, "a", "2", 0).await;
    assert_eq!(hash(&client, 0).await.hash_revision, 1003);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_whole_or_not_there() {
    let scratch = Scratch::new("util-half");
    let mut member =
        Member::single(Program::Skiff(SKIFF.into()), &scratch.path().join("m")).await.expect("it starts");
    write(&mut member).await;
    let file = scratch.path().join("backup");
    save(&member.client(), &file).await;
    let newest = hash(&member.client(), 0).await;
    member.kill();
    let plan = planned(scratch.path(), 1).remove(0);
    let data = plan.dir.join("data");
    let beside = plan.dir.join("data.restoring");

    let bytes = fs::read(&file).expect("a file");
    let bad = scratch.path().join("bad");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for (what, bytes) in
        [("flipped", &flipped[..]), ("cut", &bytes[..bytes.len() - 100]), ("no snapshot", &b"no"[..])]
    {
        fs::write(&bad, bytes).expect("a write");
        for done in [
            restore(&plan, &bad, &[]),
            util(&["snapshot", "status", path(&bad)]),
            util(&["verify", path(&bad)]),
        ] {
            assert!(done.code == 1 && done.stderr.contains(path(&bad)), "{what}: {}", done.stderr);
        }
        assert!(!data.exists() && !beside.exists(), "{what}: something was left");
    }

    // Killed at some moment: nothing is there, or all of it.
    for round in 0..8 {
        let urls = format!("http://127.0.0.1:{}", plan.peer_port);
        let mut child = Command::new(SKIFF)
            .args(["etcd", "util", "snapshot", "restore", path(&file), "--data-dir", path(&data)])
            .args(["--name", &plan.name, "--initial-cluster", &plan.initial_cluster])
            .args(["--initial-advertise-peer-urls", &urls, "--initial-cluster-token", "restored"])
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let stages =
            [beside.clone(), beside.join("member/state/db-1"), beside.join("member/wal"), data.clone()];
        let stage = &stages[round % stages.len()];
        let deadline = Instant::now() + Duration::from_secs(60);
        while !stage.exists() && child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "the restore hangs");
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().expect("it ends");
        if data.exists() {
            util(&["verify", path(&data)]).ok();
            fs::remove_dir_all(&data).expect("a removal");
        }
    }
    restore(&plan, &file, &[]).ok();
    assert!(!beside.exists());
    let before = contents(&data);
    let again = restore(&plan, &file, &[]);
    assert!(again.code == 1 && again.stderr.contains("not empty"), "{}", again.stderr);
    assert!(contents(&data) == before, "a second restore touched the first one's files");
    let found = json(&["hashkv", path(&data), "-w", "json"]);
    assert_eq!((&found["hash"], &found["hashRevision"]), (&newest.hash.into(), &newest.hash_revision.into()));
    let refused = restore(&planned(scratch.path(), 2).remove(1), &file, &["--name=x"]);
    assert!(refused.code == 2 && refused.stderr.contains("couldn't find local name"), "{}", refused.stderr);
}

#[test]
fn mistakes_are_answered_with_what_was_meant() {
    let typo = util(&["snapshot", "resotre", "x"]);
    assert!(typo.code == 2 && typo.stderr.contains("did you mean \"snapshot restore\"?"), "{}", typo.stderr);
    let nowhere = util(&["status", "/nonexistent/data"]);
    assert!(nowhere.code == 1 && nowhere.stderr.contains("/nonexistent/data"), "{}", nowhere.stderr);
    let empty = Scratch::new("util-empty");
    let nothing = util(&["verify", path(empty.path())]);
    assert!(nothing.code == 1 && nothing.stderr.contains("not the data directory"), "{}", nothing.stderr);
    assert_eq!(fs::read_dir(empty.path()).expect("a directory").count(), 0);
    let link = empty.path().join("etcdutl");
    std::os::unix::fs::symlink(SKIFF, &link).expect("a link");
    let help: Finished =
        Command::new(&link).args(["snapshot", "restore", "--help"]).output().expect("it runs").into();
    assert!(help.ok().contains("--initial-advertise-peer-urls"));
    let version: Finished = Command::new(&link).arg("version").output().expect("it runs").into();
    assert!(version.ok().contains("etcd Version"));
}
