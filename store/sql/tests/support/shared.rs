//! One server per test process, a fresh database per test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::{Disk, MariadbServer, MysqlServer, PostgresServer};

/// A database of a test's own.
pub struct TestDatabase {
    /// Which database it is, for messages.
    pub kind: &'static str,
    /// Where it is.
    pub endpoint: String,
    _folder: Option<TempDir>,
}

/// A name that no test had before.
fn fresh() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A database on the shared PostgreSQL. It is made by whoever connects.
pub fn postgres() -> TestDatabase {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    let server = SERVER.get_or_init(|| PostgresServer::start(Disk::Relaxed));
    TestDatabase { kind: "postgres", endpoint: server.endpoint(&fresh()), _folder: None }
}

/// A database on the shared MariaDB. It is made by whoever connects.
pub fn mariadb() -> TestDatabase {
    static SERVER: OnceLock<MariadbServer> = OnceLock::new();
    let server = SERVER.get_or_init(|| MariadbServer::start(Disk::Relaxed));
    TestDatabase { kind: "mariadb", endpoint: server.endpoint(&fresh()), _folder: None }
}

/// A database on the shared MySQL, where there is one.
pub fn mysql() -> Option<TestDatabase> {
    static SERVER: OnceLock<Option<MysqlServer>> = OnceLock::new();
    let server = SERVER.get_or_init(|| MysqlServer::start(Disk::Relaxed)).as_ref()?;
    Some(TestDatabase { kind: "mysql", endpoint: server.endpoint(&fresh()), _folder: None })
}

/// A SQLite file.
pub fn sqlite() -> TestDatabase {
    let folder = tempfile::Builder::new().prefix("skiff-sqlite-").tempdir().expect("a scratch folder");
    let endpoint = format!("sqlite://{}", folder.path().join("db/state.db").display());
    TestDatabase { kind: "sqlite", endpoint, _folder: Some(folder) }
}

/// One of each that can be had here.
pub fn every_database() -> Vec<TestDatabase> {
    let mut all = vec![sqlite(), postgres(), mariadb()];
    all.extend(mysql());
    all
}
