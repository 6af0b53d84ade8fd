//! Programs on real client libraries, each with what such programs do: keys, transactions, watches that
//! resume, leases, locks, elections. The programs are in `tests/clients`; `prepare.sh` there fetches the
//! libraries, once, into the build folder.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use skiff_test_support::{Member, Program, Scratch};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

/// How long a program may take, the preparation left out.
const PATIENCE: Duration = Duration::from_secs(300);

/// What `prepare.sh` ends with when a tool is missing that a machine may lack.
const LACKING: i32 = 3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("clients")
}

/// The command of a client, as `prepare.sh` tells it; `None` where a tool is missing.
async fn prepare(client: &'static str) -> Option<Vec<String>> {
    let script = folder().join("prepare.sh");
    let mut command = Command::new("bash");
    command.arg(&script).arg(client).stderr(Stdio::inherit());
    let done = spawn_blocking(move || command.output()).await.expect("it runs").expect("bash runs");
    if done.status.code() == Some(LACKING) {
        return None;
    }
    assert!(done.status.success(), "{} cannot prepare the client {client}", script.display());
    let words: Vec<_> = String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect();
    assert!(!words.is_empty(), "{} told no command for {client}", script.display());
    Some(words)
}

/// A program that ends with its test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The lines of its standard output.
    fn lines(&mut self) -> mpsc::Receiver<String> {
        let (sender, lines) = mpsc::channel(16);
        let output = BufReader::new(self.0.stdout.take().expect("its standard output"));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        lines
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program against a member. When it asks for it, the member is killed and started again.
async fn serve(program: &mut Running, member: &mut Member) {
    let mut input = program.0.stdin.take().expect("its standard input");
    let mut lines = program.lines();
    let mut restarts = 0;
    while let Some(line) = lines.recv().await {
        println!("{line}");
        if line == "restart" {
            restarts += 1;
            member.kill();
            member.start().expect("the member starts again");
            member.ready().await.expect("the member answers again");
            input.write_all(b"done\n").expect("the program waits for it");
        }
    }
    let status = program.0.wait().expect("it ends");
    assert!(status.success(), "the program failed: {status}");
    assert_eq!(restarts, 1, "every program has its watch broken once");
}

/// False where a tool is missing.
async fn passes(client: &'static str) -> bool {
    let Some(words) = prepare(client).await else { return false };
    let scratch = Scratch::new(&format!("client-{client}"));
    let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
    let mut member = Member::single(subject, scratch.path()).await.expect("the member starts");
    let mut command = Command::new(&words[0]);
    // Those that need more than the endpoint have it behind the program.
    let (script, rest) = words[1..].split_at(words.len().min(2) - 1);
    command.args(script).arg(member.address()).args(rest);
    let mut program = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let served = serve(&mut program, &mut member);
    tokio::time::timeout(PATIENCE, served).await.expect("the program hangs");
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python() {
    assert!(passes("python").await, "python3 with venv is needed: scripts/deps.sh test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node() {
    assert!(passes("node").await, "node and npm are needed: scripts/deps.sh test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust() {
    assert!(passes("rust").await, "protoc is needed: scripts/deps.sh test");
}

/// Debian's own Go is too old for etcd's client, so this one may be missing; see README.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go() {
    if !passes("go").await {
        eprintln!("SKIPPED: etcd's own Go client was NOT tried: there is no go here that can build it");
    }
}

/// A real application: Patroni keeps in etcd which PostgreSQL leads, through the JSON gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patroni() {
    let words = prepare("patroni").await.expect("python3 with venv is needed: scripts/deps.sh test");
    let scratch = Scratch::new("client-patroni");
    let subject = Program::subject(env!("CARGO_BIN_EXE_skiff"));
    let member = Member::single(subject, &scratch.path().join("m")).await.expect("the member starts");
    let work = scratch.path().join("work");
    std::fs::create_dir(&work).expect("a folder");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(member.address()).arg(&work).stdin(Stdio::null());
    let mut script = Running::start(&mut command);
    // It has a limit for every step, and ends what it started: it is waited for.
    let status = spawn_blocking(move || script.0.wait()).await.expect("it runs").expect("it ends");
    assert!(status.success(), "PostgreSQL under Patroni does not fail over");
}
