//! `mysql://` and the DSN of Go's driver:
//! `[user[:password]@][net[(address)]]/database[?parameters]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::tls::is_this_machine;
use super::{DEFAULT_DATABASE, EndpointError, Secret, TlsFiles, query};

const DEFAULT_PORT: u16 = 3306;
const DEFAULT_SOCKET: &str = "/var/run/mysqld/mysqld.sock";

/// How long opening a connection may take where nothing is said.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MysqlAddress {
    /// A host name or address (IPv6 without brackets), and a port.
    Tcp(String, u16),
    /// A socket's path.
    Unix(PathBuf),
}

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MysqlTls {
    /// Never.
    Disabled,
    /// Where the server insists; any certificate.
    Allowed,
    /// Where the server can; any certificate.
    Preferred,
    /// Always; any certificate.
    Required,
    /// Always; the certificate is by a known authority and names the host.
    Verified,
}

/// A MySQL or MariaDB database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MysqlEndpoint {
    /// Where the server listens.
    pub address: MysqlAddress,
    /// The user.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How the connection is encrypted.
    pub tls_mode: MysqlTls,
    /// Files for it.
    pub tls: TlsFiles,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// Whether the password may be sent as it is (for PAM and LDAP).
    pub cleartext_password: bool,
    /// System variables for each session, as written.
    pub variables: Vec<(String, String)>,
}

impl fmt::Display for MysqlEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mysql://{}@", self.user)?;
        match &self.address {
            MysqlAddress::Tcp(host, port) if host.contains(':') => write!(f, "tcp([{host}]:{port})")?,
            MysqlAddress::Tcp(host, port) => write!(f, "tcp({host}:{port})")?,
            MysqlAddress::Unix(path) => write!(f, "unix({})", path.display())?,
        }
        write!(f, "/{}", self.database)
    }
}

/// Parses what follows `mysql://`.
pub(super) fn parse(rest: &str, tls: TlsFiles) -> Result<MysqlEndpoint, EndpointError> {
    let default = format!("root@unix({DEFAULT_SOCKET})/");
    let rest = if rest.is_empty() { &default } else { rest };
    // From the right, as the driver does: a password may hold a / and an @.
    // The parameters' values may hold a / too, so they are cut off first,
    // behind the address.
    let address_end = rest.rfind(')').map_or(0, |at| at + 1);
    let (front, tail) = rest.split_at(address_end);
    let (tail, parameters) = tail.split_once('?').unwrap_or((tail, ""));
    let Some((tail, database)) = tail.rsplit_once('/') else {
        return Err(EndpointError::new(
            "the MySQL endpoint lacks the / before the database's name; write user:password@tcp(host:3306)/kubernetes",
        ));
    };
    let server = format!("{front}{tail}");
    let (login, address) = server.rsplit_once('@').unwrap_or(("", &server));
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(Secret::new(password))),
        None => (login, None),
    };
    let database = query::decode(database, "the database's name")?;
    let mut endpoint = MysqlEndpoint {
        address: address_of(address)?,
        user: if user.is_empty() { "root".to_owned() } else { user.to_owned() },
        password,
        database: if database.is_empty() { DEFAULT_DATABASE.to_owned() } else { database },
        tls_mode: MysqlTls::Preferred,
        tls,
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        cleartext_password: false,
        variables: Vec::new(),
    };
    let mut mode = None;
    for (name, value) in query::pairs(parameters)? {
        if name == "tls" {
            mode = Some(tls_of(&value)?);
        } else {
            endpoint.apply(name, value)?;
        }
    }
    endpoint.tls_mode = endpoint.effective_mode(mode);
    Ok(endpoint)
}

