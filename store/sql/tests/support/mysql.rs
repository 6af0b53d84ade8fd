//! A private MySQL 9, where `scripts/mysql.sh` has unpacked one.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use super::Disk;
use super::process::{Process, Scratch, Stop, free_port, is_root, listens, run};

/// A MySQL with the user `skiff`, password `skiff`, that may do everything.
pub struct MysqlServer {
    folder: Scratch,
    pub port: u16,
    disk: Disk,
    start: PathBuf,
    extra: Vec<String>,
    process: Option<Process>,
}

/// The program that starts the unpacked server, where there is one.
fn program() -> Option<PathBuf> {
    let build = std::env::var_os("SKIFF_BUILD_DIR")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/skiff")))?;
    let start = build.join("mysql/mysqld");
    start.exists().then_some(start)
}

impl MysqlServer {
    /// Makes a data folder and starts it; `None`, said loudly, where there is
    /// no MySQL.
    pub fn start(disk: Disk) -> Option<Self> {
        Self::start_with(disk, &[])
    }

    /// As `start`, with more arguments.
    pub fn start_with(disk: Disk, arguments: &[&str]) -> Option<Self> {
        let Some(start) = program() else {
            eprintln!("SKIPPED: no MySQL here; scripts/mysql.sh unpacks one");
            return None;
        };
        let folder = Scratch::new("skiff-mysql-");
        let init =
            "CREATE USER skiff@'%' IDENTIFIED BY 'skiff'; GRANT ALL ON *.* TO skiff@'%' WITH GRANT OPTION;\n";
        std::fs::write(folder.path().join("init.sql"), init).expect("write the first statements");
        let extra = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { folder, port: free_port(), disk, start, extra, process: None };
        run(server
            .command()
            .arg("--initialize-insecure")
            .arg(format!("--init-file={}", server.folder.path().join("init.sql").display())));
        server.launch();
        Some(server)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.start);
        command.arg("--no-defaults").arg(format!("--datadir={}", self.folder.path().join("data").display()));
        command.arg("--secure-file-priv=");
        if is_root() {
            command.arg("--user=root");
        }
        command
    }

    fn launch(&mut self) {
        let folder = self.folder.path();
        let mut command = self.command();
        command
            .arg(format!("--socket={}", folder.join("socket").display()))
            .arg(format!("--pid-file={}", folder.join("pid").display()))
            .arg(format!("--port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--mysqlx=OFF", "--max-connections=200"]);
        if self.disk == Disk::Relaxed {
            // Written to the system at every commit, flushed once a second.
            command.args(["--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0"]);
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

    /// The endpoint of `database` on it.
    pub fn endpoint(&self, database: &str) -> String {
        format!("mysql://skiff:skiff@tcp(127.0.0.1:{})/{database}", self.port)
    }
}
