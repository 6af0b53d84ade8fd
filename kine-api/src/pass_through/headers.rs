//! What of a request's and an answer's headers belongs to one hop alone.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use http::header::{CONNECTION, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Extensions, HeaderMap};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Removes what holds for one connection; `upgrade` is kept where asked.
pub(super) fn strip_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().filter(|name| !(keep_upgrade && name == UPGRADE)) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONNECTION);
    if keep_upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    } else {
        headers.remove(UPGRADE);
    }
}

/// Adds the client's address to `x-forwarded-for`.
pub(super) fn add_forwarded_for(headers: &mut HeaderMap, extensions: &Extensions) {
    let Some(ConnectInfo(remote)) = extensions.get::<ConnectInfo<SocketAddr>>() else { return };
    let mut value = Vec::new();
    for earlier in headers.get_all(FORWARDED_FOR) {
        value.extend_from_slice(earlier.as_bytes());
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(remote.ip().to_string().as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_all_but_the_hop() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("X-Hop, upgrade"));
        for name in ["x-hop", "upgrade", "keep-alive", "token", "te", "grpc-timeout"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        let mut upgraded = headers.clone();
        strip_hop(&mut headers, false);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-timeout", "te", "token"]);
        strip_hop(&mut upgraded, true);
        assert_eq!(upgraded.get(UPGRADE).unwrap(), "v");
        assert_eq!(upgraded.get(CONNECTION).unwrap(), "Upgrade");
    }

    #[test]
    fn appends_the_client() {
        let mut extensions = Extensions::new();
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("10.0.0.1"));
        add_forwarded_for(&mut headers, &extensions);
        assert_eq!(headers.get(FORWARDED_FOR).unwrap(), "10.0.0.1");
        extensions.insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 2], 5))));
        add_forwarded_for(&mut headers, &extensions);
        assert_eq!(headers.get(FORWARDED_FOR).unwrap(), "10.0.0.1, 10.0.0.2");
    }
}