fn address_of(text: &str) -> Result<MysqlAddress, EndpointError> {
    let (network, address) = match text.split_once('(') {
        Some((network, rest)) => {
            let address = rest.strip_suffix(')').ok_or_else(|| {
                EndpointError::new("the MySQL endpoint's address lacks its closing parenthesis")
            })?;
            (network, address)
        }
        None => (text, ""),
    };
    match network {
        "" | "tcp" | "tcp4" | "tcp6" => {
            let address = if address.is_empty() { "127.0.0.1" } else { address };
            let (host, port) = query::host_and_port(address, DEFAULT_PORT)?;
            let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
            Ok(MysqlAddress::Tcp(host, port))
        }
        "unix" => {
            let path = if address.is_empty() { DEFAULT_SOCKET } else { address };
            Ok(MysqlAddress::Unix(PathBuf::from(path)))
        }
        _ => Err(EndpointError::new(
            "the MySQL endpoint's address must be written tcp(host:port) or unix(/path)",
        )),
    }
}

fn tls_of(value: &str) -> Result<MysqlTls, EndpointError> {
    match value.to_ascii_lowercase().as_str() {
        "skip-verify" => Ok(MysqlTls::Required),
        "preferred" => Ok(MysqlTls::Preferred),
        // The name under which kine registers the files of the flags.
        "custom" | "kine" => Ok(MysqlTls::Verified),
        _ => match query::boolean("tls", value) {
            Ok(true) => Ok(MysqlTls::Verified),
            Ok(false) => Ok(MysqlTls::Disabled),
            Err(_) => Err(EndpointError::new(
                "the MySQL parameter tls must be true, false, skip-verify or preferred",
            )),
        },
    }
}

impl MysqlEndpoint {
    fn apply(&mut self, name: String, value: String) -> Result<(), EndpointError> {
        match name.as_str() {
            "timeout" => {
                let timeout = query::duration(&name, &value)?;
                if !timeout.is_zero() {
                    self.connect_timeout = timeout;
                }
            }
            "allowCleartextPasswords" => self.cleartext_password = query::boolean(&name, &value)?,
            // Matters of the Go driver that have no counterpart or hold anyway.
            "parseTime"
            | "loc"
            | "charset"
            | "collation"
            | "interpolateParams"
            | "multiStatements"
            | "allowNativePasswords"
            | "allowOldPasswords"
            | "allowAllFiles"
            | "allowFallbackToPlaintext"
            | "checkConnLiveness"
            | "clientFoundRows"
            | "columnsWithAlias"
            | "maxAllowedPacket"
            | "rejectReadOnly"
            | "serverPubKey"
            | "connectionAttributes"
            | "readTimeout"
            | "writeTimeout"
            | "timeTruncate"
            | "compress" => {}
            _ if is_variable(&name) && is_value(&value) => self.variables.push((name, value)),
            _ => {
                return Err(EndpointError::new(
                    "a MySQL parameter is neither known nor a system variable with a plain value",
                ));
            }
        }
        Ok(())
    }

    fn is_on_this_machine(&self) -> bool {
        match &self.address {
            MysqlAddress::Tcp(host, _) => is_this_machine(host),
            MysqlAddress::Unix(_) => true,
        }
    }

    fn effective_mode(&self, given: Option<MysqlTls>) -> MysqlTls {
        let files = self.tls.ca_file.is_some() || self.tls.cert_file.is_some();
        match given {
            Some(MysqlTls::Disabled) => MysqlTls::Disabled,
            _ if self.tls.skip_verify => MysqlTls::Required,
            Some(mode) => mode,
            None if files => MysqlTls::Verified,
            None if self.is_on_this_machine() => MysqlTls::Allowed,
            None => MysqlTls::Preferred,
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'@'))
}

/// A number, a word, or a quoted text without a quote in it.
fn is_value(value: &str) -> bool {
    let plain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b',' | b':' | b'+'))
    };
    match value.strip_prefix('\'') {
        Some(rest) => rest.strip_suffix('\'').is_some_and(|text| text.is_empty() || plain(text)),
        None => plain(value),
    }
}
