//! Plain HTTP: `/version`, the JSON gateway, WebSockets, each request on a
//! connection of its own; and what this process answers itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{HOST, HeaderValue, UPGRADE};
use http::{StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::connect::{self, Io, Protocol};
use super::link::{Link, describe};
use super::router::Passing;
use super::{headers, metrics};
use crate::http::plain;

type Sender = http1::SendRequest<Body>;

/// `/health`: whether an endpoint is up.
pub(super) async fn health(State(passing): State<Arc<Passing>>) -> Response {
    if passing.pool.settled().await {
        return plain(StatusCode::OK, r#"{"health":"true","reason":""}"#.to_owned());
    }
    let body = r#"{"health":"false","reason":"NO ENDPOINT CAN BE REACHED"}"#;
    plain(StatusCode::SERVICE_UNAVAILABLE, format!("{body}\n"))
}

/// `/readyz`.
pub(super) async fn ready(State(passing): State<Arc<Passing>>) -> Response {
    if passing.pool.healthy() {
        return plain(StatusCode::OK, "ok\n".to_owned());
    }
    plain(StatusCode::SERVICE_UNAVAILABLE, "no etcd endpoint can be reached\n".to_owned())
}

/// `/livez`: this process, whatever the endpoints do.
pub(super) async fn live() -> Response {
    plain(StatusCode::OK, "ok\n".to_owned())
}

/// Sends a request to an endpoint and answers with what it answers.
pub(super) async fn pass(passing: &Passing, request: Request) -> Response {
    let Ok(permit) = Arc::clone(&passing.http).try_acquire_owned() else {
        metrics::UNSERVED.inc();
        return plain(StatusCode::SERVICE_UNAVAILABLE, "pass-through: too many requests\n".to_owned());
    };
    let (link, sender) = match open(passing).await {
        Ok(opened) => opened,
        Err(errors) => {
            metrics::UNSERVED.inc();
            let text = format!("pass-through: no etcd endpoint can be reached: {errors}\n");
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        }
    };
    match exchange(passing, &link, sender, request, permit).await {
        Ok(response) => response,
        Err(error) => {
            link.count_failure("lost");
            plain(StatusCode::BAD_GATEWAY, format!("pass-through: {}: {error}\n", link.name))
        }
    }
}

/// Connects to the first endpoint in turn that can be reached.
async fn open(passing: &Passing) -> Result<(Arc<Link>, Sender), String> {
    let timeout = passing.options.connect_timeout;
    let mut errors = Vec::new();
    for link in passing.pool.in_turn().take(passing.options.tries.max(1)) {
        let attempt = connect::dial(&link.endpoint, passing.options.tls.as_ref(), Protocol::Http1);
        match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok(io)) => match handshake(io).await {
                Ok(sender) => return Ok((Arc::clone(link), sender)),
                Err(error) => errors.push(format!("{}: {}", link.name, describe(&error))),
            },
            Ok(Err(error)) => errors.push(format!("{}: {error}", link.name)),
            Err(_) => errors.push(format!("{}: no answer within {timeout:?}", link.name)),
        }
        link.count_failure("connect");
    }
    Err(errors.join("; "))
}

async fn handshake(io: Box<dyn Io>) -> hyper::Result<Sender> {
    let (sender, driver) = http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(async move {
        // Ends with the request, which learns of its error.
        let _ = driver.with_upgrades().await;
    });
    Ok(sender)
}

async fn exchange(
    passing: &Passing,
    link: &Link,
    mut sender: Sender,
    mut request: Request,
    permit: OwnedSemaphorePermit,
) -> Result<Response, String> {
    let client = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    headers::strip_hop(&mut parts.headers, client.is_some());
    headers::add_forwarded_for(&mut parts.headers, &parts.extensions);
    let host =
        HeaderValue::from_str(link.endpoint.authority().as_str()).map_err(|error| error.to_string())?;
    parts.headers.insert(HOST, host);
    let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = target.parse::<Uri>().map_err(|error| error.to_string())?;
    parts.version = Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    metrics::REQUESTS.with_label_values(&[&link.name]).inc();
    let request = Request::from_parts(parts, body);
    let mut response = sender.send_request(request).await.map_err(|error| describe(&error))?;
    let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if let (true, Some(client)) = (upgraded, client) {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(tunnel(client, server, passing.shutdown.clone(), permit));
        let (mut parts, _) = response.into_parts();
        headers::strip_hop(&mut parts.headers, true);
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let (mut parts, body) = response.into_parts();
    headers::strip_hop(&mut parts.headers, false);
    Ok(Response::from_parts(parts, held(body, permit)))
}

/// The body, with the permit until it ends.
fn held(body: Incoming, permit: OwnedSemaphorePermit) -> Body {
    use http_body_util::BodyExt;
    Body::new(body.map_frame(move |frame| {
        let _ = &permit;
        frame
    }))
}

/// Copies both ways between the two connections of a WebSocket.
async fn tunnel(
    client: OnUpgrade,
    server: OnUpgrade,
    mut shutdown: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let copy = async {
        let (client, server) = tokio::try_join!(client, server).ok()?;
        copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await.ok()
    };
    tokio::select! {
        _ = copy => {}
        Ok(_) = shutdown.wait_for(|stop| *stop) => {}
    }
}
