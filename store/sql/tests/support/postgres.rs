//! A private PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::Disk;
use super::process::{Process, Scratch, Stop, command_as, free_port, give, run};

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
        let extra = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { folder, port: free_port(), disk, extra, process: None };
        server.launch();
        server
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

    /// The endpoint of `database` on it.
    pub fn endpoint(&self, database: &str) -> String {
        format!("postgres://postgres:postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}
