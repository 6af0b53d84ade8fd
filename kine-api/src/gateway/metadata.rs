//! Which headers of a request become metadata of the call, and which metadata
//! of an answer become headers, as etcd's gateway decides it.

use std::time::Duration;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::Status;

use crate::layer::{TIMEOUT, read_timeout};

/// Headers of HTTP itself; they go on under [`PREFIX`]. That one of them is
/// there at all tells a gRPC service that the call came through a gateway.
const PERMANENT: [&str; 24] = [
    "accept",
    "accept-charset",
    "accept-language",
    "accept-ranges",
    "authorization",
    "cache-control",
    "content-type",
    "cookie",
    "date",
    "expect",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-schedule-tag-match",
    "if-unmodified-since",
    "max-forwards",
    "origin",
    "pragma",
    "referer",
    "user-agent",
    "via",
    "warning",
];

const PREFIX: &str = "grpcgateway-";

/// What a client puts before the name of metadata, and finds before it.
const METADATA: &str = "grpc-metadata-";

/// Names that are no metadata but part of the protocol.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The metadata of a call.
///
/// # Errors
/// A header for binary metadata holds no base64.
pub(super) fn incoming(headers: &HeaderMap) -> Result<HeaderMap, Status> {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        if name == AUTHORIZATION {
            add(&mut metadata, AUTHORIZATION.as_str(), value);
        }
        let name = name.as_str();
        if PERMANENT.contains(&name) {
            add(&mut metadata, &format!("{PREFIX}{name}"), value);
        } else if let Some(own) = name.strip_prefix(METADATA) {
            if own.ends_with("-bin") && !is_base64(value) {
                let text = format!("invalid binary header {name}: illegal base64 data");
                return Err(Status::invalid_argument(text));
            }
            if !RESERVED.contains(&own) && !own.starts_with("grpc-") {
                add(&mut metadata, own, value);
            }
        }
    }
    // Browsers send it, and so does every other client but the barest.
    let accept = format!("{PREFIX}accept");
    if !metadata.contains_key(&accept) {
        add(&mut metadata, &accept, &HeaderValue::from_static("*/*"));
    }
    Ok(metadata)
}

/// Adds what is valid as metadata.
fn add(metadata: &mut HeaderMap, name: &str, value: &HeaderValue) {
    let printable = value.as_bytes().iter().all(|byte| (0x20..0x7f).contains(byte));
    if let (Ok(name), true) = (HeaderName::try_from(name), printable) {
        metadata.append(name, value.clone());
    }
}

fn is_base64(value: &HeaderValue) -> bool {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(value.as_bytes()).is_ok()
}

/// The time a client gives a call; `None` when it sets no limit.
///
/// # Errors
/// It is not a number and a unit.
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(TIMEOUT).filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    // As long a number as there may be: it is no gRPC client that says it.
    let timeout = read_timeout(&text, |number| number.parse().ok());
    timeout.map(Some).ok_or_else(|| Status::invalid_argument(format!("invalid grpc-timeout: {text}")))
}

/// The headers made of an answer's metadata.
pub(super) fn outgoing(metadata: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in metadata {
        let name = name.as_str();
        if name.starts_with("grpc-") || matches!(name, "date" | "trailer" | "te" | "transfer-encoding") {
            continue;
        }
        if let Ok(name) = HeaderName::try_from(format!("{METADATA}{name}")) {
            headers.append(name, value.clone());
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn headers_become_metadata() {
        let metadata = incoming(&map(&[
            ("authorization", "abc"),
            ("accept", "x/y"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-token", "t"),
            ("grpc-metadata-content-type", "evil"),
            ("grpc-metadata-grpc-timeout", "1n"),
            ("grpc-metadata-x-bin", "YQ=="),
            ("x-other", "dropped"),
        ]))
        .unwrap();
        let want = map(&[
            ("authorization", "abc"),
            ("grpcgateway-authorization", "abc"),
            ("grpcgateway-accept", "x/y"),
            ("hasleader", "true"),
            ("token", "t"),
            ("x-bin", "YQ=="),
        ]);
        assert_eq!(metadata, want);
        assert!(incoming(&map(&[("grpc-metadata-x-bin", "*")])).is_err());
    }

    #[test]
    fn a_call_is_marked_as_the_gateways_in_any_case() {
        assert!(incoming(&HeaderMap::new()).unwrap().contains_key("grpcgateway-accept"));
    }

    #[test]
    fn timeouts() {
        let of = |text: &'static str| timeout(&map(&[("grpc-timeout", text)]));
        assert_eq!(of("10m").unwrap(), Some(Duration::from_millis(10)));
        assert_eq!(of("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(of("1n").unwrap(), Some(Duration::from_nanos(1)));
        for wrong in ["zz", "1", "S", "-1S", "1d"] {
            assert_eq!(of(wrong).unwrap_err().message(), format!("invalid grpc-timeout: {wrong}"));
        }
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }
}
