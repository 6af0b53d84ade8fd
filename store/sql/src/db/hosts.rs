//! Finding the Postgres server that takes writes, among the hosts of an
//! endpoint.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Row as _};

use super::postgres::failed;
use super::{DbError, DbErrorKind};
use crate::endpoint::{Endpoint, PostgresEndpoint, PostgresHost, PostgresTarget, PostgresTls};

/// What a server is, asked without a prepared statement, which a pooler might
/// not keep.
const ROLE: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' WHEN \
     current_setting('default_transaction_read_only') = 'on' THEN 'read-only' ELSE 'primary' END";

/// The hosts of an endpoint.
pub(super) struct Hosts {
    hosts: Vec<Host>,
    target: PostgresTarget,
    limit: Duration,
    /// The endpoint, for errors.
    shown: String,
    /// The host that was connected to last. It is asked first: the one before
    /// it in the list may come back as what it was, but no more with the data.
    last: AtomicUsize,
}

struct Host {
    name: String,
    /// Ways to connect; the next where one is denied.
    ways: Vec<PgConnectOptions>,
}

impl Hosts {
    pub(super) fn new(endpoint: &PostgresEndpoint) -> Self {
        let host = |host: &PostgresHost| Host {
            name: format!("{}:{}", host.host, host.port),
            ways: modes(endpoint.ssl_mode)
                .iter()
                .map(|mode| connect_options(endpoint, host).ssl_mode(*mode))
                .collect(),
        };
        Self {
            hosts: endpoint.hosts.iter().map(host).collect(),
            target: endpoint.target,
            limit: endpoint.connect_timeout,
            shown: format!("the database {}", Endpoint::Postgres(endpoint.clone())),
            last: AtomicUsize::new(0),
        }
    }

    /// Connects to the first host that will do.
    ///
    /// # Errors
    /// Why none does, for each. That all are standbys is [`DbErrorKind::Unreachable`]:
    /// one of them will be promoted.
    pub(super) async fn open(&self) -> Result<PgConnection, DbError> {
        let mut faults = Vec::new();
        for (at, host) in self.in_order() {
            match self.open_one(host).await {
                Ok(connection) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => faults.push((host, error.while_opening(&self.shown))),
            }
        }
        Err(self.fault_of_all(faults))
    }

    /// The options of each host, that which was connected to last first.
    pub(super) fn options(&self) -> impl Iterator<Item = &PgConnectOptions> {
        self.in_order().flat_map(|(_, host)| &host.ways)
    }

    /// An error of one host, as one of the whole.
    pub(super) fn while_opening(&self, error: DbError) -> DbError {
        error.while_opening(&self.shown)
    }

    fn in_order(&self) -> impl Iterator<Item = (usize, &Host)> {
        let count = self.hosts.len();
        let first = self.last.load(Ordering::Relaxed);
        (0..count).filter_map(move |n| {
            let at = (first + n) % count;
            self.hosts.get(at).map(|host| (at, host))
        })
    }

    async fn open_one(&self, host: &Host) -> Result<PgConnection, DbError> {
        let mut denied = None;
        for options in &host.ways {
            let opening = tokio::time::timeout(self.limit, self.open_as(options)).await;
            let opened = opening.unwrap_or_else(|_| {
                let text = format!("no answer within {:?}", self.limit);
                Err(DbError::new(DbErrorKind::Unreachable, text))
            });
            match opened {
                Err(error) if error.kind() == DbErrorKind::Denied => denied = denied.or(Some(error)),
                other => return other,
            }
        }
        Err(denied.unwrap_or_else(|| DbError::new(DbErrorKind::Other, "there is no way to connect")))
    }

    async fn open_as(&self, options: &PgConnectOptions) -> Result<PgConnection, DbError> {
        let mut connection = options.connect().await.map_err(|error| failed(&error))?;
        let row = sqlx::raw_sql(ROLE).fetch_one(&mut connection).await.map_err(|error| failed(&error))?;
        let role: String = row.try_get_unchecked(0).map_err(|error| failed(&error))?;
        let refused = match role.as_str() {
            "standby" => "it is a standby, which takes no writes and may be behind",
            "read-only" if self.target == PostgresTarget::ReadWrite => {
                "its sessions are read-only by default (default_transaction_read_only is on)"
            }
            _ => return Ok(connection),
        };
        Err(DbError::new(DbErrorKind::Unreachable, refused))
    }

    /// One error for what each host said.
    fn fault_of_all(&self, mut faults: Vec<(&Host, DbError)>) -> DbError {
        // The primary may be the one that could be asked whether the database is there.
        if let Some(at) = faults.iter().position(|(_, error)| error.kind() == DbErrorKind::Missing) {
            return faults.swap_remove(at).1;
        }
        if faults.len() == 1 {
            return faults.swap_remove(0).1;
        }
        let first = faults.first().map_or(DbErrorKind::Other, |(_, error)| error.kind());
        let alike = faults.iter().all(|(_, error)| error.kind() == first);
        let kind = if alike { first } else { DbErrorKind::Unreachable };
        let opening = format!("opening {}: ", self.shown);
        let each: Vec<String> = faults
            .iter()
            .map(|(host, error)| {
                let text = error.to_string();
                format!("{}: {}", host.name, text.strip_prefix(&opening).unwrap_or(&text))
            })
            .collect();
        DbError::new(kind, format!("{opening}none of its hosts will do: {}", each.join("; ")))
    }
}

/// The driver knows no `allow`: without encryption, and with it where that is
/// denied.
fn modes(mode: PostgresTls) -> &'static [PgSslMode] {
    match mode {
        PostgresTls::Disable => &[PgSslMode::Disable],
        PostgresTls::Allow => &[PgSslMode::Disable, PgSslMode::Require],
        PostgresTls::Prefer => &[PgSslMode::Prefer],
        PostgresTls::Require => &[PgSslMode::Require],
        PostgresTls::VerifyCa => &[PgSslMode::VerifyCa],
        PostgresTls::VerifyFull => &[PgSslMode::VerifyFull],
    }
}

fn connect_options(endpoint: &PostgresEndpoint, host: &PostgresHost) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&host.host)
        .port(host.port)
        .username(&endpoint.user)
        .database(&endpoint.database)
        .application_name(&endpoint.application_name)
        // Poolers refuse start-up parameters that they do not know.
        .extra_float_digits(None)
        .disable_statement_logging();
    if host.host.starts_with('/') {
        options = options.socket(&host.host);
    }
    if !endpoint.settings.is_empty() {
        options = options.options(endpoint.settings.iter().map(|(name, value)| (name, value)));
    }
    if let Some(password) = &endpoint.password {
        options = options.password(password.reveal());
    }
    if let Some(file) = &endpoint.tls.ca_file {
        options = options.ssl_root_cert(file);
    }
    if let (Some(cert), Some(key)) = (&endpoint.tls.cert_file, &endpoint.tls.key_file) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}
