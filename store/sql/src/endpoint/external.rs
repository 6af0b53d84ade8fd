//! An external etcd: a list of its addresses.

use std::fmt;

use super::{EndpointError, TlsFiles};

/// The most addresses taken.
const MAX_ADDRESSES: usize = 64;

/// The addresses of an external etcd, each with its scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdEndpoint {
    /// `http://host:port`, `https://...`, `unix://path` or `unixs://path`.
    pub addresses: Vec<String>,
    /// TLS towards it.
    pub tls: TlsFiles,
}

impl fmt::Display for EtcdEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addresses.join(","))
    }
}

/// Parses `a,b,c`; an address without a scheme has that of the first.
pub(super) fn parse(scheme: &str, rest: &str, tls: TlsFiles) -> Result<EtcdEndpoint, EndpointError> {
    let addresses: Vec<String> =
        rest.split(',').map(|address| one(scheme, address.trim())).collect::<Result<_, _>>()?;
    if addresses.len() > MAX_ADDRESSES {
        return Err(EndpointError::new(format!(
            "the datastore endpoint lists more than {MAX_ADDRESSES} etcd addresses"
        )));
    }
    Ok(EtcdEndpoint { addresses, tls })
}

fn one(scheme: &str, address: &str) -> Result<String, EndpointError> {
    let (scheme, rest) = address.split_once("://").unwrap_or((scheme, address));
    if !matches!(scheme, "http" | "https" | "unix" | "unixs") {
        return Err(EndpointError::new(
            "an etcd address must begin with http://, https://, unix:// or unixs://",
        ));
    }
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() {
        return Err(EndpointError::new("the datastore endpoint has an empty etcd address"));
    }
    if rest.contains('@') && scheme.starts_with("http") {
        return Err(EndpointError::new(
            "an etcd address takes no user or password; use a client certificate",
        ));
    }
    Ok(format!("{scheme}://{rest}"))
}
