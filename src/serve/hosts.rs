//! `--host-whitelist`: which names HTTP clients may address this server by.
//!
//! Guards browsers against DNS rebinding. gRPC clients are let through, since
//! a browser cannot speak it; so are clients on TLS, whose name was checked.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HOST};

/// The names that are allowed.
#[derive(Debug, Clone)]
pub(crate) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// `None` where every name is allowed.
    pub(crate) fn new(hosts: &[String]) -> Option<AllowedHosts> {
        let any = hosts.is_empty() || hosts.iter().any(|host| host == "*");
        (!any).then(|| AllowedHosts(hosts.to_vec()))
    }

    /// Passes a request on, or answers it as misdirected.
    pub(crate) async fn check(self, request: Request, next: Next) -> Response {
        if is_grpc(&request) || self.0.iter().any(|allowed| *allowed == host(&request)) {
            return next.run(request).await;
        }
        (StatusCode::MISDIRECTED_REQUEST, "the host name is not allowed; see --host-whitelist\n")
            .into_response()
    }
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}

/// The host a request is for, without the port.
fn host(request: &Request) -> String {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = authority.or(header).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
        _ => host.to_owned(),
    }
}
