//! One real server process.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::pb::etcdserverpb::RangeRequest;
use crate::{Client, Fault, ports};

/// How long a server may take until it answers, or until it ends after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What to start.
#[derive(Debug, Clone)]
pub enum Program {
    /// A real etcd.
    Etcd(PathBuf),
    /// The binary of this project, started as `skiff etcd`.
    Skiff(PathBuf),
    /// The binary of this project, started as `skiff kine`.
    Kine {
        /// The binary.
        binary: PathBuf,
        /// The datastore; `{fresh}` in it stands for a new name at each [`Program::fresh`].
        endpoint: String,
    },
}

impl Program {
    /// What the tests examine: `binary`, unless `SKIFF_TEST_SUBJECT` names another one; its value
    /// `etcd` stands for the real etcd, which shows what the tests themselves are worth.
    pub fn subject(binary: &str) -> Self {
        match std::env::var("SKIFF_TEST_SUBJECT") {
            Ok(name) if name == "etcd" => Program::Etcd(crate::tools::oracle().etcd),
            Ok(path) => Program::Skiff(PathBuf::from(path)),
            Err(_) => Program::Skiff(PathBuf::from(binary)),
        }
    }

    /// The real etcd.
    pub fn oracle() -> Self {
        Program::Etcd(crate::tools::oracle().etcd)
    }

    /// The same on a datastore that nobody used.
    pub fn fresh(&self) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self {
            Program::Kine { binary, endpoint } => {
                let name = format!("fresh{}", NEXT.fetch_add(1, Ordering::Relaxed));
                Program::Kine { binary: binary.clone(), endpoint: endpoint.replace("{fresh}", &name) }
            }
            other => other.clone(),
        }
    }

    /// True for `skiff kine`.
    pub fn is_kine(&self) -> bool {
        matches!(self, Program::Kine { .. })
    }

    /// True for the real etcd.
    pub fn is_etcd(&self) -> bool {
        matches!(self, Program::Etcd(_))
    }

    fn command(&self, options: &MemberOptions) -> Command {
        match self {
            Program::Etcd(path) => Self::member(Command::new(path), options),
            Program::Skiff(path) => {
                let mut command = Command::new(path);
                command.arg("etcd");
                Self::member(command, options)
            }
            Program::Kine { binary, endpoint } => {
                let mut command = Command::new(binary);
                command
                    .arg("kine")
                    .arg(format!("--listen-address=127.0.0.1:{}", options.client_port))
                    .arg(format!("--endpoint={endpoint}"))
                    .arg("--metrics-bind-address=0");
                command
            }
        }
    }

    fn member(mut command: Command, options: &MemberOptions) -> Command {
        let client_url = format!("http://127.0.0.1:{}", options.client_port);
        command
            .arg(format!("--name={}", options.name))
            .arg(format!("--data-dir={}", options.dir.join("data").display()))
            .arg(format!("--listen-client-urls={client_url}"))
            .arg(format!("--advertise-client-urls={client_url}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{}", options.peer_port))
            .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{}", options.advertised_peer_port))
            .arg(format!("--initial-cluster={}", options.initial_cluster))
            .arg(format!("--initial-cluster-state={}", if options.existing { "existing" } else { "new" }));
        command
    }
}

/// How to start a member.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// What to start.
    pub program: Program,
    /// Its name.
    pub name: String,
    /// Where its data and log go: `DIR/data` and `DIR/log`.
    pub dir: PathBuf,
    /// Port for clients.
    pub client_port: u16,
    /// Port for peers.
    pub peer_port: u16,
    /// Where peers find it: the peer port, or a relay in front of it.
    pub advertised_peer_port: u16,
    /// The value of `--initial-cluster`.
    pub initial_cluster: String,
    /// The cluster exists: `--initial-cluster-state existing`.
    pub existing: bool,
    /// More flags.
    pub flags: Vec<String>,
}

impl MemberOptions {
    /// A cluster of one member in `dir`, on free ports.
    pub fn single(program: Program, dir: &Path) -> Self {
        let (client_port, peer_port) = (ports::free_port(), ports::free_port());
        MemberOptions {
            program,
            name: "m1".to_owned(),
            dir: dir.to_path_buf(),
            client_port,
            peer_port,
            advertised_peer_port: peer_port,
            initial_cluster: format!("m1=http://127.0.0.1:{peer_port}"),
            existing: false,
            flags: Vec::new(),
        }
    }

