//! The command as a user meets it: mistakes, start, stop, restart.
//!
//! Members listen on Unix sockets, so that tests never fight over ports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);

fn skiff() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
    // What the developer's shell sets is none of the tests' business.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    skiff().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Member {
    child: Child,
    lines: mpsc::Receiver<String>,
    socket: PathBuf,
}

impl Member {
    fn start(dir: &Path, more: &[&str]) -> Member {
        let socket = dir.join("client.sock");
        let mut child = skiff()
            .arg("etcd")
            .arg(format!("--data-dir={}", dir.join("data").display()))
            .arg(format!("--listen-client-urls=unix://{}", socket.display()))
            .arg("--advertise-client-urls=http://localhost:2379")
            .arg(format!("--listen-peer-urls=unix://{}", dir.join("peer.sock").display()))
            .args(more)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Member { child, lines, socket }
    }

    /// Waits for a line of the log; answers all up to it.
    fn wait_for(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => seen = seen + &line + "\n",
                Err(_) => panic!("no line with {part:?}; seen:\n{seen}"),
            }
            if seen.lines().next_back().is_some_and(|line| line.contains(part)) {
                return seen;
            }
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the member did not end");
    }

    fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.exit_code(), Some(0));
    }

    /// Waits for its end, which must be a failure; answers what it said.
    fn fails(mut self) -> String {
        assert_ne!(self.exit_code(), Some(0));
        self.lines.iter().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_version_begins_with_that_of_etcd() {
    for arguments in [["etcd", "--version"].as_slice(), &["--version"], &["version"]] {
        let output = run(arguments);
        let shown = text(&output.stdout);
        assert!(output.status.success());
        assert!(shown.lines().next().unwrap().starts_with("etcd Version: 3."), "{shown}");
        assert!(shown.contains("Skiff Version: "), "{shown}");
    }
}

#[test]
fn help_teaches() {
    let shown = text(&run(&["--help"]).stdout);
    assert!(shown.contains("skiff etcd"), "{shown}");
    let shown = text(&run(&["etcd", "--help"]).stdout);
    assert!(shown.contains("Security:") && shown.contains("--listen-client-urls"), "{shown}");
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("Usage"));
}

#[test]
fn a_link_named_etcd_is_skiff_etcd() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("etcd");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_skiff"), &link).unwrap();
    let output = Command::new(&link).arg("--listen-peer-url=x").output().unwrap();
    assert!(text(&output.stderr).contains("--listen-peer-urls"), "{}", text(&output.stderr));
    let output = Command::new(&link).arg("--version").output().unwrap();
    assert!(text(&output.stdout).starts_with("etcd Version: "));
}

#[test]
fn mistakes_are_explained_and_have_the_exit_codes_of_etcd() {
    let table: &[(&[&str], i32, &str)] = &[
        (&["etdc"], 2, "did you mean `skiff etcd`"),
        (&["etcd", "--nmae", "x"], 2, "did you mean --name?"),
        (&["etcd", "--heartbeat-interval", "soon"], 2, "not a whole number"),
        (&["etcd", "start"], 2, "is not a flag"),
        (&["etcd", "--config-file", "/does/not/exist"], 2, "/does/not/exist"),
        (&["etcd", "--listen-client-urls", "http://127.0.0.1:0"], 1, "--advertise-client-urls is required"),
        (&["etcd", "--heartbeat-interval", "900"], 1, "at least as 5 times"),
        (&["etcd", "--data-dir", "/proc/none", "--listen-peer-urls", "http://127.0.0.1:0"], 1, "/proc/none"),
    ];
    for (arguments, code, want) in table {
        let output = run(arguments);
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {shown}");
        assert!(shown.contains(want), "{arguments:?}: {shown}");
        assert!(!shown.contains("panicked"), "{shown}");
    }
}

