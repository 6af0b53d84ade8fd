//! The servers of a Postgres endpoint, and which of them will do.

use super::{EndpointError, query};

const DEFAULT_PORT: u16 = 5432;

/// The most hosts tried.
const MAX_HOSTS: usize = 16;

/// One server: a host name or address, or the folder of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresHost {
    /// A name, an address without brackets, or a folder beginning with `/`.
    pub host: String,
    /// Its port, which also names the socket's file.
    pub port: u16,
}

/// Which servers are connected to: `target_session_attrs`. A standby never is,
/// for the store writes, and must not read what is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresTarget {
    /// One whose sessions may write by default.
    ReadWrite,
    /// Any that is no standby.
    Primary,
}

impl PostgresTarget {
    /// Reads `target_session_attrs`.
    pub(super) fn parse(value: &str) -> Result<Self, EndpointError> {
        match value {
            "read-write" => Ok(Self::ReadWrite),
            "primary" | "any" => Ok(Self::Primary),
            "read-only" | "standby" | "prefer-standby" => Err(EndpointError::new(
                "the Postgres parameter target_session_attrs asks for a server that takes no writes; the \
                 datastore must be written: use read-write or primary",
            )),
            _ => Err(EndpointError::new(
                "the Postgres parameter target_session_attrs must be read-write, primary or any",
            )),
        }
    }
}

/// The hosts in the URL itself: `host:port,host:port`.
pub(super) fn in_url(text: &str) -> Result<Vec<PostgresHost>, EndpointError> {
    bounded(text.split(',').map(|one| {
        let (host, port) = query::host_and_port(one, DEFAULT_PORT)?;
        Ok(named(&query::decode(&host, "the host")?, port))
    }))
}

/// The hosts of the parameter `host`, where an address needs no brackets.
pub(super) fn in_parameter(text: &str) -> Result<Vec<PostgresHost>, EndpointError> {
    bounded(text.split(',').map(|one| {
        let bare_address = one.matches(':').count() > 1 && !one.starts_with('[');
        if one.starts_with('/') || bare_address {
            return Ok(named(one, DEFAULT_PORT));
        }
        let (host, port) = query::host_and_port(one, DEFAULT_PORT)?;
        Ok(named(&host, port))
    }))
}

fn named(host: &str, port: u16) -> PostgresHost {
    PostgresHost { host: if host.is_empty() { "localhost" } else { host }.to_owned(), port }
}

fn bounded(
    hosts: impl Iterator<Item = Result<PostgresHost, EndpointError>>,
) -> Result<Vec<PostgresHost>, EndpointError> {
    let hosts: Vec<PostgresHost> = hosts.collect::<Result<_, _>>()?;
    if hosts.len() > MAX_HOSTS {
        return Err(EndpointError::new(format!("the Postgres endpoint lists more than {MAX_HOSTS} hosts")));
    }
    Ok(hosts)
}

/// The parameter `port`: one for all hosts, or one for each.
pub(super) fn set_ports(hosts: &mut [PostgresHost], text: &str) -> Result<(), EndpointError> {
    let ports = text
        .split(',')
        .map(|one| if one.is_empty() { Ok(DEFAULT_PORT) } else { query::port(one) })
        .collect::<Result<Vec<u16>, _>>()?;
    match ports.as_slice() {
        [port] => hosts.iter_mut().for_each(|host| host.port = *port),
        ports if ports.len() == hosts.len() => {
            hosts.iter_mut().zip(ports).for_each(|(host, port)| host.port = *port);
        }
        _ => {
            return Err(EndpointError::new(format!(
                "the Postgres endpoint has {} ports for {} hosts; give one port, or one for each host",
                ports.len(),
                hosts.len()
            )));
        }
    }
    Ok(())
}