    /// The same with one more flag, written `--flag=value`.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }
}

/// A server process, ended with SIGKILL when dropped.
#[derive(Debug)]
pub struct Member {
    options: MemberOptions,
    child: Option<Child>,
}

impl Member {
    /// A member that is not started yet.
    pub fn new(options: MemberOptions) -> Self {
        Member { options, child: None }
    }

    /// Starts a cluster of one member and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn single(program: Program, dir: &Path) -> Result<Self, Fault> {
        Member::flagged(program, dir, &[]).await
    }

    /// The same with more flags, each written `--flag=value`.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn flagged(program: Program, dir: &Path, flags: &[&str]) -> Result<Self, Fault> {
        let mut options = MemberOptions::single(program, dir);
        options.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut member = Member::new(options);
        member.start()?;
        member.ready().await?;
        Ok(member)
    }

    /// How it is started; changes count from the next start.
    pub fn options_mut(&mut self) -> &mut MemberOptions {
        &mut self.options
    }

    /// How it is started.
    pub fn options(&self) -> &MemberOptions {
        &self.options
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.options.client_port)
    }

    /// The URL its peers reach it at.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.options.advertised_peer_port)
    }

    /// A client of its own connection.
    pub fn client(&self) -> Client {
        Client::new(&self.address())
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.options.dir.join("data")
    }

    /// The file its output goes to.
    pub fn log_path(&self) -> PathBuf {
        self.options.dir.join("log")
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the process; it may not answer yet.
    ///
    /// # Errors
    /// When the process cannot be started, or runs already.
    pub fn start(&mut self) -> Result<(), Fault> {
        if self.child.is_some() {
            return Err(format!("{} runs already", self.options.name).into());
        }
        std::fs::create_dir_all(&self.options.dir)?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let options = &self.options;
        let mut command = options.program.command(options);
        command.args(&options.flags);
        command.stdin(Stdio::null()).stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log));
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Waits until it answers a linearizable read.
    ///
    /// # Errors
    /// When it ends or does not answer in time; with the end of its log.
    pub async fn ready(&mut self) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.exited()? {
                return Err(self.fault(&format!("ended with {status}")));
            }
            // A fresh client each time: a connection refused once is not tried again at once.
            let client = self.client().with_deadline(Duration::from_secs(2));
            let request = RangeRequest { key: "ready".into(), ..Default::default() };
            match client.range(request).await {
                Ok(_) => return Ok(()),
                // Auth is on: it has looked at the request, as it should.
                Err(error) if error.message() == "etcdserver: user name is empty" => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(self.fault(&format!("does not answer: {error}")));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it still runs after `patience`.
    pub async fn wait_exit(&mut self, patience: Duration) -> Result<ExitStatus, Fault> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(self.fault("does not end"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The exit status if the process has ended; it counts as not running from then on.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, Fault> {
        let Some(child) = self.child.as_mut() else { return Err("not started".into()) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Ends it with SIGKILL, if it runs.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&mut self) -> Result<ExitStatus, Fault> {
        let pid = self.pid().ok_or("not started")?;
        signal(pid, "TERM");
        self.wait_exit(PATIENCE).await
    }

    /// Stops (`true`) or continues the process, as a machine that hangs would.
    pub fn freeze(&self, frozen: bool) {
        if let Some(pid) = self.pid() {
            signal(pid, if frozen { "STOP" } else { "CONT" });
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Empties the log, so that what follows is of the next start only.
    pub fn clear_log(&self) {
        // A log that is not there is empty.
        let _ = File::create(self.log_path());
    }

    fn fault(&self, what: &str) -> Fault {
        format!("{} {what}; the end of its log:\n{}", self.options.name, self.log_tail(15)).into()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}: {}\n{}", self.name(), self.log_path().display(), self.log_tail(15));
        }
        self.kill();
    }
}

/// Sends a signal to a process of this harness, by name without SIG.
pub fn signal(pid: u32, name: &str) {
    // The shell's own kill: the program of that name is not everywhere. It may have ended by itself.
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).stderr(Stdio::null()).status();
}
