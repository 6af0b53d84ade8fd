//! The files that secure the connection to the database.

use std::net::IpAddr;
use std::path::PathBuf;

use super::EndpointError;

/// TLS towards the datastore, as the flags give it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that may have signed the server's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// Accept any certificate of the server.
    pub skip_verify: bool,
}

/// Whether a host is this machine: nothing is on the way there that could
/// listen. Without encryption a statement is one write, for which no
/// acknowledgement is waited in between (sqlx leaves Nagle's algorithm on).
pub(super) fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || host.starts_with('/') || address.is_ok_and(|address| address.is_loopback())
}

impl TlsFiles {
    /// Whether nothing at all is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A certificate and its key come together.
    pub(super) fn check(&self) -> Result<(), EndpointError> {
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => {
                Err(EndpointError::new("a certificate file for the datastore is given without its key file"))
            }
            (None, Some(_)) => {
                Err(EndpointError::new("a key file for the datastore is given without its certificate file"))
            }
            _ => Ok(()),
        }
    }
}
