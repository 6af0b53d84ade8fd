//! The real etcdctl against the API.

use std::process::{Output, Stdio};

use crate::common::*;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Runs etcdctl; it comes with Debian's etcd-client (`make test` installs it).
fn etcdctl(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", server.address)).args(args);
    command.kill_on_drop(true);
    command
}

async fn run(server: &Server, args: &[&str]) -> Output {
    within(etcdctl(server, args).output()).await.expect("start etcdctl: install etcd-client")
}

async fn ok(server: &Server, args: &[&str]) -> String {
    let output = run(server, args).await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn spawn(
    server: &Server,
    args: &[&str],
) -> (Child, tokio::io::Lines<BufReader<tokio::process::ChildStdout>>) {
    let mut child = etcdctl(server, args).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys() {
    let server = Server::start().await;
    assert_eq!(ok(&server, &["put", "a/1", "one"]).await, "OK\n");
    let revision = server.revision().await.to_string();
    ok(&server, &["put", "a/2", "two"]).await;
    ok(&server, &["put", "a/1", "uno"]).await;
    assert_eq!(ok(&server, &["get", "--prefix", "a/"]).await, "a/1\nuno\na/2\ntwo\n");
    assert_eq!(ok(&server, &["get", "--rev", &revision, "a/1"]).await, "a/1\none\n");
    let (_child, mut lines) = spawn(&server, &["watch", "--rev", &revision, "--prev-kv", "a/1"]);
    let mut seen = Vec::new();
    while seen.len() < 7 {
        seen.push(within(lines.next_line()).await.unwrap().unwrap());
    }
    assert_eq!(seen, ["PUT", "a/1", "one", "PUT", "a/1", "one", "a/1"].map(String::from));
    assert_eq!(ok(&server, &["del", "--prefix", "a/"]).await, "2\n");
    let last = server.revision().await.to_string();
    let compacted = ok(&server, &["compaction", &last]).await;
    assert_eq!(compacted, format!("compacted revision {last}\n"));
    let output = run(&server, &["get", "--rev", &revision, "a/1"]).await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("etcdserver: mvcc: required revision has been compacted"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_locks_and_elections() {
    let server = Server::start().await;
    let granted = ok(&server, &["lease", "grant", "60"]).await;
    let id = granted.split(' ').nth(1).unwrap();
    assert!(granted.ends_with("granted with TTL(60s)\n"), "{granted}");
    ok(&server, &["put", "--lease", id, "leased", "x"]).await;
    assert!(ok(&server, &["lease", "keep-alive", "--once", id]).await.contains("keepalived with TTL(60)"));
    assert!(ok(&server, &["lease", "timetolive", "--keys", id]).await.contains("attached keys([leased])"));
    assert!(ok(&server, &["lease", "list"]).await.contains(id));
    ok(&server, &["lease", "revoke", id]).await;
    assert_eq!(ok(&server, &["get", "leased"]).await, "");
    assert!(ok(&server, &["lease", "timetolive", id]).await.contains("already expired"));
    assert_eq!(ok(&server, &["lock", "mutex", "echo", "held"]).await, "held\n");
    let (_child, mut lines) = spawn(&server, &["elect", "vote", "me"]);
    assert!(within(lines.next_line()).await.unwrap().unwrap().starts_with("vote/"));
    assert_eq!(within(lines.next_line()).await.unwrap().unwrap(), "me");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance() {
    let server = Server::start().await;
    ok(&server, &["put", "a", "1"]).await;
    assert!(ok(&server, &["endpoint", "status", "-w", "table"]).await.contains("true"));
    let healthy = run(&server, &["endpoint", "health"]).await;
    assert!(healthy.status.success(), "{healthy:?}");
    assert!(ok(&server, &["endpoint", "hashkv", "-w", "table"]).await.contains("HASH"));
    assert!(ok(&server, &["member", "list"]).await.contains("started"));
    assert_eq!(ok(&server, &["alarm", "list"]).await, "");
    ok(&server, &["defrag"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot.db");
    ok(&server, &["snapshot", "save", file.to_str().unwrap()]).await;
    assert_eq!(std::fs::metadata(&file).unwrap().len() % 512, 32);
    let mut txn = etcdctl(&server, &["txn"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let input = b"value(\"a\") = \"1\"\n\nput a 2\n\nput a 3\n\n";
    tokio::io::AsyncWriteExt::write_all(&mut txn.stdin.take().unwrap(), input).await.unwrap();
    let output = within(txn.wait_with_output()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "SUCCESS\n\nOK\n");
    assert_eq!(ok(&server, &["get", "--print-value-only", "a"]).await, "2\n");
}
