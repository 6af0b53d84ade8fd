//! From a snapshot to a cluster.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::tools::Finished;
use skiff_test_support::{Member, MemberOptions, Program, Scratch, ports};

use crate::common::*;

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
