//! Disks that are really full: on small file systems in memory, in a child process that may mount them.
//! A member waits for room, says so, and goes on by itself; its process never ends for it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use skiff_test_support::cluster::retry;
use skiff_test_support::pb::etcdserverpb::*;
use skiff_test_support::{Client, Cluster, ClusterOptions, Member, Program, Rng, Scratch};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(90);
/// Where the child finds its folder.
const DIR: &str = "SKIFF_TEST_SMALL_DISK";
/// The exit code of a child that may not mount.
const CANNOT: i32 = 77;
const MIB: usize = 1 << 20;
/// Bytes of a value that no compression makes smaller.
const VALUE: usize = 100 << 10;

fn subject() -> Program {
    Program::subject(env!("CARGO_BIN_EXE_skiff"))
}

/// Runs another test of this file in a child of its own mounts, with `member`'s data on `mib` MiB.
fn in_a_child(test: &str, member: &str, mib: usize) {
    if subject().is_etcd() {
        return;
    }
    let scratch = Scratch::new("full-disk");
    let data = scratch.path().join(member).join("data");
    fs::create_dir_all(&data).expect("a folder");
    let script = format!(
        "mount -t tmpfs -o size={mib}m tmpfs '{}' || exit {CANNOT}; exec timeout 400 \"$0\" \"$@\"",
        data.display()
    );
    let mut child = Command::new("unshare");
    child.args(["--map-root-user", "--mount", "sh", "-c", &script]);
    child.arg(std::env::current_exe().expect("this program"));
    child.args(["--exact", "--ignored", "--nocapture", test]).env(DIR, scratch.path());
    let cannot = match child.output() {
        Ok(output) if output.status.success() => return,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let refused = output.status.code() == Some(CANNOT) || said.contains("unshare failed");
            assert!(refused, "{}\n{said}", String::from_utf8_lossy(&output.stdout));
            said
        }
        Err(error) => error.to_string(),
    };
    eprintln!("*** {test} WAS NOT RUN: this system does not let it mount a file system: {cannot}");
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

fn put(key: String, value: Vec<u8>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    rng.bytes(VALUE)
}

/// Puts so many values, eight at a time.
async fn fill(client: &Client, name: &str, count: usize) {
    let mut rng = Rng::new(count as u64);
    for from in (0..count).step_by(8) {
        let some = (from..count.min(from + 8)).map(|index| {
            let request = put(format!("{name}{index}"), noise(&mut rng));
            async move { retry(|| client.put(request.clone())).await.expect("a write") }
        });
        futures::future::join_all(some.collect::<Vec<_>>()).await;
    }
}

fn free(dir: &Path) -> usize {
    let stat = rustix::fs::statvfs(dir).expect("a file system");
    usize::try_from(stat.f_bavail * stat.f_frsize).expect("a size")
}

/// Takes all space but so much.
fn leave_free(dir: &Path, rest: usize) -> PathBuf {
    let filler = dir.join("filler");
    let mut file = fs::File::create(&filler).expect("a filler");
    loop {
        let bytes = free(dir).saturating_sub(rest).min(MIB);
        // The member takes space of its own meanwhile.
        match file.write_all(&vec![1; bytes]) {
            Ok(()) if bytes > 0 => {}
            Err(error) if error.kind() != std::io::ErrorKind::StorageFull => panic!("{error}"),
            _ => return filler,
        }
    }
}

async fn errors(member: &Member) -> Vec<String> {
    match member.client().with_deadline(Duration::from_secs(5)).status(StatusRequest {}).await {
        Ok(status) => status.errors,
        Err(_) => Vec::new(),
    }
}

/// Waits until a member that must go on running meets a condition.
async fn until<F: Future<Output = bool>>(what: &str, member: &mut Member, met: impl Fn(Client) -> F) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = member.exited().expect("it can be asked") {
            panic!("it ended with {status} while waiting for {what}: {}", member.log_tail(20));
        }
        if met(member.client().with_deadline(Duration::from_secs(5))).await {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}: {}", member.log_tail(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn says(client: Client, text: &str) -> bool {
    let status = client.status(StatusRequest {}).await;
    status.is_ok_and(|status| status.errors.iter().any(|error| error.contains(text)))
}

