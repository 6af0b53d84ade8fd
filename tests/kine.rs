//! `skiff kine` as its users meet it: on each database, with the real etcdctl.

#[path = "../store/sql/tests/support/mod.rs"]
mod databases;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use databases::{Disk, MariadbServer, PostgresServer, Stop, every_database, free_port};
use rustix::process::{Pid, Signal, kill_process};
use skiff_test_support::tools::{Finished, etcdctl, oracle};
use skiff_test_support::{Member, Program, Scratch};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running `skiff kine`, ended with SIGKILL when dropped.
struct Kine {
    child: Child,
    log: PathBuf,
    address: String,
}

fn skiff() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skiff"));
    // What the developer's shell sets is none of the tests' business.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KINE_") {
            command.env_remove(name);
        }
    }
    command.arg("kine").stdin(Stdio::null());
    command
}

impl Kine {
    /// Starts one on `endpoint`, and waits until it is ready.
    fn start(dir: &Path, endpoint: &str, more: &[&str]) -> Kine {
        let address = format!("127.0.0.1:{}", free_port());
        let kine = Kine::launch(dir, &address, endpoint, more);
        kine.wait_for("ready to serve client requests");
        kine
    }

    fn launch(dir: &Path, address: &str, endpoint: &str, more: &[&str]) -> Kine {
        let log = dir.join(format!("log-{}", free_port()));
        let file = std::fs::File::create(&log).expect("a log");
        let child = skiff()
            .current_dir(dir)
            // In the environment: a password is not for the list of processes.
            .env("KINE_ENDPOINT", endpoint)
            .arg(format!("--listen-address={address}"))
            .args(["--metrics-bind-address=0", "--log-format=json"])
            .args(more)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("start skiff kine");
        Kine { child, log, address: address.to_owned() }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("read the log")
    }

