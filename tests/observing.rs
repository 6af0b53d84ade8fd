//! Logs, profiles and Unix sockets of a running member.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use skiff_test_support::pb::etcdserverpb::PutRequest;
use skiff_test_support::tools::{etcdctl, oracle};
use skiff_test_support::{Member, MemberOptions, Program, Scratch};

const PATIENCE: Duration = Duration::from_secs(60);

async fn member(scratch: &Scratch, flags: &[&str]) -> Member {
    let mut options =
        MemberOptions::single(Program::Skiff(env!("CARGO_BIN_EXE_skiff").into()), scratch.path());
    options.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mut member = Member::new(options);
    member.start().unwrap();
    member.ready().await.unwrap();
    member
}

/// The status line and the body of an answer.
fn get(member: &Member, path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(member.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let end = reply.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&reply[..end]).lines().next().unwrap().to_owned();
    (status, reply[end + 4..].to_vec())
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_are_read_by_go() {
    let scratch = Scratch::new("profile");
    let member = member(&scratch, &["--enable-pprof"]).await;
    let (status, index) = get(&member, "/debug/pprof/");
    assert!(
        status.contains("200") && String::from_utf8_lossy(&index).contains("profile?seconds"),
        "{status}"
    );
    let (status, command) = get(&member, "/debug/pprof/cmdline");
    assert!(status.contains("200") && String::from_utf8_lossy(&command).contains("--enable-pprof"));
    let (status, why) = get(&member, "/debug/pprof/heap");
    assert!(status.contains("501") && String::from_utf8_lossy(&why).contains("heap"), "{status}");
    assert!(get(&member, "/debug/pprof/profile?seconds=0").0.contains("400"));

    // Work to be seen, and a second profile that has to be refused meanwhile.
    let client = member.client();
    let load = tokio::spawn(async move {
        loop {
            let request = PutRequest { key: "k".into(), value: vec![7; 100].into(), ..Default::default() };
            client.put(request).await.unwrap();
        }
    });
    let member = std::sync::Arc::new(member);
    let asked = member.clone();
    let profile = tokio::task::spawn_blocking(move || get(&asked, "/debug/pprof/profile?seconds=3"));
    let deadline = Instant::now() + PATIENCE;
    while !profile.is_finished() {
        let asked = member.clone();
        let (status, text) =
            tokio::task::spawn_blocking(move || get(&asked, "/debug/pprof/profile?seconds=1")).await.unwrap();
        if status.contains("500") {
            assert!(String::from_utf8_lossy(&text).contains("already in use"));
            break;
        }
        assert!(Instant::now() < deadline);
    }
    let (status, bytes) = profile.await.unwrap();
    // Both may have asked for the first turn.
    let mut bytes = if status.contains("200") { bytes } else { profile_of_a_second(&member) };
    assert_eq!(bytes[..2], [0x1f, 0x8b], "gzip");
    put(&member).await;

    let path = scratch.path().join("profile.pb.gz");
    loop {
        std::fs::write(&path, bytes).unwrap();
        let Some(text) = top(&path) else { break };
        assert!(text.contains("Type: cpu") && text.contains("Duration: "), "{text}");
        if ["rocksdb", "skiff", "tokio"].iter().any(|name| text.contains(name)) {
            break;
        }
        // A busy machine may have given it no time to be seen in.
        assert!(Instant::now() < deadline, "{text}");
        bytes = profile_of_a_second(&member);
    }
    load.abort();
}

fn profile_of_a_second(member: &Member) -> Vec<u8> {
    get(member, "/debug/pprof/profile?seconds=1").1
}

/// What Go's own tool reads in a profile; `None` without it.
fn top(path: &std::path::Path) -> Option<String> {
    match Command::new("go").args(["tool", "pprof", "-top", "-nodecount=300"]).arg(path).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => {
            eprintln!("go is not here to read the profile: {error}");
            None
        }
    }
}

#[tokio::test]
async fn profiles_are_served_only_when_asked_for() {
    let scratch = Scratch::new("no-profile");
    let member = member(&scratch, &[]).await;
    for path in ["/debug/pprof/", "/debug/pprof/profile?seconds=1", "/debug/pprof/heap"] {
        assert!(get(&member, path).0.contains("404"), "{path}");
    }
    let (status, vars) = get(&member, "/debug/vars");
    let vars = String::from_utf8_lossy(&vars).into_owned();
    assert!(status.contains("200"), "{status}");
    for part in
        [r#""cmdline":["#, r#""file_descriptor_limit":"#, r#""memstats":{"Sys":"#, r#""raft.status":{"#]
    {
        assert!(vars.contains(part), "{part}: {vars}");
    }
    assert!(!vars.contains(r#""Sys":0}"#), "{vars}");
}
