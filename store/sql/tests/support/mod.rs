//! Database servers for tests: private ones, on sockets and ports of their own,
//! in a scratch folder, gone when the test is over.
//!
//! Other crates' tests take this module by `#[path]`.

#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod certificates;
mod galera;
mod mariadb;
mod mysql;
mod pgbouncer;
mod postgres;
mod process;
mod proxy;
mod shared;

pub use galera::GaleraCluster;
pub use mariadb::MariadbServer;
pub use mysql::MysqlServer;
pub use pgbouncer::PgBouncer;
pub use postgres::PostgresServer;
pub use process::{Scratch, Stop, free_port, give};
pub use proxy::Proxy;
pub use shared::{TestDatabase, every_database, mariadb, mysql, postgres, sqlite};

/// How a test server treats its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Nothing is flushed: fast, and safe as long as only processes are killed,
    /// for the system keeps what they wrote.
    Relaxed,
    /// As in production.
    Durable,
}
