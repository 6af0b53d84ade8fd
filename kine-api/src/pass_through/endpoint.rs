//! Where an external etcd listens.

use std::fmt;
use std::path::PathBuf;

use http::Uri;
use http::uri::Authority;

/// Most endpoints taken.
const MAX_ENDPOINTS: usize = 64;

/// One endpoint of an external etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) tls: bool,
    pub(super) address: Address,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// Host and port.
    Tcp(Authority),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads a list such as `http://a:2379,b:2379`. An endpoint without a
    /// scheme has the one before it.
    ///
    /// # Errors
    /// A sentence that names the endpoint and what is wrong with it.
    pub fn parse_list(list: &str) -> Result<Vec<Endpoint>, String> {
        let mut scheme = None;
        let mut endpoints = Vec::new();
        for item in list.split(',').map(str::trim) {
            let rest = match item.split_once("://") {
                Some((name, rest)) => {
                    scheme = Some(name.to_ascii_lowercase());
                    rest
                }
                None => item,
            };
            let scheme = scheme.as_deref().ok_or_else(|| {
                "an endpoint has no scheme: want http://, https://, unix:// or unixs://".to_owned()
            })?;
            let endpoint = Endpoint::parse(scheme, rest).map_err(|e| {
                // What stands before an @ may be a password.
                let shown = item.rsplit_once('@').map_or(item, |(_, host)| host);
                format!("endpoint {shown:?}: {e}")
            })?;
            if endpoints.contains(&endpoint) {
                continue;
            }
            if endpoints.len() == MAX_ENDPOINTS {
                return Err(format!("more than {MAX_ENDPOINTS} endpoints"));
            }
            endpoints.push(endpoint);
        }
        Ok(endpoints)
    }

    fn parse(scheme: &str, rest: &str) -> Result<Endpoint, String> {
        let tls = matches!(scheme, "https" | "unixs");
        let address = match scheme {
            "http" | "https" => Address::Tcp(authority(rest)?),
            "unix" | "unixs" if rest.is_empty() => return Err("names no socket".to_owned()),
            "unix" | "unixs" => Address::Unix(PathBuf::from(rest)),
            _ => return Err(format!("scheme {scheme:?} is not http, https, unix or unixs")),
        };
        Ok(Endpoint { tls, address })
    }

    /// True if connections to it are encrypted.
    pub fn uses_tls(&self) -> bool {
        self.tls
    }

    /// What requests name as their host.
    pub(super) fn authority(&self) -> Authority {
        match &self.address {
            Address::Tcp(authority) => authority.clone(),
            Address::Unix(_) => Authority::from_static("localhost"),
        }
    }

    /// The name its certificate must be for.
    pub(super) fn server_name(&self) -> &str {
        match &self.address {
            Address::Tcp(authority) => authority.host().trim_start_matches('[').trim_end_matches(']'),
            Address::Unix(_) => "localhost",
        }
    }

    /// The URI of a request to it.
    pub(super) fn uri(&self, target: &Uri) -> Result<Uri, http::Error> {
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        let scheme = if self.tls { "https" } else { "http" };
        Uri::builder().scheme(scheme).authority(self.authority()).path_and_query(path).build()
    }
}

fn authority(text: &str) -> Result<Authority, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains('@') {
        return Err("a user in the address means nothing to etcd; remove what stands before the @".to_owned());
    }
    let authority: Authority = text.parse().map_err(|_| "is not host:port".to_owned())?;
    match authority.port_u16() {
        Some(_) if !authority.host().is_empty() => Ok(authority),
        _ => Err("is not host:port, such as 127.0.0.1:2379".to_owned()),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.address, self.tls) {
            (Address::Tcp(authority), false) => write!(f, "http://{authority}"),
            (Address::Tcp(authority), true) => write!(f, "https://{authority}"),
            (Address::Unix(path), false) => write!(f, "unix://{}", path.display()),
            (Address::Unix(path), true) => write!(f, "unixs://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists() {
        for (list, want) in [
            ("http://a:1", "http://a:1"),
            ("http://a:1,b:2", "http://a:1 http://b:2"),
            ("https://a:1/, http://[::1]:2,c:3,c:3", "https://a:1 http://[::1]:2 http://c:3"),
            ("unix:///run/e.sock,http://a:1", "unix:///run/e.sock http://a:1"),
            ("unixs://e.sock", "unixs://e.sock"),
        ] {
            let endpoints = Endpoint::parse_list(list).unwrap();
            let names: Vec<_> = endpoints.iter().map(Endpoint::to_string).collect();
            assert_eq!(names.join(" "), want);
        }
        assert_eq!(Endpoint::parse_list("https://[::1]:2").unwrap()[0].server_name(), "::1");
    }

    #[test]
    fn refuses_what_is_no_endpoint() {
        for list in ["", "a:1", "http://", "http://a", "http://a:1,", "http://a:1/x", "ftp://a:1", "unix://"]
        {
            assert!(Endpoint::parse_list(list).is_err(), "{list}");
        }
        let many = (0..65).map(|port| format!("http://a:{port}")).collect::<Vec<_>>().join(",");
        assert!(Endpoint::parse_list(&many).is_err());
        let error = Endpoint::parse_list("http://user:secret@a:1,b").unwrap_err();
        assert!(error.contains("a:1") && !error.contains("secret"), "{error}");
    }
}
