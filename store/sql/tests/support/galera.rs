//! A private Galera cluster of MariaDB.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::mariadb::program;
use super::process::{Process, Scratch, Stop, command_as, free_port, give, run};

/// The user that Debian's package makes. Nodes copy their data through rsync,
/// whose server gives up the rights of root.
const USER: &str = "mysql";

/// Where Galera's library lies.
const PROVIDERS: [&str; 2] = ["/usr/lib/galera/libgalera_smm.so", "/usr/lib/libgalera_smm.so"];

/// Nodes that replicate to each other, with the user `skiff`, password `skiff`,
/// that may do everything.
pub struct GaleraCluster {
    nodes: Vec<Node>,
    provider: &'static str,
}

struct Node {
    folder: Scratch,
    port: u16,
    group_port: u16,
    process: Option<Process>,
}

impl GaleraCluster {
    /// Starts a cluster; `None`, said loudly, where there is no Galera.
    pub fn start(count: usize) -> Option<Self> {
        let Some(provider) = PROVIDERS.into_iter().find(|path| Path::new(path).exists()) else {
            eprintln!("SKIPPED: no Galera here; Debian's package galera-4 has it");
            return None;
        };
        let nodes = (0..count).map(|_| Node::new()).collect();
        let mut cluster = Self { nodes, provider };
        cluster.launch(0, true);
        (1..count).for_each(|at| cluster.launch(at, false));
        Some(cluster)
    }

    fn launch(&mut self, at: usize, first: bool) {
        let peers: Vec<String> =
            self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.group_port)).collect();
        let node = &self.nodes[at];
        let mut command = command_as(USER, program());
        let folder = node.folder.path();
        let (transfer, receive) = (free_port(), free_port());
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", folder.join("data").display()))
            .arg(format!("--socket={}", folder.join("socket").display()))
            .arg(format!("--pid-file={}", folder.join("pid").display()))
            .arg(format!("--port={}", node.port))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--max-connections=200"])
            .args(["--innodb-flush-log-at-trx-commit=2", "--innodb-autoinc-lock-mode=2", "--binlog-format=ROW"])
            .args(["--wsrep-on=ON", "--wsrep-cluster-name=skiff", "--wsrep-sst-method=rsync"])
            .arg(format!("--wsrep-provider={}", self.provider))
            .arg(format!("--wsrep-cluster-address=gcomm://{}", peers.join(",")))
            .arg(format!("--wsrep-node-address=127.0.0.1:{}", node.group_port))
            .arg(format!("--wsrep-node-name=n{at}"))
            .arg(format!("--wsrep-sst-receive-address=127.0.0.1:{receive}"))
            .arg(format!(
                "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{};ist.recv_addr=127.0.0.1:{transfer};\
                 gcache.size=32M",
                node.group_port
            ));
        if first {
            command.arg("--wsrep-new-cluster");
        }
        let socket = folder.join("socket");
        let ready = move || {
            let asked = Command::new("mariadb")
                .arg("--no-defaults")
                .arg(format!("--socket={}", socket.display()))
                .args(["--user=skiff", "--password=skiff", "--batch", "--execute"])
                .arg("SHOW STATUS LIKE 'wsrep_local_state_comment'")
                .stderr(Stdio::null())
                .output();
            asked.is_ok_and(|asked| String::from_utf8_lossy(&asked.stdout).contains("Synced"))
        };
        let process = Process::start(command, folder, Signal::TERM, ready);
        self.nodes[at].process = Some(process);
    }

    /// Stops a node.
    pub fn stop(&mut self, at: usize, how: Stop) {
        if let Some(mut process) = self.nodes[at].process.take() {
            process.stop(how);
        }
    }

    /// Starts it again, and waits until it has what it missed.
    pub fn resume(&mut self, at: usize) {
        self.launch(at, false);
    }

    /// The endpoint of `database` on a node.
    pub fn endpoint(&self, at: usize, database: &str) -> String {
        format!("mysql://skiff:skiff@tcp(127.0.0.1:{})/{database}", self.nodes[at].port)
    }
}

impl Node {
    fn new() -> Self {
        let folder = Scratch::new("skiff-galera-");
        give(folder.path(), USER);
        let mut install = command_as(USER, Path::new("mariadb-install-db"));
        install.arg("--no-defaults").arg(format!("--datadir={}", folder.path().join("data").display()));
        run(install
            .current_dir(folder.path())
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"]));
        // Not by an init file: the copy of the first node has it already.
        let users = "CREATE USER skiff@'%' IDENTIFIED BY 'skiff';\n\
                     CREATE USER skiff@'localhost' IDENTIFIED BY 'skiff';\n\
                     GRANT ALL ON *.* TO skiff@'%' WITH GRANT OPTION;\n\
                     GRANT ALL ON *.* TO skiff@'localhost' WITH GRANT OPTION;\n";
        let file = folder.path().join("users.sql");
        std::fs::write(&file, format!("FLUSH PRIVILEGES;\n{users}")).expect("write the first statements");
        give(&file, USER);
        let mut bootstrap = command_as(USER, program());
        bootstrap.current_dir(folder.path()).arg("--no-defaults").arg("--bootstrap");
        bootstrap.arg(format!("--datadir={}", folder.path().join("data").display()));
        bootstrap.stdin(std::fs::File::open(&file).expect("open the first statements"));
        run(&mut bootstrap);
        Self { folder, port: free_port(), group_port: free_port(), process: None }
    }
}
