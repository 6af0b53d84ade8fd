//! A private PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Disk;
use super::process::{LIMIT, Process, Scratch, Stop, command_as, free_port, give, run};

/// The user that Debian's package makes, as whom it runs when we are root.
const USER: &str = "postgres";

/// A PostgreSQL with the role `postgres`, password `postgres`.
pub struct PostgresServer {
    folder: Scratch,
    pub port: u16,
    disk: Disk,
    extra: Vec<String>,
    process: Option<Process>,
}

/// The programs of the newest version installed.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed (see scripts/deps.sh test)")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/initdb").exists().then(|| (version, path.join("bin")))
        })
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL's server is installed (see scripts/deps.sh test)").1
}

impl PostgresServer {
    /// Makes a cluster and starts it.
    pub fn start(disk: Disk) -> Self {
        Self::start_with(disk, &[])
    }

    /// As `start`, with more settings (`name=value`).
    pub fn start_with(disk: Disk, settings: &[&str]) -> Self {
        let folder = Scratch::new("skiff-postgres-");
        give(folder.path(), USER);
        let password = folder.path().join("password");
        std::fs::write(&password, "postgres\n").expect("write the password");
        give(&password, USER);
        run(command_as(USER, &programs().join("initdb"))
            .current_dir(folder.path())
            .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8"])
            // A locale whose order is not that of bytes shows what relies on it.
            .args(["--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8"])
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(folder.path().join("data")));
        Self::launched(folder, disk, settings)
    }

    /// A streaming standby of `primary`, from a copy of its data. Its name is
    /// `standby`, for `synchronous_standby_names`.
    pub fn standby_of(primary: &Self, settings: &[&str]) -> Self {
        let folder = Scratch::new("skiff-standby-");
        give(folder.path(), USER);
        run(command_as(USER, &programs().join("pg_basebackup"))
            .current_dir(folder.path())
            .env("PGPASSWORD", "postgres")
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .arg("--dbname")
            .arg(format!(
                "host=127.0.0.1 port={} user=postgres application_name=standby sslmode=disable",
                primary.port
            ))
            .arg("--pgdata")
            .arg(folder.path().join("data")));
        Self::launched(folder, primary.disk, settings)
    }

    fn launched(folder: Scratch, disk: Disk, settings: &[&str]) -> Self {
        let extra = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { folder, port: free_port(), disk, extra, process: None };
        server.launch();
        server
    }

    /// Has a standby receive, and show nothing more.
    pub fn pause_replay(&self) {
        run(Command::new(programs().join("psql"))
            .env("PGPASSWORD", "postgres")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-d", "postgres"])
            .args(["-c", "SELECT pg_wal_replay_pause()"]));
    }

    /// Makes a standby a primary, and waits until it is one.
    pub fn promote(&self) {
        run(command_as(USER, &programs().join("pg_ctl"))
            .current_dir(self.folder.path())
            .args(["promote", "--wait", "--pgdata"])
            .arg(self.folder.path().join("data")));
    }

    fn launch(&mut self) {
        let mut command = command_as(USER, &programs().join("postgres"));
        command.current_dir(self.folder.path()).arg("-D").arg(self.folder.path().join("data"));
        let mut settings = vec![
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.folder.path().display()),
            "max_connections=200".to_owned(),
        ];
        if self.disk == Disk::Relaxed {
            settings.push("fsync=off".to_owned());
        }
        settings.extend(self.extra.iter().cloned());
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        let (port, socket) = (self.port, self.folder.path().to_owned());
        let ready = move || {
            Command::new(programs().join("pg_isready"))
                .arg("-h")
                .arg(&socket)
                .args(["-p", &port.to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        self.process = Some(Process::start(command, self.folder.path(), Signal::INT, ready));
    }

    /// Stops it.
    pub fn stop(&mut self, how: Stop) {
        if let Some(mut process) = self.process.take() {
            process.stop(how);
            self.wait_for_children();
        }
    }

    /// After SIGKILL its children live on for a moment, and it would not start
    /// while they hold its shared memory.
    fn wait_for_children(&self) {
        let file =
            std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap_or_default();
        let Some(id) = file.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) else { return };
        let attached = || {
            let all = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
            all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
                columns.get(1).is_some_and(|shown| *shown == id) && columns.get(6).is_some_and(|n| *n != "0")
            })
        };
        let begin = Instant::now();
        while attached() {
            assert!(begin.elapsed() < LIMIT, "PostgreSQL's children outlive it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it and starts it again on the same data and port.
    pub fn restart(&mut self, how: Stop) {
        self.stop(how);
        self.launch();
    }

    /// Starts it again after `stop`.
    pub fn resume(&mut self) {
        if self.process.is_none() {
            self.launch();
        }
    }

    /// The folder of its socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// The endpoint of `database` on several servers.
    pub fn endpoint_of(servers: &[&Self], database: &str) -> String {
        let hosts: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("postgres://postgres:postgres@{}/{database}?sslmode=disable", hosts.join(","))
    }

    /// The endpoint of `database` on it.
    pub fn endpoint(&self, database: &str) -> String {
        format!("postgres://postgres:postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}
