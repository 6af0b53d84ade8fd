//! gRPC calls, sent on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use hyper::body::Incoming;
use tonic::Status;

use super::link::{Link, describe};
use super::pool::Choice;
use super::relay::{Relay, h2_error};
use super::replay::{Attempt, Replay};
use super::router::Passing;
use super::{headers, metrics};
use crate::layer::method::{Kind, METHODS};

/// etcd takes a call with this metadata for one of its own JSON gateway, and
/// does not look at the certificate's name.
const NOT_BY_CERTIFICATE: &str = "grpcgateway-accept";

/// How an attempt failed.
enum Failure {
    /// The endpoint provably did not process the call.
    Unprocessed(String),
    /// It may have.
    Lost(Status),
}

/// Sends a gRPC call to an endpoint and answers with what it answers.
pub(super) async fn call(passing: &Passing, request: Request) -> Response {
    match attempts(passing, request).await {
        Ok(response) => response,
        Err(status) => status.into_http(),
    }
}

async fn attempts(passing: &Passing, request: Request) -> Result<Response, Status> {
    let permit = Arc::clone(&passing.calls).try_acquire_owned().map_err(|_| {
        metrics::UNSERVED.inc();
        Status::resource_exhausted("etcdserver: too many requests")
    })?;
    let (mut parts, body) = request.into_parts();
    prepare(&mut parts, passing.options.certificate_names_user);
    let replay = Replay::new(body, passing.options.replay_bytes);
    let mut tried: Vec<(String, String)> = Vec::new();
    for _ in 0..passing.options.tries.max(1) {
        let Some(body) = replay.attempt() else { break };
        let choice = match passing.pool.pick(&tried).await {
            Ok(choice) => choice,
            Err(errors) => return Err(unserved(&errors)),
        };
        let (link, number) = (Arc::clone(&choice.link), choice.number);
        match send(choice, &parts, body).await {
            Ok(response) => {
                replay.settle();
                let stopped = is_stream(parts.uri.path()).then(|| stopped(passing));
                let (mut parts, body) = response.into_parts();
                headers::strip_hop(&mut parts.headers, false);
                return Ok(Response::from_parts(parts, Body::new(Relay::new(body, link, stopped, permit))));
            }
            Err(Failure::Lost(status)) => return Err(status),
            Err(Failure::Unprocessed(error)) => {
                link.count_failure("refused");
                link.retire(number);
                tried.push((link.name.clone(), error));
            }
        }
    }
    let errors: Vec<_> = tried.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    Err(unserved(&errors.join("; ")))
}

fn prepare(parts: &mut Parts, certificate_names_user: bool) {
    headers::strip_hop(&mut parts.headers, false);
    headers::add_forwarded_for(&mut parts.headers, &parts.extensions);
    parts.headers.remove(HOST);
    if !certificate_names_user {
        parts.headers.insert(NOT_BY_CERTIFICATE, HeaderValue::from_static("pass-through"));
    }
}

async fn send(mut choice: Choice, parts: &Parts, body: Attempt) -> Result<http::Response<Incoming>, Failure> {
    let link = &choice.link;
    let bad = |_| Failure::Lost(Status::invalid_argument("pass-through: the request's path is not valid"));
    let mut request = http::Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = link.endpoint.uri(&parts.uri).map_err(bad)?;
    *request.headers_mut() = parts.headers.clone();
    metrics::REQUESTS.with_label_values(&[&link.name]).inc();
    choice.sender.try_send_request(request).await.map_err(|mut failed| {
        // What comes back was never given to the connection.
        let unsent = failed.take_message().is_some();
        let error = failed.into_error();
        if unsent || is_unprocessed(&error) {
            return Failure::Unprocessed(describe(&error));
        }
        Failure::Lost(lost(link, &error))
    })
}

/// HTTP/2 says of these that the server did not look at them: a refused
/// stream, and those after the last one that a GOAWAY names.
fn is_unprocessed(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| {
        error.is_remote()
            && (error.is_go_away()
                || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)))
    })
}

/// The status of a call that an endpoint may or may not have carried out.
pub(super) fn lost(link: &Link, error: &hyper::Error) -> Status {
    link.count_failure("lost");
    let error = describe(error);
    tracing::warn!(endpoint = link.name, error, "a call was cut off");
    Status::unavailable(format!(
        "pass-through: connection to {} was lost; whether the request took effect is not known: {error}",
        link.name
    ))
}

pub(super) fn unserved(errors: &str) -> Status {
    metrics::UNSERVED.inc();
    Status::unavailable(format!("pass-through: no etcd endpoint can be reached: {errors}"))
}

/// Whether the call's answers have no end of their own.
fn is_stream(path: &str) -> bool {
    let Some((service, name)) = path.trim_start_matches('/').split_once('/') else { return false };
    METHODS.iter().any(|method| {
        method.service == service
            && method.name == name
            && (method.kind == Kind::BidiStream || (method.kind == Kind::ServerStream && name == "Observe"))
    })
}

fn stopped(passing: &Passing) -> BoxFuture<'static, ()> {
    let mut shutdown = passing.shutdown.clone();
    async move {
        if shutdown.wait_for(|stop| *stop).await.is_err() {
            // Nobody can stop it any more.
            std::future::pending::<()>().await;
        }
    }
    .boxed()
}
