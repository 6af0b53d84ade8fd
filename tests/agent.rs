//! `skiff agent` against a `skiff server`: joins, is refused, starts again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use skiff_test_support::Scratch;
use skiff_test_support::ports::free_port;

const PATIENCE: Duration = Duration::from_secs(120);

/// A process of ours and its log.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: String,
}

impl Process {
    fn start(arguments: &[String]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
        // What the developer's shell sets is none of the tests' business.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SKIFF_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Process { child, lines, seen: String::new() }
    }

    fn wait_for(&mut self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.lines().next_back().is_some_and(|line| line.contains(part)) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen = std::mem::take(&mut self.seen) + &line + "\n",
                Err(_) => panic!("no line with {part:?}; seen:\n{}", self.seen),
            }
        }
    }

    /// Waits for its end; true if it ended well, and the rest of its log.
    fn end(&mut self) -> (bool, String) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen = std::mem::take(&mut self.seen) + &line + "\n";
        }
        assert!(Instant::now() < deadline, "it does not end; seen:\n{}", self.seen);
        (self.child.wait().unwrap().success(), self.seen.clone())
    }

    fn terminate(&mut self) -> (bool, String) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.end()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server on SQLite, and what its agents need to know of it.
struct Server {
    process: Process,
    arguments: Vec<String>,
    port: u16,
    token: PathBuf,
}

impl Server {
    fn start(dir: &Path) -> Server {
        let port = free_port();
        let data = dir.join("server");
        let mut arguments = vec!["server".to_owned(), format!("--data-dir={}", data.display())];
        arguments.push(format!("--https-listen-port={port}"));
        arguments.extend(
            ["--node-ip=127.0.0.1", "--node-name=s1", "--datastore-endpoint=sqlite"].map(str::to_owned),
        );
        let token = data.join("server/token");
        let server = Server { process: Process::start(&arguments), arguments, port, token };
        let deadline = Instant::now() + PATIENCE;
        while !server.token.exists() {
            assert!(Instant::now() < deadline, "the server makes no token");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn agent(&self, dir: &Path, more: &[&str]) -> Vec<String> {
        let mut arguments = vec!["agent".to_owned(), format!("--server=https://127.0.0.1:{}", self.port)];
        arguments.push(format!("--data-dir={}", dir.display()));
        arguments.push(format!("--lb-server-port={}", free_port()));
        arguments.push("--node-ip=127.0.0.1".to_owned());
        arguments.extend(more.iter().map(|text| (*text).to_owned()));
        arguments
    }
}

#[test]
fn an_agent_joins_and_starts_again_while_the_server_is_down() {
    let scratch = Scratch::new("agent");
    let mut server = Server::start(scratch.path());
    let token = format!("--token-file={}", server.token.display());
    let dir = scratch.path().join("a1");
    let arguments = server.agent(&dir, &[&token, "--node-name=a1"]);
    let mut agent = Process::start(&arguments);
    agent.wait_for("the node has joined");
    for file in
        ["agent/client-kubelet.crt", "agent/serving-kubelet.key", "agent/client-ca.crt", "node/password"]
    {
        assert!(dir.join(file).exists(), "{file}");
    }
    let (well, log) = agent.terminate();
    assert!(well, "{log}");
    let secret = std::fs::read_to_string(&server.token).unwrap();
    let secret = secret.trim().rsplit(':').next().unwrap();
    assert!(!log.contains(secret), "the token is in the log");

    assert!(server.process.terminate().0);
    let mut agent = Process::start(&arguments);
    agent.wait_for("the node has joined");
    server.process = Process::start(&server.arguments);
    assert!(agent.terminate().0);
}

#[test]
fn wrong_tokens_and_names_that_are_taken_end_the_agent_with_what_to_do() {
    let scratch = Scratch::new("agent");
    let server = Server::start(scratch.path());
    let token = format!("--token-file={}", server.token.display());
    let mut first = Process::start(&server.agent(&scratch.path().join("a1"), &[&token, "--node-name=a1"]));
    first.wait_for("the node has joined");
    let refused = |name: &str, more: &[&str]| {
        let (well, log) = Process::start(&server.agent(&scratch.path().join(name), more)).end();
        assert!(!well, "{log}");
        log
    };
    let log = refused("a2", &[&token, "--node-name=a1"]);
    assert!(log.contains("--with-node-id"), "{log}");
    let log = refused("a3", &["--token=wrong", "--node-name=a3"]);
    assert!(log.contains("does not know the token"), "{log}");
    let other = format!("--token=K10{}::node:x", "0".repeat(64));
    let log = refused("a4", &[&other, "--node-name=a4"]);
    assert!(log.contains("other authorities"), "{log}");
    // Another name of the same host has its own place.
    let with_id = server.agent(&scratch.path().join("a5"), &[&token, "--node-name=a1", "--with-node-id"]);
    Process::start(&with_id).wait_for("the node has joined");
}
