//! Logs, variables and Unix sockets of a running member.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use skiff_test_support::pb::etcdserverpb::PutRequest;
use skiff_test_support::tools::{etcdctl, oracle};
use skiff_test_support::{Member, MemberOptions, Program, Scratch};

const PATIENCE: Duration = Duration::from_secs(60);

async fn member(scratch: &Scratch, flags: &[&str]) -> Member {
    let program = Program::Skiff(env!("CARGO_BIN_EXE_skiff").into());
    Member::flagged(program, scratch.path(), flags).await.unwrap()
}

async fn put(member: &Member) {
    member
        .client()
        .put(PutRequest { key: "k".into(), value: "v".into(), ..Default::default() })
        .await
        .unwrap();
}

/// Waits for a line of a file that holds all parts.
fn wait_for_line(path: &std::path::Path, parts: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if let Some(line) = text.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "no line with {parts:?} in\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn slow_requests_are_logged_in_the_words_of_etcd() {
    let scratch = Scratch::new("slow");
    let member = member(&scratch, &["--warning-unary-request-duration=1ns"]).await;
    put(&member).await;
    let line = wait_for_line(&member.log_path(), &["request stats", "/etcdserverpb.KV/Put"]);
    for field in [
        r#""level":"warn""#,
        r#""time spent":""#,
        r#""remote":"127.0.0.1:"#,
        r#""response type":"/etcdserverpb.KV/Put""#,
        r#""response size":"#,
    ] {
        assert!(line.contains(field), "{field} is missing: {line}");
    }
}

#[tokio::test]
async fn a_full_disk_costs_log_lines_alone() {
    let scratch = Scratch::new("full");
    let member = member(&scratch, &["--log-outputs=/dev/full", "--warning-unary-request-duration=1ns"]).await;
    for _ in 0..20 {
        put(&member).await;
    }
}

#[tokio::test]
async fn logs_go_where_and_how_the_flags_say() {
    let scratch = Scratch::new("outputs");
    let file = scratch.path().join("etcd.log");
    let outputs = format!("--log-outputs=stdout,{}", file.display());
    let flags =
        ["--log-level=warn", "--log-format=console", "--warning-unary-request-duration=1ns", &outputs];
    let member = member(&scratch, &flags).await;
    put(&member).await;
    for path in [&file, &member.log_path()] {
        let line = wait_for_line(path, &["request stats"]);
        assert!(line.contains("\tWARN\t"), "{line}");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains("INFO") && !text.contains("ready to serve"), "{text}");
    }
}

#[tokio::test]
async fn a_log_file_that_has_grown_is_replaced() {
    let scratch = Scratch::new("rotation");
    let file = scratch.path().join("logs").join("etcd.log");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vec![b'x'; (1 << 20) - 10]).unwrap();
    let outputs = format!("--log-outputs={}", file.display());
    let config = r#"--log-rotation-config-json={"maxsize": 1, "maxbackups": 2, "compress": true}"#;
    let _member = member(&scratch, &["--enable-log-rotation", &outputs, config]).await;
    wait_for_line(&file, &["ready to serve client requests"]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let names: Vec<String> = std::fs::read_dir(file.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        if names.iter().any(|name| name.starts_with("etcd-20") && name.ends_with(".log.gz"))
            && names.len() == 2
        {
            break;
        }
        assert!(Instant::now() < deadline, "{names:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn etcdctl_speaks_over_unix_sockets() {
    let scratch = Scratch::new("unix");
    let (plain, secret) = (scratch.path().join("c.sock"), scratch.path().join("s.sock"));
    let mut options =
        MemberOptions::single(Program::Skiff(env!("CARGO_BIN_EXE_skiff").into()), scratch.path());
    let tcp = format!("http://127.0.0.1:{}", options.client_port);
    options.flags = vec![
        format!("--listen-client-urls={tcp},unix://{},unixs://{}", plain.display(), secret.display()),
        "--auto-tls".to_owned(),
    ];
    let mut member = Member::new(options);
    member.start().unwrap();
    member.ready().await.unwrap();
    let (newer, system) = (oracle().etcdctl, PathBuf::from("/usr/bin/etcdctl"));
    for client in std::iter::once(newer.clone()).chain(system.exists().then_some(system)) {
        for (endpoint, flags) in [
            (format!("unix://{}", plain.display()), &[][..]),
            (
                format!("unixs://{}", secret.display()),
                &["--insecure-skip-tls-verify", "--insecure-transport=false"][..],
            ),
        ] {
            // etcdctl 3.4 names the path as the server's name, which rustls takes for no name.
            if endpoint.starts_with("unixs") && client != newer {
                continue;
            }
            let run = async |command: &[&str]| {
                let all = [flags, command].concat();
                let done = etcdctl(&client, &endpoint, &all, None).await.unwrap();
                assert_eq!(done.code, 0, "{} {endpoint} {command:?}: {}", client.display(), done.stderr);
                done.stdout
            };
            run(&["put", "over", "unix"]).await;
            assert_eq!(run(&["get", "over"]).await, "over\nunix\n");
        }
    }
    member.stop().await.unwrap();
    assert!(!plain.exists() && !secret.exists(), "the sockets are left behind");
}

#[tokio::test]
async fn the_variables_of_the_process_are_told() {
    let scratch = Scratch::new("vars");
    let member = member(&scratch, &[]).await;
    let (status, vars) = member.get("/debug/vars").unwrap();
    let vars = String::from_utf8_lossy(&vars).into_owned();
    assert!(status.contains("200"), "{status}");
    for part in
        [r#""cmdline":["#, r#""file_descriptor_limit":"#, r#""memstats":{"Sys":"#, r#""raft.status":{"#]
    {
        assert!(vars.contains(part), "{part}: {vars}");
    }
    assert!(!vars.contains(r#""Sys":0}"#), "{vars}");
}