    fn wait_for(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(part) {
            assert!(Instant::now() < deadline, "no {part:?} in {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("look at it") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("signal it");
        assert_eq!(self.exit_code(), Some(0), "{}", self.log());
    }

    async fn run(&self, arguments: &[&str]) -> Finished {
        etcdctl(&oracle().etcdctl, &format!("http://{}", self.address), arguments, None)
            .await
            .expect("etcdctl runs")
    }

    async fn ok(&self, line: &str) -> String {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let done = self.run(&arguments).await;
        assert!(done.code == 0, "etcdctl {line}: {}{}\n{}", done.stdout, done.stderr, self.log());
        done.stdout
    }
}

impl Drop for Kine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_works_on_every_database() {
    for database in tokio::task::spawn_blocking(every_database).await.expect("start the databases") {
        let dir = tempfile::tempdir().expect("a folder");
        let kine = Kine::start(dir.path(), &database.endpoint, &[]);
        assert_eq!(kine.ok("put a 1").await, "OK\n", "{}", database.kind);
        kine.ok("put b 2").await;
        assert_eq!(kine.ok("put a 3 --prev-kv").await, "OK\na\n1\n");
        assert_eq!(kine.ok("get --from-key a").await, "a\n3\nb\n2\n");
        assert_eq!(kine.ok("get a b --sort-by=MODIFY --order=DESCEND").await, "a\n3\n");
        assert_eq!(kine.ok("del --prefix b").await, "1\n");
        kine.ok("lease grant 600").await;
        kine.ok("endpoint health").await;
        assert!(kine.ok("endpoint status -w fields").await.contains("\"Version\" : \"3."));
        assert!(kine.ok("member list").await.contains(&kine.address));
        let refused = kine.run(&["get", "a", "--rev=99"]).await;
        assert!(refused.stderr.contains("required revision is a future revision"), "{}", refused.stderr);
        kine.stop();
        // Another server finds it all.
        let kine = Kine::start(dir.path(), &database.endpoint, &[]);
        assert_eq!(kine.ok("get a").await, "a\n3\n", "{}", database.kind);
        assert_eq!(kine.ok("lease list").await.lines().next(), Some("found 1 leases"));
        assert!(!kine.log().contains("skiff:skiff") && !kine.log().contains(":postgres@"), "{}", kine.log());
        kine.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_database_is_survived() {
    let start = tokio::task::spawn_blocking(|| {
        (PostgresServer::start(Disk::Relaxed), MariadbServer::start(Disk::Relaxed))
    });
    let (mut postgres, mut mariadb) = start.await.expect("start the databases");
    let dir = tempfile::tempdir().expect("a folder");
    for on_postgres in [true, false] {
        let endpoint = if on_postgres { postgres.endpoint("kube") } else { mariadb.endpoint("kube") };
        let kine = Kine::start(dir.path(), &endpoint, &[]);
        kine.ok("put a 1").await;
        tokio::task::block_in_place(|| {
            if on_postgres { postgres.restart(Stop::Kill) } else { mariadb.restart(Stop::Kill) }
        });
        let deadline = Instant::now() + PATIENCE;
        while kine.run(&["put", "a", "2"]).await.code != 0 {
            assert!(Instant::now() < deadline, "no write is taken again: {}", kine.log());
        }
        assert_eq!(kine.ok("get a").await, "a\n2\n");
        kine.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_a_database_that_starts_later() {
    let start = tokio::task::spawn_blocking(|| {
        let mut server = PostgresServer::start(Disk::Relaxed);
        server.stop(Stop::Orderly);
        server
    });
    let mut server = start.await.expect("start postgres once");
    let dir = tempfile::tempdir().expect("a folder");
    let address = format!("127.0.0.1:{}", free_port());
    let kine = Kine::launch(dir.path(), &address, &server.endpoint("kube"), &[]);
    kine.wait_for("the database is not there yet");
    tokio::task::block_in_place(|| server.resume());
    kine.wait_for("ready to serve client requests");
    kine.ok("put a 1").await;
    kine.stop();
}

#[test]
fn a_socket_is_for_its_user_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let kine = Kine::launch(dir.path(), "unix://kine.sock", "", &[]);
    kine.wait_for("ready to serve client requests");
    let path = dir.path().join("kine.sock");
    let mode = std::fs::metadata(&path).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Without an endpoint: SQLite, in kine's place, and for its user alone too.
    let data = std::fs::metadata(dir.path().join("db/state.db")).expect("the file").permissions().mode();
    assert_eq!(data & 0o777, 0o600);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    write!(stream, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("ask");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer");
    assert!(reply.contains(r#""health":"true""#), "{reply}");
    kine.stop();
    assert!(!path.exists(), "the socket is removed");
}

#[test]
fn metrics_have_an_address_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let flag = format!("--metrics-bind-address=127.0.0.1:{port}");
    let kine = Kine::start(dir.path(), "", &[&flag]);
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("ask");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer");
    assert!(reply.contains("skiff_sql_database_reachable 1"), "{reply}");
    kine.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_must_show_a_certificate_where_an_authority_is_given() {
    let dir = tempfile::tempdir().expect("a folder");
    certificates(dir.path());
    let tls = ["--server-cert-file=server.pem", "--server-key-file=server.key", "--trusted-ca-file=ca.pem"];
    let kine = Kine::start(dir.path(), "", &tls);
    let url = format!("https://{}", kine.address);
    let file = |name: &str| format!("{}", dir.path().join(name).display());
    let ca = format!("--cacert={}", file("ca.pem"));
    let (cert, key) = (format!("--cert={}", file("client.pem")), format!("--key={}", file("client.key")));
    let program = oracle().etcdctl;
    let good =
        etcdctl(&program, &url, &[&ca, &cert, &key, "put", "a", "1"], None).await.expect("etcdctl runs");
    assert_eq!(good.code, 0, "{}{}", good.stderr, kine.log());
    let bare = etcdctl(&program, &url, &[&ca, "--dial-timeout=1s", "--command-timeout=2s", "get", "a"], None)
        .await
        .expect("etcdctl runs");
    assert_ne!(bare.code, 0, "{}", bare.stdout);
    kine.stop();
}

/// Writes an authority, and certificates for a server and a client.
fn certificates(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
    std::fs::write(dir.join("ca.pem"), authority.pem()).expect("a file");
    for name in ["server", "client"] {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &authority).expect("signed");
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).expect("a file");
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
    }
}

#[test]
fn what_cannot_be_is_told_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--endpont=x"], 2, "did you mean --endpoint?"),
        (&["--log-format=xml"], 2, "log-format"),
        (&["--endpoint=redis://u:hunter2@h"], 1, "the datastore endpoint's scheme is unknown"),
        (&["--endpoint=sqlite:///dev/null/x"], 1, "SQLite file"),
    ];
    for (arguments, code, part) in cases {
        let done = skiff()
            .current_dir(dir.path())
            .args(["--listen-address=127.0.0.1:0", "--metrics-bind-address=0"])
            .args(arguments)
            .output()
            .expect("skiff runs");
        let said = String::from_utf8_lossy(&done.stderr);
        // A folder that cannot be made does not become one by waiting.
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part) && !said.contains("hunter2"), "{arguments:?}: {said}");
    }
    let help = skiff().arg("--help").output().expect("skiff runs");
    assert!(String::from_utf8_lossy(&help.stdout).contains("--datastore-max-open-connections"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_elsewhere_is_passed_through() {
    let scratch = Scratch::new("kine-etcd");
    let etcd = Member::single(Program::oracle(), scratch.path()).await.expect("etcd starts");
    let port = free_port();
    let metrics = format!("--metrics-bind-address=127.0.0.1:{port}");
    let kine = Kine::start(scratch.path(), &format!("http://{}", etcd.address()), &[&metrics]);
    assert_eq!(kine.ok("put a 1").await, "OK\n");
    assert_eq!(kine.ok("get a").await, "a\n1\n");
    kine.ok("lease grant 600").await;
    assert!(kine.ok("endpoint status -w fields").await.contains("\"Version\" : \"3.5"));
    let at_metrics = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the port for metrics");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(at_metrics("/metrics").contains("skiff_pass_through_endpoint_healthy"));
    assert!(at_metrics("/version").contains(" 404 "), "{}", at_metrics("/version"));
    kine.stop();
    let mut refused = Kine::launch(scratch.path(), "127.0.0.1:0", "https://127.0.0.1:1", &[]);
    assert_eq!(refused.exit_code(), Some(1));
    assert!(refused.log().contains("--ca-file"), "{}", refused.log());
}
