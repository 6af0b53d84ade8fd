//! The real etcdctl against this project's server: what it prints must be what it prints with a real etcd.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use skiff_test_support::tools::{Finished, etcdctl, oracle};
use skiff_test_support::{Cluster, ClusterOptions, Member, Program, Scratch};

fn subject() -> Program {
    Program::subject(env!("CARGO_BIN_EXE_skiff"))
}

/// The etcdctl of the oracle and, where it is installed, that of the system.
fn clients() -> Vec<PathBuf> {
    let system = PathBuf::from("/usr/bin/etcdctl");
    std::iter::once(oracle().etcdctl).chain(system.exists().then_some(system)).collect()
}

struct Shell {
    program: PathBuf,
    endpoints: String,
}

impl Shell {
    async fn run(&self, line: &str) -> Finished {
        self.feed(line, None).await
    }

    async fn feed(&self, line: &str, input: Option<&str>) -> Finished {
        let args: Vec<&str> = line.split_whitespace().collect();
        etcdctl(&self.program, &self.endpoints, &args, input).await.expect("etcdctl runs")
    }

    async fn ok(&self, line: &str) -> String {
        let done = self.run(line).await;
        assert!(done.code == 0, "etcdctl {line}: {}\n{}\n{}", done.code, done.stdout, done.stderr);
        done.stdout
    }
}

/// Commands whose output holds nothing of its own server; run in order.
const SAME_OUTPUT: &[(&str, Option<&str>)] = &[
    ("put foo bar", None),
    ("put foo1 bar1 --prev-kv", None),
    ("put foo2 bar2", None),
    ("put foo baz --prev-kv", None),
    ("get foo", None),
    ("get foo --rev=2", None),
    ("get --prefix foo", None),
    ("get --prefix foo --limit=1", None),
    ("get --prefix foo --keys-only", None),
    ("get --prefix foo --print-value-only", None),
    ("get --prefix foo --count-only -w fields", None),
    ("get foo foo2", None),
    ("get --from-key foo1", None),
    ("get --prefix foo --sort-by=MODIFY --order=DESCEND", None),
    ("get missing", None),
    ("get foo --rev=99", None),
    ("put --ignore-value missing", None),
    ("put k v --lease=77", None),
    ("txn", Some("mod(\"foo\") > \"0\"\n\nput created yes\nget foo\n\nput created no\n\n")),
    ("txn", Some("value(\"foo\") = \"nope\"\n\nput created yes\n\ndel foo2\nget created\n\n")),
    ("del foo1 --prev-kv", None),
    ("del --prefix nothing", None),
    ("lease list", None),
    ("compaction 3", None),
    ("compaction 3", None),
    ("compaction 99", None),
    ("get foo --rev=2", None),
    ("alarm list", None),
    ("lease timetolive 1234", None),
    ("lease revoke 1234", None),
    ("lease keep-alive --once 1234", None),
    ("del --prefix foo", None),
    ("get --prefix \"\"", None),
];

