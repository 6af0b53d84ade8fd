//! A database for each test, and servers on it.

use std::sync::Arc;

use skiff_sql::db::{self, Database, PoolOptions};
use skiff_sql::endpoint::{Endpoint, TlsFiles};
use skiff_sql::{SqlConfig, SqlStore};
use skiff_store::clock::SystemClock;

use crate::support::{self, Proxy, TestDatabase};

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
    MySql,
}

/// An empty database.
pub(crate) struct Base {
    kind: Option<Kind>,
    endpoint: String,
    _database: Option<TestDatabase>,
}

impl Base {
    /// Makes one; `None` where there is no server of that kind.
    pub(crate) async fn new(kind: Kind) -> Option<Self> {
        let make = move || match kind {
            Kind::Sqlite => Some(support::sqlite()),
            Kind::Postgres => Some(support::postgres()),
            Kind::MariaDb => Some(support::mariadb()),
            Kind::MySql => support::mysql(),
        };
        // The first of a kind starts the server.
        let database = tokio::task::spawn_blocking(make).await.expect("a database server");
        database.map(|database| Self {
            kind: Some(kind),
            endpoint: database.endpoint.clone(),
            _database: Some(database),
        })
    }

    /// The one at an endpoint.
    pub(crate) fn at(endpoint: &str) -> Self {
        Self { kind: None, endpoint: endpoint.to_owned(), _database: None }
    }

    /// Of which kind it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind.expect("made by its kind")
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The same, by a way that can fall silent.
    pub(crate) async fn through_a_proxy(self) -> (Proxy, Self) {
        let tail = self.endpoint.rsplit_once("127.0.0.1:").expect("an address").1;
        let digits = tail.find(|c: char| !c.is_ascii_digit()).expect("the end of the port");
        let port: u16 = tail[..digits].parse().expect("a port");
        let way = Proxy::start(port).await;
        let endpoint = self.endpoint.replace(&port.to_string(), &way.port.to_string());
        (way, Self { kind: self.kind, endpoint, _database: self._database })
    }

    /// Connects to it.
    pub(crate) async fn database(&self) -> Arc<dyn Database> {
        let endpoint = Endpoint::parse(&self.endpoint, TlsFiles::default()).expect("an endpoint");
        db::connect(&endpoint, &PoolOptions::default()).await.expect("a database")
    }

    /// Starts a server on it.
    pub(crate) async fn server(&self) -> Arc<SqlStore> {
        self.server_with(SqlConfig::default()).await
    }

    /// Starts a server with settings.
    pub(crate) async fn server_with(&self, config: SqlConfig) -> Arc<SqlStore> {
        let clock = Arc::new(SystemClock::default());
        SqlStore::open(self.database().await, config, clock).await.expect("a store")
    }
}
