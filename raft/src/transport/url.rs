//! Peer URLs.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// Where a member listens for its peers: `http://host:port` or
/// `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerUrl {
    /// TLS is used.
    pub tls: bool,
    /// Name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A text that is not a peer URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid peer URL {url:?}: {reason}")]
pub struct InvalidPeerUrl {
    /// The text.
    pub url: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl FromStr for PeerUrl {
    type Err = InvalidPeerUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidPeerUrl { url: text.to_owned(), reason };
        let uri: Uri = text.parse().map_err(|_| invalid("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid("the scheme must be http or https")),
        };
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| invalid("the host is missing"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().ok_or_else(|| invalid("the port is missing"))?;
        if !matches!(uri.path(), "" | "/") {
            return Err(invalid("a path is not allowed"));
        }
        Ok(PeerUrl { tls, host, port })
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_urls() {
        for text in ["http://10.0.0.1:2380", "https://node.example:1", "http://[::1]:2380"] {
            assert_eq!(text.parse::<PeerUrl>().unwrap().to_string(), text);
        }
        assert_eq!("https://[::1]:2380".parse::<PeerUrl>().unwrap().host, "::1");
    }

    #[test]
    fn refuses_what_cannot_be_dialled() {
        for text in
            ["", "localhost:2380", "ftp://a:1", "http://a", "http://a:1/path", "http://:1", "http://a:99999"]
        {
            assert!(text.parse::<PeerUrl>().is_err(), "{text}");
        }
    }
}
