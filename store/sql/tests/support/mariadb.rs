//! A private MariaDB.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::Disk;
use super::process::{Process, Scratch, Stop, free_port, is_root, listens, run};

/// A MariaDB with the user `skiff`, password `skiff`, that may do everything.
pub struct MariadbServer {
    folder: Scratch,
    pub port: u16,
    disk: Disk,
    extra: Vec<String>,
    process: Option<Process>,
}

impl MariadbServer {
    /// Makes a data folder and starts it.
    pub fn start(disk: Disk) -> Self {
        Self::start_with(disk, &[])
    }

    /// As `start`, with more arguments.
    pub fn start_with(disk: Disk, arguments: &[&str]) -> Self {
        let folder = Scratch::new("skiff-mariadb-");
        let mut install = Command::new("mariadb-install-db");
        install.arg("--no-defaults").arg(format!("--datadir={}", folder.path().join("data").display()));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        if is_root() {
            install.arg("--user=root");
        }
        run(&mut install);
        let init = "CREATE USER IF NOT EXISTS skiff@'%' IDENTIFIED BY 'skiff';\n\
                    GRANT ALL ON *.* TO skiff@'%' WITH GRANT OPTION;\n";
        std::fs::write(folder.path().join("init.sql"), init).expect("write the first statements");
        let extra = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { folder, port: free_port(), disk, extra, process: None };
        server.launch();
        server
    }

    fn launch(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new(program());
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", folder.join("data").display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", folder.join("pid").display()))
            .arg(format!("--init-file={}", folder.join("init.sql").display()))
            .arg(format!("--port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=200"]);
        if is_root() {
            command.arg("--user=root");
        }
        if self.disk == Disk::Relaxed {
            // Written to the system at every commit, flushed once a second.
            command.arg("--innodb-flush-log-at-trx-commit=2");
        }
        command.args(&self.extra);
        let port = self.port;
        self.process = Some(Process::start(command, folder, Signal::TERM, move || listens(port)));
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

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The endpoint of `database` on it.
    pub fn endpoint(&self, database: &str) -> String {
        format!("mysql://skiff:skiff@tcp(127.0.0.1:{})/{database}", self.port)
    }
}

pub(super) fn program() -> &'static Path {
    Path::new(if Path::new("/usr/sbin/mariadbd").exists() { "/usr/sbin/mariadbd" } else { "mariadbd" })
}
