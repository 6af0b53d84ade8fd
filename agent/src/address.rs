//! Where a server is.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use rustls::pki_types::ServerName;

/// A server's host and port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

/// Why a text is no address of a server.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Not `https`.
    #[error("{0:?} is no URL of a server: it must begin with https://")]
    Scheme(String),
    /// A path, user or query.
    #[error("{0:?} is no URL of a server: nothing may follow host and port")]
    Rest(String),
    /// No host, no port, or no good ones.
    #[error("{0:?} is no host with a port, such as 10.0.0.1:6443 or [fd00::1]:6443")]
    HostPort(String),
}

impl ServerAddress {
    /// The port where a URL names none.
    pub const DEFAULT_PORT: u16 = 6443;

    /// Reads `https://host[:port]`, as `--server` is given.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_url(url: &str) -> Result<Self, AddressError> {
        let scheme = url.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://"));
        let Some(rest) = scheme.and(url.get(8..)) else { return Err(AddressError::Scheme(url.to_owned())) };
        let rest = rest.trim_end_matches('/');
        if rest.contains(['/', '?', '#', '@']) {
            return Err(AddressError::Rest(url.to_owned()));
        }
        let has_port = rest
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.contains(':') || host.ends_with(']') && !port.ends_with(']'));
        if has_port { rest.parse() } else { format!("{rest}:{}", Self::DEFAULT_PORT).parse() }
    }

    /// The host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What to connect to.
    pub(crate) fn dial(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The name its certificate must bear.
    pub(crate) fn name(&self) -> std::io::Result<ServerName<'static>> {
        ServerName::try_from(self.host.clone())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))
    }
}

impl FromStr for ServerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::HostPort(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().map_err(|_| wrong())?.to_string(),
            None if host.contains(':') => return Err(wrong()),
            None => host.to_owned(),
        };
        // Names and addresses alike, and nothing else.
        ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        Ok(ServerAddress { host, port })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_addresses_are_read() {
        for (url, shown) in [
            ("https://10.0.0.1", "10.0.0.1:6443"),
            ("https://server.example:1234/", "server.example:1234"),
            ("HTTPS://[fd00::1]", "[fd00::1]:6443"),
            ("https://[fd00:0::1]:9345", "[fd00::1]:9345"),
        ] {
            let address = ServerAddress::from_url(url).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        let reason = |url| ServerAddress::from_url(url).unwrap_err();
        assert!(matches!(reason("http://a:1"), AddressError::Scheme(_)));
        assert!(matches!(reason("a:6443"), AddressError::Scheme(_)));
        assert!(matches!(reason("https://a:1/path"), AddressError::Rest(_)));
        assert!(matches!(reason("https://user@a:1"), AddressError::Rest(_)));
        for url in [
            "https://",
            "https://a:0",
            "https://a:70000",
            "https://fd00::1",
            "https://a b:1",
            "https://:1",
            "https://[a]:1",
        ] {
            assert!(matches!(reason(url), AddressError::HostPort(_)), "{url}");
        }
    }
}
