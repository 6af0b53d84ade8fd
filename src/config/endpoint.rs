//! URLs of listeners and members, with etcd's rules for them.

use std::fmt;
use std::net::IpAddr;

/// How a URL is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scheme {
    /// TCP.
    Http,
    /// TCP with TLS.
    Https,
    /// A Unix socket.
    Unix,
    /// A Unix socket with TLS.
    Unixs,
}

impl Scheme {
    /// True where TLS is spoken.
    pub(crate) fn tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    fn text(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

/// A URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// How it is reached.
    pub(crate) scheme: Scheme,
    /// Name or address without brackets; for a Unix socket its path.
    pub(crate) host: String,
    /// Port; 0 for a Unix socket.
    pub(crate) port: u16,
}

impl Endpoint {
    /// Reads a URL.
    pub(crate) fn parse(text: &str) -> Result<Endpoint, String> {
        let text = text.trim();
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("URL {text:?} has no scheme such as http://"))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        };
        if matches!(scheme, Scheme::Unix | Scheme::Unixs) {
            if rest.is_empty() {
                return Err(format!("URL {text} names no socket"));
            }
            return Ok(Endpoint { scheme, host: rest.to_owned(), port: 0 });
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(format!("URL must not contain a path: {text}"));
        }
        let malformed = || format!("URL address does not have the form \"host:port\": {text}");
        let (host, port) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or_else(malformed)?,
            None if host.contains(':') => return Err(malformed()),
            None => host,
        };
        if host.contains(['@', ' ']) {
            return Err(malformed());
        }
        Ok(Endpoint { scheme, host: host.to_owned(), port })
    }

    /// The name a client of TLS expects of it.
    pub(crate) fn tls_name(&self) -> String {
        match self.scheme {
            Scheme::Unix | Scheme::Unixs => "localhost".to_owned(),
            Scheme::Http | Scheme::Https => self.host.clone(),
        }
    }

    /// The address, if the host is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// True if a socket can be bound to it: an address, `localhost`, nothing,
    /// or a Unix socket. A name may resolve elsewhere tomorrow.
    pub(crate) fn bindable(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
            || self.host.is_empty()
            || self.host == "localhost"
            || self.ip().is_some()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.text();
        match self.scheme {
            Scheme::Unix | Scheme::Unixs => write!(f, "{scheme}://{}", self.host),
            _ if self.host.contains(':') => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            _ => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_come_back_as_written() {
        for text in [
            "http://localhost:2379",
            "https://10.0.0.1:2379",
            "http://[::1]:2379",
            "unix://sock:0",
            "http://:2379",
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert!(endpoint.bindable());
        }
        assert_eq!(Endpoint::parse(" http://a:1/ ").unwrap().to_string(), "http://a:1");
        assert!(!Endpoint::parse("http://example.com:1").unwrap().bindable());
    }

    #[test]
    fn bad_urls_are_refused() {
        for text in [
            "",
            "localhost:2379",
            "ftp://a:1",
            "http://a",
            "http://a:1/x",
            "http://a:b",
            "http://::1:2",
            "http://[::1:2",
            "http://a:99999",
            "unix://",
            "http://u@h:1",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}
