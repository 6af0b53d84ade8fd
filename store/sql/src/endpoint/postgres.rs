//! `postgres://user:password@host:port/database?parameters`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::hosts::{self, PostgresHost, PostgresTarget};
use super::tls::is_this_machine;
use super::{DEFAULT_DATABASE, EndpointError, Secret, TlsFiles, query};

/// How long opening a connection may take where nothing is said.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The `sslmode` of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresTls {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server insists.
    Allow,
    /// Encrypted where the server can.
    Prefer,
    /// Encrypted, any certificate.
    Require,
    /// Encrypted, a certificate by a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull,
}

/// A Postgres database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresEndpoint {
    /// The servers, tried in their order.
    pub hosts: Vec<PostgresHost>,
    /// Which of them will do.
    pub target: PostgresTarget,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How the connection is encrypted.
    pub ssl_mode: PostgresTls,
    /// Files for it.
    pub tls: TlsFiles,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// Whether statements may stay prepared between transactions. Unset: found
    /// out on connecting, for behind PgBouncer in transaction mode they cannot.
    pub prepared_statements: Option<bool>,
    /// The name shown in the server's list of sessions.
    pub application_name: String,
    /// Settings for each session, such as `search_path`.
    pub settings: Vec<(String, String)>,
}

impl fmt::Display for PostgresEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(|h| format!("{}:{}", h.host, h.port)).collect();
        write!(f, "postgres://{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}

/// Parses what follows `postgres://`.
pub(super) fn parse(rest: &str, tls: TlsFiles) -> Result<PostgresEndpoint, EndpointError> {
    let rest = if rest.is_empty() { "postgres:postgres@localhost" } else { rest };
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => (Some(login), rest),
        None => (None, rest),
    };
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('/') {
        return Err(EndpointError::new(
            "the Postgres endpoint has a second / after its host: a / in the user or the \
             password is written %2F, and the database's name has none",
        ));
    }
    let (user, password) = login_of(login)?;
    let database = query::decode(path, "the database's name")?.to_lowercase();
    let mut endpoint = PostgresEndpoint {
        hosts: hosts::in_url(hosts)?,
        target: PostgresTarget::ReadWrite,
        user,
        password,
        database: if database.is_empty() { DEFAULT_DATABASE.to_owned() } else { database },
        ssl_mode: PostgresTls::Prefer,
        tls,
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        prepared_statements: None,
        application_name: "skiff".to_owned(),
        settings: Vec::new(),
    };
    let (mut ssl_mode, mut ports) = (None, None);
    for (name, value) in query::pairs(parameters)? {
        match name.as_str() {
            "sslmode" => ssl_mode = Some(mode_of(&value)?),
            // Whatever the order of the two.
            "port" => ports = Some(value),
            _ => endpoint.apply(name, value)?,
        }
    }
    if let Some(ports) = ports {
        hosts::set_ports(&mut endpoint.hosts, &ports)?;
    }
    endpoint.tls.check()?;
    endpoint.ssl_mode = endpoint.effective_mode(ssl_mode);
    Ok(endpoint)
}

fn login_of(login: Option<&str>) -> Result<(String, Option<Secret>), EndpointError> {
    let (user, password) = match login {
        Some(login) => match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        },
        None => ("", None),
    };
    let user = query::decode(user, "the user")?;
    let password = password.map(|text| query::decode(text, "the password")).transpose()?;
    Ok((if user.is_empty() { "postgres".to_owned() } else { user }, password.map(Secret::new)))
}

fn mode_of(value: &str) -> Result<PostgresTls, EndpointError> {
    Ok(match value {
        "disable" => PostgresTls::Disable,
        "allow" => PostgresTls::Allow,
        "prefer" => PostgresTls::Prefer,
        "require" => PostgresTls::Require,
        "verify-ca" => PostgresTls::VerifyCa,
        "verify-full" => PostgresTls::VerifyFull,
        _ => {
            return Err(EndpointError::new(
                "the Postgres parameter sslmode must be disable, allow, prefer, require, verify-ca or verify-full",
            ));
        }
    })
}

impl PostgresEndpoint {
    fn apply(&mut self, name: String, value: String) -> Result<(), EndpointError> {
        match name.as_str() {
            "user" => self.user = value,
            "password" => self.password = Some(Secret::new(value)),
            "dbname" | "database" => self.database = value.to_lowercase(),
            "host" => self.hosts = hosts::in_parameter(&value)?,
            "target_session_attrs" => self.target = PostgresTarget::parse(&value)?,
            // There is one primary at most.
            "load_balance_hosts" => {}
            "sslrootcert" => self.tls.ca_file = Some(PathBuf::from(value)),
            "sslcert" => self.tls.cert_file = Some(PathBuf::from(value)),
            "sslkey" => self.tls.key_file = Some(PathBuf::from(value)),
            "connect_timeout" => {
                let seconds: u16 = value.parse().map_err(|_| {
                    EndpointError::new("the Postgres parameter connect_timeout must be seconds")
                })?;
                if seconds > 0 {
                    self.connect_timeout = Duration::from_secs(seconds.into());
                }
            }
            "application_name" | "fallback_application_name" => self.application_name = value,
            "prepared_statements" => self.prepared_statements = Some(query::boolean(&name, &value)?),
            "default_query_exec_mode" => {
                self.prepared_statements = Some(!matches!(
                    value.as_str(),
                    "exec" | "simple_protocol" | "cache_describe" | "describe_exec"
                ));
            }
            "statement_cache_capacity" => self.prepared_statements = (value == "0").then_some(false),
            "binary_parameters" | "sslsni" | "gssencmode" | "sslcompression" | "channel_binding" => {}
            "keepalives" | "keepalives_idle" | "keepalives_interval" | "keepalives_count" => {}
            _ if is_setting(&name) => self.settings.push((name, value)),
            _ => return Err(EndpointError::new("a Postgres parameter has a name that cannot be one")),
        }
        Ok(())
    }

    /// What the files say where `sslmode` says nothing; and `require` with an
    /// authority's file verifies against it, as libpq does.
    fn effective_mode(&self, given: Option<PostgresTls>) -> PostgresTls {
        let has_ca = self.tls.ca_file.is_some();
        match given {
            _ if self.tls.skip_verify && given != Some(PostgresTls::Disable) => PostgresTls::Require,
            None if has_ca => PostgresTls::VerifyFull,
            None if self.tls.cert_file.is_some() => PostgresTls::VerifyFull,
            None if self.hosts.iter().all(|host| is_this_machine(&host.host)) => PostgresTls::Allow,
            None => PostgresTls::Prefer,
            Some(PostgresTls::Require) if has_ca => PostgresTls::VerifyCa,
            Some(mode) => mode,
        }
    }
}

/// Whether `name` may be a server setting (`search_path`, `my.setting`).
fn is_setting(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}
