//! The websocket's handshake.
//!
//! A server that routes requests by itself answers with [`respond`], and begins the tunnel
//! with [`crate::Tunnel::start`] on the connection it upgraded. A client uses [`connect`].

use std::sync::Arc;

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::{self, Error};

use crate::accept::Acceptor;
use crate::error::TunnelError;
use crate::options::Options;
use crate::tunnel::{End, Tunnel};

/// The websocket's subprotocol.
pub const PROTOCOL: &str = "skiff-tunnel";

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL or a header is no good.
    #[error("the tunnel's request is no good: {0}")]
    Request(String),
    /// The server answered with another status.
    #[error("the server refuses the tunnel with status {0}: {1:?}")]
    Status(StatusCode, String),
    /// The handshake failed.
    #[error("the tunnel's handshake failed: {0}")]
    Handshake(String),
    /// The tunnel was over before it began.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
}

/// Asks for a tunnel at `url` (`wss://host/path`) over a connection to there. The caller
/// bounds the time.
///
/// # Errors
/// The server does not answer as it should.
pub async fn connect<S>(
    io: S,
    url: &str,
    headers: &[(HeaderName, HeaderValue)],
    options: Options,
    acceptor: Arc<dyn Acceptor>,
) -> Result<Tunnel, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut request = url.into_client_request().map_err(|error| ConnectError::Request(error.to_string()))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    request.headers_mut().extend(headers.iter().cloned());
    let options = options.sane();
    let (socket, _) =
        client_async_with_config(request, io, Some(options.websocket())).await.map_err(handshake)?;
    Ok(Tunnel::over(socket, End::Client, options, acceptor).await?)
}

fn handshake(error: tungstenite::Error) -> ConnectError {
    match error {
        Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(body).into_owned();
            ConnectError::Status(response.status(), crate::refusal::shortened(text))
        }
        other => ConnectError::Handshake(other.to_string()),
    }
}

/// The answer to a request for a tunnel, which must be a GET: status 101, or what is wrong.
///
/// # Errors
/// An answer of status 400 or 426 with a text.
pub fn respond(headers: &HeaderMap) -> Result<Response<()>, (StatusCode, &'static str)> {
    let names = |name: &HeaderName, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    if !names(&CONNECTION, "upgrade") || !names(&UPGRADE, "websocket") {
        return Err((StatusCode::UPGRADE_REQUIRED, "this is the path of a websocket"));
    }
    if !names(&SEC_WEBSOCKET_VERSION, "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "only version 13 of websockets is spoken"));
    }
    if !names(&SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
        return Err((StatusCode::BAD_REQUEST, "the websocket's subprotocol must be skiff-tunnel"));
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return Err((StatusCode::BAD_REQUEST, "the websocket's key is missing"));
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| (StatusCode::BAD_REQUEST, "the websocket's key is no good"))?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend([
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL)),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ]);
    Ok(response)
}
