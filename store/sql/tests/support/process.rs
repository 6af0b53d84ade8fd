//! Starting, waiting for, and stopping a server's process.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to start or to stop.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGKILL: no last words, no flush.
    Kill,
    /// As its administrator would.
    Orderly,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a port");
    listener.local_addr().expect("its address").port()
}

/// The file with the process id of a folder's server, while it runs.
const PID: &str = "test.pid";

/// A server's folder. When the test process ends, however it ends (a server in
/// a static is never dropped), a watcher kills the server and removes it.
pub struct Scratch {
    folder: TempDir,
    watcher: Child,
}

impl Scratch {
    /// A new folder below the system's one for temporary files.
    pub fn new(prefix: &str) -> Self {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir().expect("a scratch folder");
        // Reads until our end of the pipe is closed, which the system does.
        let script = format!(
            "cat >/dev/null; [ -f \"$1/{PID}\" ] && kill -KILL \"$(cat \"$1/{PID}\")\" && sleep 1; rm -rf \"$1\""
        );
        let watcher = Command::new("sh")
            .args(["-c", &script, "watcher"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the watcher");
        Self { folder, watcher }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // The watcher ends in any case; its outcome is nothing to a test.
        let _ = self.watcher.wait();
    }
}

/// A running server.
pub struct Process {
    child: Child,
    pid_file: PathBuf,
    orderly: Signal,
}

impl Process {
    /// Starts `command` with its output in `folder`'s `log`, and waits until `ready`.
    /// `orderly` is the signal that stops it as its administrator would.
    pub fn start(mut command: Command, folder: &Path, orderly: Signal, ready: impl Fn() -> bool) -> Self {
        let log = folder.join("log");
        let out = File::options().create(true).append(true).open(&log).expect("open the log");
        let err = out.try_clone().expect("share the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let pid_file = folder.join(PID);
        std::fs::write(&pid_file, child.id().to_string()).expect("write the process id");
        let mut process = Self { child, pid_file, orderly };
        let begin = Instant::now();
        while !ready() {
            let gone = process.child.try_wait().expect("look at the server");
            assert!(
                gone.is_none() && begin.elapsed() < LIMIT,
                "{command:?} is not ready ({gone:?}): {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        process
    }

    /// Stops it and waits until it is gone.
    pub fn stop(&mut self, how: Stop) {
        let signal = if how == Stop::Kill { Signal::KILL } else { self.orderly };
        self.signal(signal);
        let begin = Instant::now();
        while self.child.try_wait().expect("look at the server").is_none() {
            if begin.elapsed() > LIMIT {
                self.signal(Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Missing where it was stopped before.
        let _ = std::fs::remove_file(&self.pid_file);
    }

    /// Sends `signal`, unless it is gone already.
    pub fn signal(&mut self, signal: Signal) {
        if self.child.try_wait().expect("look at the server").is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
            kill_process(pid, signal).expect("signal the server");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(Stop::Kill);
    }
}

/// Whether we are root, as whom Postgres does not run.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `program`, as `user` when we are root.
pub fn command_as(user: &str, program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
    command
}

/// Gives `path` to `user` when we are root.
pub fn give(path: &Path, user: &str) {
    if is_root() {
        let done = Command::new("chown").arg("-R").arg(format!("{user}:{user}")).arg(path).status();
        assert!(done.expect("run chown").success(), "{} could not be given to {user}", path.display());
    }
}

/// Runs `command` to its end, which must be good.
pub fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Whether something listens on `port`.
pub fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}