/// Makes the lines of both servers comparable: ids, addresses, terms.
fn plain(done: &Finished) -> String {
    let text = format!("{}\n{}\n{}", done.code, done.stdout, done.stderr);
    let lines = text.lines().map(|line| {
        let noisy = ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""];
        if noisy.iter().any(|name| line.starts_with(name)) {
            return line.split(':').next().unwrap_or_default().to_owned();
        }
        // A line of the client's own log carries a time and the address.
        if line.starts_with("{\"level\":") {
            return "log".to_owned();
        }
        line.to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_commands_print_the_same() {
    for program in clients() {
        let scratch = Scratch::new("etcdctl");
        let etcd =
            Member::single(Program::oracle(), &scratch.path().join("etcd")).await.expect("etcd starts");
        let mine = Member::single(subject(), &scratch.path().join("subject")).await.expect("it starts");
        let left = Shell { program: program.clone(), endpoints: etcd.address() };
        let right = Shell { program: program.clone(), endpoints: mine.address() };
        for (line, input) in SAME_OUTPUT {
            let (expected, found) = tokio::join!(left.feed(line, *input), right.feed(line, *input));
            assert_eq!(plain(&found), plain(&expected), "etcdctl {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_watches() {
    for program in clients() {
        let scratch = Scratch::new("etcdctl-lease");
        let member = Member::single(subject(), scratch.path()).await.expect("it starts");
        let shell = Shell { program, endpoints: member.address() };
        let granted = shell.ok("lease grant 300").await;
        let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
        assert_eq!(granted, format!("lease {id} granted with TTL(300s)\n"));
        shell.ok(&format!("put k v --lease={id}")).await;
        let left = shell.ok(&format!("lease timetolive {id} --keys")).await;
        assert!(left.starts_with(&format!("lease {id} granted with TTL(300s), remaining(")), "{left}");
        assert!(left.ends_with("attached keys([k])\n"), "{left}");
        let renewed = shell.ok(&format!("lease keep-alive --once {id}")).await;
        assert_eq!(renewed, format!("lease {id} keepalived with TTL(300)\n"));
        assert_eq!(shell.ok("lease list").await, format!("found 1 leases\n{id}\n"));
        assert_eq!(shell.ok(&format!("lease revoke {id}")).await, format!("lease {id} revoked\n"));
        assert_eq!(shell.ok("get k").await, "");
        shell.ok("put k v2").await;

        let mut watch = std::process::Command::new(&shell.program)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &shell.endpoints, "watch", "k", "--rev=2", "--prev-kv"])
            .stdout(std::fs::File::create(scratch.path().join("watched")).expect("a file"))
            .spawn()
            .expect("etcdctl starts");
        let wanted = "PUT\nk\nv\nDELETE\nk\nv\nk\n\nPUT\nk\nv2\n";
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = std::fs::read_to_string(scratch.path().join("watched")).unwrap_or_default();
            if seen == wanted {
                break;
            }
            assert!(Instant::now() < deadline, "the watch printed {seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        watch.kill().expect("the watch runs");
        watch.wait().expect("the watch ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_commands() {
    for program in clients() {
        let scratch = Scratch::new("etcdctl-maintenance");
        let member = Member::single(subject(), &scratch.path().join("m")).await.expect("it starts");
        let shell = Shell { program, endpoints: member.address() };
        for index in 0..50 {
            shell.ok(&format!("put k{index} v{index}")).await;
        }
        let status = shell.ok("endpoint status -w table").await;
        assert!(status.contains(&member.address()) && status.contains("true"), "{status}");
        assert!(shell.ok("endpoint health -w table").await.contains("true"));
        assert!(shell.ok("endpoint hashkv -w table").await.contains(&member.address()));
        let members = shell.ok("member list -w table").await;
        assert!(members.contains("started") && members.contains("m1"), "{members}");
        assert_eq!(shell.ok("alarm list").await, "");
        assert!(shell.ok("defrag").await.starts_with("Finished defragmenting etcd member["));
        let file = scratch.path().join("snapshot.db");
        shell.ok(&format!("snapshot save {}", file.display())).await;
        let length = std::fs::metadata(&file).expect("the snapshot is there").len();
        assert_eq!(length % 512, 32, "whole blocks and their checksum");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_and_elect() {
    for program in clients() {
        let scratch = Scratch::new("etcdctl-lock");
        let member = Member::single(subject(), scratch.path()).await.expect("it starts");
        let shell = Shell { program, endpoints: member.address() };
        // The command runs while the lock is held; then the lock is given back.
        let locked = shell.ok("lock mutex echo held").await;
        assert!(locked.contains("held"), "{locked}");
        assert_eq!(shell.ok("get --prefix mutex").await, "");
        let mut leader = std::process::Command::new(&shell.program)
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &shell.endpoints, "elect", "office", "alice"])
            .stdout(std::fs::File::create(scratch.path().join("elected")).expect("a file"))
            .spawn()
            .expect("etcdctl starts");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !shell.ok("get --prefix office --print-value-only").await.contains("alice") {
            assert!(Instant::now() < deadline, "nobody is elected");
        }
        skiff_test_support::member::signal(leader.id(), "INT");
        leader.wait().expect("it resigns");
        assert_eq!(shell.ok("get --prefix office").await, "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members() {
    let scratch = Scratch::new("etcdctl-three");
    let cluster =
        Cluster::start(ClusterOptions::three(subject()), scratch.path()).await.expect("the cluster starts");
    for program in clients() {
        let shell = Shell { program, endpoints: cluster.endpoints() };
        let status = shell.ok("endpoint status -w table").await;
        assert!(cluster.members.iter().all(|member| status.contains(&member.address())), "{status}");
        let health = shell.run("endpoint health --cluster").await;
        // Versions of etcdctl differ in where they print this.
        let text = format!("{}{}", health.stdout, health.stderr);
        assert_eq!((health.code, text.matches("is healthy").count()), (0, 3), "{text}");
        let leader = cluster.leader().await.expect("a leader");
        let target = (leader + 1) % 3;
        let listed = shell.ok("member list").await;
        let name = format!(", {}, ", cluster.members[target].name());
        let line = listed.lines().find(|line| line.contains(&name)).expect("it is listed");
        let id = line.split(',').next().expect("an id").to_owned();
        let moved = shell.ok(&format!("move-leader {id}")).await;
        assert!(moved.starts_with("Leadership transferred from"), "{moved}");
        assert_eq!(cluster.leader().await.expect("a leader"), target);
        let hashes = shell.ok("endpoint hashkv").await;
        assert_eq!(hashes.lines().count(), 3, "{hashes}");
    }
}

/// The lightest of etcdctl's own load tests; what it measures is not judged, that it gets through is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_datascale() {
    let scratch = Scratch::new("etcdctl-check");
    let member = Member::single(subject(), scratch.path()).await.expect("it starts");
    let shell = Shell { program: oracle().etcdctl, endpoints: member.address() };
    let report = shell.ok("check datascale --load=s --auto-compact --auto-defrag").await;
    assert!(report.contains("PASS"), "{report}");
}