#[test]
fn a_used_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let output = run(&[
        "etcd",
        "--data-dir",
        data.to_str().unwrap(),
        "--listen-client-urls",
        &url,
        "--advertise-client-urls",
        &url,
        "--listen-peer-urls",
        "http://127.0.0.1:0",
    ]);
    let shown = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains(&url) && shown.contains("already in use"), "{shown}");
    assert!(!data.join("member").exists(), "nothing may be written before the ports are open");
}

#[test]
fn a_member_starts_answers_stops_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut member = Member::start(dir.path(), &[]);
    member.wait_for("ready to serve client requests");
    assert!(member.get("/health").contains(r#"{"health":"true","reason":""}"#));
    assert!(member.get("/version").contains(r#""etcdserver":"3."#));
    assert!(member.get("/metrics").contains("etcd_server_has_leader 1"));

    // Its directory is taken.
    let other = tempfile::tempdir().unwrap();
    let output = skiff()
        .arg("etcd")
        .arg(format!("--data-dir={}", dir.path().join("data").display()))
        .arg(format!("--listen-client-urls=unix://{}/c", other.path().display()))
        .arg("--advertise-client-urls=http://localhost:2379")
        .arg(format!("--listen-peer-urls=unix://{}/p", other.path().display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("in use by another process"), "{}", text(&output.stderr));

    member.signal(Signal::TERM);
    assert_eq!(member.exit_code(), Some(0));

    // SIGKILL, twice: the sockets it leaves behind are in nobody's way.
    for _ in 0..2 {
        let mut member = Member::start(dir.path(), &[]);
        member.wait_for("ready to serve client requests");
        member.signal(Signal::KILL);
        assert_eq!(member.exit_code(), None);
    }
    let mut member = Member::start(dir.path(), &["--log-format=console"]);
    member.wait_for("ready to serve client requests");
    assert!(member.get("/health").contains("true"));
    member.signal(Signal::INT);
    assert_eq!(member.exit_code(), Some(0));
}

#[test]
fn what_has_no_effect_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let member = Member::start(dir.path(), &["--backend-batch-limit=5", "--logger=zap"]);
    let seen = member.wait_for("ready to serve client requests");
    assert!(seen.contains("--backend-batch-limit has no effect"), "{seen}");
}

#[test]
fn a_log_of_its_own_directory_is_found_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let (data, log, other) = (dir.path().join("data"), dir.path().join("log"), dir.path().join("other"));
    let flag = |log: &Path| format!("--wal-dir={}", log.display());
    let member = Member::start(dir.path(), &[&flag(&log)]);
    member.wait_for("ready to serve client requests");
    assert!(std::fs::read_dir(&log).unwrap().count() > 1 && !data.join("member/wal").exists());
    // Nobody else gets at it meanwhile.
    let second = dir.path().join("second");
    std::fs::create_dir(&second).unwrap();
    let refused = Member::start(&second, &[&flag(&log)]).fails();
    assert!(
        refused.contains("the log directory") && refused.contains("in use by another process"),
        "{refused}"
    );
    member.stop();

    let refused = Member::start(dir.path(), &[]).fails();
    assert!(refused.contains(&format!("start it with --wal-dir={}", log.display())), "{refused}");
    let refused = Member::start(dir.path(), &[&flag(&other)]).fails();
    assert!(refused.contains("move all files of"), "{refused}");
    let refused = Member::start(&second, &[&flag(&log)]).fails();
    assert!(refused.contains("holds a log already"), "{refused}");

    // Moved as it says, it starts; and so does one that is moved back into the data directory.
    std::fs::remove_dir_all(&other).unwrap();
    std::fs::rename(&log, &other).unwrap();
    let member = Member::start(dir.path(), &[&flag(&other)]);
    member.wait_for("ready to serve client requests");
    member.stop();
    std::fs::rename(&other, data.join("member/wal")).unwrap();
    let member = Member::start(dir.path(), &[]);
    member.wait_for("ready to serve client requests");
    member.stop();
}