#[test]
fn a_member_waits_for_room_for_a_snapshot() {
    in_a_child("a_snapshot_that_does_not_fit", "m3", 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_member_waits_for_room_for_a_snapshot"]
async fn a_snapshot_that_does_not_fit() {
    let Some(dir) = child_dir() else { return };
    let options = ClusterOptions::three(subject()).flag("--snapshot-catchup-entries=10");
    let mut cluster = Cluster::start(options, &dir).await.expect("the cluster starts");
    let client = cluster.members[0].client();
    retry(|| client.put(put("before".to_owned(), b"v".to_vec()))).await.expect("a write");
    cluster.check_hashes().await.expect("all have it");
    cluster.members[2].stop().await.expect("it stops");

    // More than a flush: the follower cuts its log, and shall lead.
    fill(&client, "k", 1300).await;
    let leader = cluster.leader().await.expect("a leader");
    let follower = 1 - leader;
    let status = cluster.members[follower].client().status(StatusRequest {}).await.expect("a status");
    let target_id = status.header.expect("a header").member_id;
    let moved = cluster.members[leader].client();
    retry(|| moved.move_leader(MoveLeaderRequest { target_id })).await.expect("it hands over");

    let data = cluster.members[2].data_dir();
    let filler = leave_free(&data, 90 * MIB);
    cluster.start_member(2).expect("it starts");
    let pid = cluster.members[2].pid();
    let late = &mut cluster.members[2];
    until("the member to say what it lacks", late, |client| async move {
        says(client, "a snapshot cannot be received: no space left on device").await
    })
    .await;
    assert!(free(&data) > 64 * MIB, "what does not fit is not begun");
    let old = RangeRequest { key: "before".into(), serializable: true, ..Default::default() };
    match late.client().range(old).await {
        Ok(answer) => assert_eq!(answer.count, 1, "its state is readable"),
        // Its log may end with an entry of which only the snapshot tells whether it was committed: until
        // then it does not show a state that might go back.
        Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
    }
    // The others are not held up by it.
    retry(|| client.put(put("meanwhile".to_owned(), b"v".to_vec()))).await.expect("a write");

    fs::remove_file(filler).expect("room is made");
    cluster.check_hashes().await.expect("it catches up, and all members hold the same state");
    assert_eq!(cluster.members[2].pid(), pid, "the same process");
    let all_said = errors(&cluster.members[2]).await;
    assert!(all_said.is_empty(), "{all_said:?}");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    in_a_child("a_disk_that_runs_full", "m1", 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by a_full_disk_refuses_writes_until_there_is_room"]
async fn a_disk_that_runs_full() {
    let Some(dir) = child_dir() else { return };
    let mut options = ClusterOptions::three(subject());
    options.size = 1;
    let mut cluster = Cluster::start(options, &dir).await.expect("it starts");
    let member = &mut cluster.members[0];
    let client = member.client();
    fill(&client, "before", 30).await;
    let data = member.data_dir();
    let filler = leave_free(&data, 0);
    until("the alarm", member, |client| async move { says(client, "alarm:NOSPACE").await }).await;
    let refused = client.put(put("refused".to_owned(), noise(&mut Rng::new(1)))).await.expect_err("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // What is still let through fails for want of room, or succeeds, and ends nothing.
    for index in 0..200 {
        let key = format!("before{}", index % 30);
        let _ = client.delete_range(DeleteRangeRequest { key: key.into(), ..Default::default() }).await;
    }
    let copied =
        client.collect::<_, SnapshotResponse>("/etcdserverpb.Maintenance/Snapshot", SnapshotRequest {});
    let _ = copied.await;
    let _ = client.defragment(DefragmentRequest {}).await;
    let read = RangeRequest { key: "nothing".into(), serializable: true, ..Default::default() };
    client.range(read).await.expect("reads go on");

    fs::remove_file(filler).expect("room is made");
    until("the alarm to end", member, |client| async move {
        client.status(StatusRequest {}).await.is_ok_and(|status| status.errors.is_empty())
    })
    .await;
    fill(&client, "after", 30).await;
    cluster.members[0].kill();
    cluster.restart_member(0).await.expect("it starts again");
    let all = RangeRequest {
        key: "after".into(),
        range_end: "aftes".into(),
        count_only: true,
        ..Default::default()
    };
    assert_eq!(cluster.members[0].client().range(all).await.expect("a read").count, 30);
}
