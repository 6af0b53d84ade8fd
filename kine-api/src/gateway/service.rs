//! Finds the method of a request and calls it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures::stream;
use http::header::LOCATION;
use http::request::Parts;
use http::{Extensions, HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use skiff_store::Store;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::Status;

use super::scan::{ScanError, Scanner};
use super::table::{self, Route};
use super::{call, metadata, read, reply, socket};
use crate::api::Api;
use crate::auth::PeerIdentity;
use crate::http::plain;

const ROOT: &str = "/v3/";

/// An older name of the root that etcd still answers to.
const OLD_ROOT: &str = "/v3beta/";

/// etcd's words for who means to be the user his certificate names, which no
/// call of the gateway ever is.
const NAME_IGNORED: &str =
    "CommonName of client sending a request against gateway will be ignored and not used as expected\n";

/// The JSON of a message may be that many times as long as the message: base64
/// makes a third more of it, and the names of fields are never most of a large one.
const JSON_LENGTH: usize = 2;

/// What all requests share.
pub(super) struct Gateway {
    grpc: Router,
    routes: HashMap<&'static str, Route>,
    max_message_bytes: usize,
    /// Tells whether auth is on; where certificates name no users, nobody asks.
    certified: Option<Arc<dyn Store>>,
    /// Bounds the open WebSockets.
    pub(super) sockets: Arc<Semaphore>,
}

/// The paths of the gateway over a router of gRPC services.
///
/// # Errors
/// The descriptors that were built in cannot be read.
pub(crate) fn routes(grpc: Router, api: &Api) -> Result<Router, prost_reflect::DescriptorError> {
    let config = &api.config;
    let pool = DescriptorPool::decode(crate::services::DESCRIPTORS)?;
    let gateway = Arc::new(Gateway {
        grpc,
        routes: table::routes(&pool),
        max_message_bytes: config.max_message_bytes(),
        certified: config.client_cert_auth.then(|| api.store.clone()),
        sockets: Arc::new(Semaphore::new(config.max_websockets)),
    });
    let mut router = Router::new();
    for path in ["/v3", "/v3/", "/v3/{*path}", "/v3beta/", "/v3beta/{*path}"] {
        router = router.route(path, any(handle));
    }
    Ok(router.with_state(gateway))
}

async fn handle(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = decoded_path(&parts.uri);
    if path.starts_with(ROOT) && gateway.ignores_name(&parts.extensions) {
        return plain(StatusCode::BAD_REQUEST, NAME_IGNORED.to_owned());
    }
    let path = match path_of(path, &parts.uri) {
        Ok(path) => path,
        Err(location) => return (StatusCode::MOVED_PERMANENTLY, [(LOCATION, location)]).into_response(),
    };
    if socket::is_upgrade(&parts.headers) {
        return socket::upgrade(gateway, path, &mut parts).await;
    }
    gateway.answer(&path, &parts, body).await
}

/// The path, decoded and under the root's present name.
fn decoded_path(uri: &Uri) -> String {
    let decoded = percent_decode_str(uri.path()).decode_utf8_lossy();
    match decoded.strip_prefix(OLD_ROOT) {
        Some(rest) => format!("{ROOT}{rest}"),
        None => decoded.into_owned(),
    }
}

/// The path below the root; or where its proper form is found.
fn path_of(path: String, uri: &Uri) -> Result<String, HeaderValue> {
    let proper = proper(&path);
    if proper != path {
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        // A path that is no header is no path of ours either.
        if let Ok(location) = HeaderValue::try_from(proper + &query) {
            return Err(location);
        }
    }
    Ok(path.strip_prefix(ROOT).unwrap_or_default().to_owned())
}

/// A path without empty parts, `.` and `..`, and with the root's slash.
fn proper(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() || parts == ["v3"] { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

impl Gateway {
    /// Whether a client's certificate bears a name, on which it may rely in vain.
    fn ignores_name(&self, extensions: &Extensions) -> bool {
        let named = || {
            let peer = extensions.get::<PeerIdentity>();
            peer.and_then(|peer| peer.common_name.as_ref()).is_some_and(|name| !name.is_empty())
        };
        self.certified.as_ref().is_some_and(|store| store.vitals().auth_enabled && named())
    }

    /// Largest JSON value taken, in bytes.
    pub(super) fn max_json_bytes(&self) -> usize {
        self.max_message_bytes.saturating_mul(JSON_LENGTH)
    }

    /// Answers a request for a path below the root.
    pub(super) async fn answer(&self, path: &str, head: &Parts, body: Body) -> Response {
        let Some(route) = self.routes.get(path) else { return reply::error(&Status::not_found("Not Found")) };
        if head.method != Method::POST {
            return reply::error(&Status::unimplemented("Method Not Allowed"));
        }
        let values = Values::new(body, self);
        let request = if route.client_streaming {
            Ok(many(values, route.input.clone()))
        } else {
            one(values, route).await
        };
        match self.call(route, head, request).await {
            Ok(answer) if route.server_streaming => reply::lines(answer, route.output.clone()).await,
            Ok(answer) => reply::single(answer, &route.output).await,
            Err(status) => reply::error(&status),
        }
    }

    async fn call(
        &self,
        route: &Route,
        head: &Parts,
        request: Result<Body, Status>,
    ) -> Result<call::Answer, Status> {
        let timeout = metadata::timeout(&head.headers)?;
        let metadata = metadata::incoming(&head.headers)?;
        // Times that no clock reaches are no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        call::start(self.grpc.clone(), &route.grpc_path, metadata, request?, deadline).await
    }
}

/// The JSON values of a body.
struct Values {
    body: Body,
    scanner: Scanner,
    /// What has been read of the body and not been looked at.
    data: Bytes,
    max_message_bytes: usize,
}

impl Values {
    fn new(body: Body, gateway: &Gateway) -> Self {
        let scanner = Scanner::new(gateway.max_json_bytes());
        Self { body, scanner, data: Bytes::new(), max_message_bytes: gateway.max_message_bytes }
    }

    /// The next value; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Status> {
        loop {
            if let Some(value) = self.scanner.feed(&mut self.data).map_err(|error| self.refusal(error))? {
                return Ok(Some(value));
            }
            match self.body.frame().await {
                None => return self.scanner.finish().map_err(|error| self.refusal(error)),
                Some(Ok(frame)) => self.data = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(Status::invalid_argument(error.to_string())),
            }
        }
    }

    fn refusal(&self, error: ScanError) -> Status {
        match error {
            ScanError::Syntax(text) => Status::invalid_argument(text),
            ScanError::TooLong => Status::resource_exhausted(format!(
                "grpc: received message larger than max (its JSON is over {} times {})",
                JSON_LENGTH, self.max_message_bytes
            )),
        }
    }
}

/// The only message of a request; what follows it in the body is nobody's. A
/// body without a value stands for an empty message.
async fn one(mut values: Values, route: &Route) -> Result<Body, Status> {
    let message = match values.next().await? {
        Some(json) => read::message(&route.input, &json).map_err(Status::invalid_argument)?,
        None => Vec::new(),
    };
    Ok(Body::from(call::frame(&message)?))
}

/// All messages of a request, read as they are asked for.
fn many(values: Values, input: MessageDescriptor) -> Body {
    let messages = stream::try_unfold((values, input), |(mut values, input)| async {
        let Some(json) = values.next().await? else { return Ok(None) };
        let message = read::message(&input, &json).map_err(Status::invalid_argument)?;
        Ok::<_, Status>(Some((call::frame(&message)?, (values, input))))
    });
    Body::from_stream(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_right_as_gos_router_does() {
        for (path, want) in [
            ("/v3/kv/range", "/v3/kv/range"),
            ("/v3", "/v3/"),
            ("/v3/", "/v3/"),
            ("/v3//kv/./x/../range", "/v3/kv/range"),
            ("/v3/kv/range/", "/v3/kv/range/"),
            ("/v3/../..", "/"),
        ] {
            assert_eq!(proper(path), want, "{path}");
        }
    }
}
