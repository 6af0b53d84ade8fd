//! Hosts as network, mount and UTS namespaces, joined by a bridge in one of its own,
//! so that nothing of the machine's own network is touched and tests can run side by
//! side.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match holds() {
            Ok(()) => return,
            Err(last) if Instant::now() >= deadline => panic!("{what}: {last}"),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// A process that keeps namespaces alive.
struct Anchor(Child);

impl Anchor {
    /// Makes new namespaces and sets them up by a script.
    fn new(flags: &[&str], script: &str) -> Anchor {
        let child = Command::new("unshare")
            .args(flags)
            .args(["sh", "-ec", &format!("{script}\necho ready; exec sleep 100000")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) starts");
        let mut anchor = Anchor(child);
        let mut word = [0; 5];
        let stdout = anchor.0.stdout.as_mut().expect("its output");
        std::io::Read::read_exact(stdout, &mut word)
            .expect("namespaces can be made: these tests need root, or user namespaces mapped to it");
        anchor
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn enter(&self, flags: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid()]).args(flags).arg("--");
        command
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn done(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The bridge and its hosts.
pub(crate) struct Lab {
    switch: Anchor,
    dir: PathBuf,
}

impl Lab {
    /// A bridge without hosts; files go to `dir`.
    pub(crate) fn new(dir: &Path) -> Lab {
        let switch =
            Anchor::new(&["-n"], "ip link add br0 type bridge; ip link set br0 up; ip link set lo up");
        Lab { switch, dir: dir.to_owned() }
    }

    /// A host of this number: its name is `s<n>`, its address 10.77.0.<n>.
    pub(crate) fn host(&self, number: u8) -> Host {
        let name = format!("s{number}");
        let anchor = Anchor::new(
            &["-n", "-m", "-u"],
            &format!("mount --make-rprivate /; hostname {name}; ip link set lo up"),
        );
        let port = format!("port{number}");
        done(self.switch.enter(&["-n"]).args(["ip", "link", "add", &port, "type", "veth"]).args([
            "peer",
            "name",
            "eth0",
            "netns",
            &anchor.pid(),
        ]));
        done(self.switch.enter(&["-n"]).args(["ip", "link", "set", &port, "master", "br0", "up"]));
        let address = format!("10.77.0.{number}");
        for line in [
            format!("address add {address}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            "route add default via 10.77.0.254".to_owned(),
        ] {
            done(anchor.enter(&["-n"]).arg("ip").args(line.split(' ')));
        }
        let dir = self.dir.join(&name);
        std::fs::create_dir_all(&dir).expect("a folder");
        let config = dir.join("config.yaml");
        std::fs::write(&config, format!("data-dir: {}\n", dir.join("data").display()))
            .expect("a config file");
        Host { anchor, name, dir, server: None }
    }
}

/// A host, and the server on it.
pub(crate) struct Host {
    anchor: Anchor,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    server: Option<Child>,
}

impl Host {
    /// The server's files.
    pub(crate) fn server_dir(&self) -> PathBuf {
        self.dir.join("data/server")
    }

    /// The text of one of them, without white space around.
    pub(crate) fn read(&self, path: &str) -> String {
        let path = self.server_dir().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_owned()
    }

    /// Adds a line to the config file.
    pub(crate) fn configure(&self, line: &str) {
        let path = self.dir.join("config.yaml");
        let text = std::fs::read_to_string(&path).expect("the config file");
        std::fs::write(&path, format!("{text}{line}\n")).expect("the config file");
    }

    /// A command on this host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.anchor.enter(&["-n", "-m", "-u"]);
        // What the developer's shell sets is none of the tests' business.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SKIFF_") {
                command.env_remove(name);
            }
        }
        command.arg(program).current_dir(&self.dir).stdin(Stdio::null());
        command.env("SKIFF_CONFIG_FILE", self.dir.join("config.yaml"));
        command
    }

    /// A command of skiff's to its end.
    pub(crate) fn skiff(&self, arguments: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_skiff")).args(arguments).output().expect("skiff runs")
    }

    /// Starts the server; it may not be ready yet.
    pub(crate) fn start(&mut self, flags: &[&str]) {
        assert!(self.server.is_none(), "{} runs already", self.name);
        let log = std::fs::File::create(self.dir.join("log")).expect("a log");
        let mut command = self.command(env!("CARGO_BIN_EXE_skiff"));
        command.arg("server").args(flags).stdout(log.try_clone().expect("the log")).stderr(log);
        self.server = Some(command.spawn().expect("skiff server starts"));
    }

    /// What the server has logged since its last start.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Waits until the server takes part.
    pub(crate) fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains("ready: other servers join") {
            let server = self.server.as_mut().expect("it was started");
            let ended = server.try_wait().expect("look at it");
            assert!(ended.is_none(), "{} ended ({ended:?}):\n{}", self.name, self.log());
            assert!(Instant::now() < deadline, "{} is not ready:\n{}", self.name, self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Sends the server a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("it runs");
        kill_process(Pid::from_child(server), signal).expect("signal it");
    }

    /// Waits for the server's end; answers its exit code and what it said.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let mut server = self.server.take().expect("it was started");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = server.try_wait().expect("look at it") {
                return (status.code(), self.log());
            }
            if Instant::now() >= deadline {
                let _ = server.kill();
                let _ = server.wait();
                panic!("{} does not end:\n{}", self.name, self.log());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Runs etcdctl after sourcing what the server wrote for it.
    pub(crate) fn etcdctl(&self, line: &str) -> Result<String, String> {
        self.etcdctl_after("true", line)
    }

    /// The same after one more command of a shell.
    pub(crate) fn etcdctl_after(&self, setup: &str, line: &str) -> Result<String, String> {
        let etcdctl = skiff_test_support::tools::oracle().etcdctl;
        let file = self.server_dir().join("etcdctl.env");
        let script = format!(". {}; {setup}; exec {} {line}", file.display(), etcdctl.display());
        let output = self.command("sh").args(["-c", &script]).output().expect("sh runs");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match output.status.success() {
            true => Ok(stdout.into_owned()),
            false => Err(format!("etcdctl {line}: {stdout}{stderr}")),
        }
    }

    /// The store's members, sorted: name and state, with `learner` behind who is one.
    pub(crate) fn members(&self) -> Result<Vec<String>, String> {
        let listed = self.etcdctl("member list")?;
        let mut members: Vec<String> = listed
            .lines()
            .map(|line| {
                let fields: Vec<&str> = line.split(", ").collect();
                let node = fields[2].rsplit_once('-').map_or(fields[2], |(node, _)| node);
                let learner = if fields.last() == Some(&"true") { " learner" } else { "" };
                format!("{node} {}{learner}", fields[1])
            })
            .collect();
        members.sort();
        Ok(members)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
