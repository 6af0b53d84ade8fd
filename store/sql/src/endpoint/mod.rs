//! Where the data is: the datastore endpoint, as kine takes it.
//!
//! An endpoint is `scheme://rest`; the scheme chooses the backend and each
//! backend has its own grammar for the rest. Nothing here opens a connection.

mod error;
mod external;
mod hosts;
mod mysql;
mod postgres;
mod query;
mod secret;
mod sqlite;
mod tls;

#[cfg(test)]
mod tests;

use std::fmt;

pub use error::EndpointError;
pub use external::EtcdEndpoint;
pub use hosts::{PostgresHost, PostgresTarget};
pub use mysql::{MysqlAddress, MysqlEndpoint, MysqlTls};
pub use postgres::{PostgresEndpoint, PostgresTls};
pub use secret::Secret;
pub use sqlite::{SqliteEndpoint, Synchronous};
pub use tls::TlsFiles;

/// The database taken where an endpoint names none.
pub const DEFAULT_DATABASE: &str = "kubernetes";

/// A parsed datastore endpoint. Neither `Debug` nor `Display` shows a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A SQLite file.
    Sqlite(SqliteEndpoint),
    /// A Postgres server.
    Postgres(PostgresEndpoint),
    /// A MySQL or MariaDB server; which of them shows on connecting.
    Mysql(MysqlEndpoint),
    /// An external etcd.
    Etcd(EtcdEndpoint),
}

impl Endpoint {
    /// Parses `text`; an empty one is the SQLite file `./db/state.db`. `tls`
    /// applies to connections to the database.
    pub fn parse(text: &str, tls: TlsFiles) -> Result<Self, EndpointError> {
        tls.check()?;
        if text.is_empty() {
            return sqlite::parse("").map(Self::Sqlite);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            // What has no scheme may be a DSN with a password: it is not repeated.
            return Err(EndpointError::new(
                "the datastore endpoint has no scheme; write for example \
                 postgres://user:password@host:5432/kubernetes, \
                 mysql://user:password@tcp(host:3306)/kubernetes, sqlite://path \
                 or https://host:2379",
            ));
        };
        match scheme {
            "sqlite" => sqlite::parse(rest).map(Self::Sqlite),
            "postgres" | "postgresql" => postgres::parse(rest, tls).map(Self::Postgres),
            "mysql" | "mariadb" => mysql::parse(rest, tls).map(Self::Mysql),
            "http" | "https" | "unix" | "unixs" => external::parse(scheme, rest, tls).map(Self::Etcd),
            "nats" | "jetstream" | "memory" | "t4" | "litestream" => Err(EndpointError::new(format!(
                "the datastore {scheme}:// is not supported; use sqlite, postgres, mysql, http or https"
            ))),
            _ => Err(EndpointError::new(
                "the datastore endpoint's scheme is unknown; use sqlite, postgres, mysql, http, https, \
                 unix or unixs",
            )),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(endpoint) => endpoint.fmt(f),
            Self::Postgres(endpoint) => endpoint.fmt(f),
            Self::Mysql(endpoint) => endpoint.fmt(f),
            Self::Etcd(endpoint) => endpoint.fmt(f),
        }
    }
}
