//! The gateway over a WebSocket: each message of the client is a part of the
//! body, each line of the answer a text message.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt, stream};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, COOKIE, ORIGIN, REFERER, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tonic::Status;

use super::reply;
use super::service::Gateway;

/// The subprotocol that carries a token, since browsers let no one set headers.
const BEARER: &str = "Bearer";

/// The cookie that carries a token.
const COOKIE_NAME: &str = "token";

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// Answers a request for a WebSocket.
pub(super) async fn upgrade(gateway: Arc<Gateway>, path: String, parts: &mut Parts) -> Response {
    let get = parts.method == Method::GET;
    let upgrade = match WebSocketUpgrade::from_request_parts(parts, &()).await {
        Ok(upgrade) if get => upgrade,
        _ => return refused(if get { StatusCode::BAD_REQUEST } else { StatusCode::METHOD_NOT_ALLOWED }),
    };
    let Ok(slot) = gateway.sockets.clone().try_acquire_owned() else {
        return reply::error(&Status::unavailable("too many open WebSockets; close some, or use gRPC"));
    };
    let head = head(parts);
    let max_bytes = gateway.max_json_bytes();
    upgrade.max_message_size(max_bytes).max_frame_size(max_bytes).protocols([BEARER]).on_upgrade(
        move |socket| async move {
            serve(&gateway, &path, &head, socket).await;
            drop(slot);
        },
    )
}

fn refused(status: StatusCode) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, format!("{}\n", status.canonical_reason().unwrap_or_default())).into_response()
}

/// The head of the request that the messages are the body of.
fn head(upgrade: &Parts) -> Parts {
    let mut headers = HeaderMap::new();
    for name in [ORIGIN, REFERER] {
        if let Some(value) = upgrade.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let text = |name| upgrade.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let protocol = text(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.split_once("Bearer,"));
    let mut cookies =
        text(COOKIE).unwrap_or_default().split(';').filter_map(|one| one.trim().split_once('='));
    let token = match cookies.find(|(name, _)| *name == COOKIE_NAME) {
        Some((_, value)) => Some(value.trim_matches('"')),
        None => protocol.map(|(_, token)| token.trim_matches(' ')),
    };
    if let Some(mut value) = token.and_then(|token| HeaderValue::try_from(format!("{BEARER} {token}")).ok()) {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = Method::POST;
    parts.headers = headers;
    parts
}

/// Carries both directions until one of them ends.
async fn serve(gateway: &Gateway, path: &str, head: &Parts, socket: WebSocket) {
    let (mut sender, receiver) = socket.split();
    // One message: the client waits until the call wants more.
    let (parts, queue) = mpsc::channel::<Bytes>(1);
    let body = Body::from_stream(stream::unfold(queue, |mut queue| async {
        queue.recv().await.map(|part| (Ok::<_, std::convert::Infallible>(part), queue))
    }));
    let answered = async {
        let response = gateway.answer(path, head, body).await;
        send(response.into_body(), &mut sender).await;
    };
    tokio::select! {
        () = answered => {}
        () = receive(receiver, parts) => {}
    }
    // The client may be gone already.
    let _ = sender.close().await;
}

/// Takes messages until the client closes or breaks the rules. What a call does
/// not take any more is dropped: only so the client's end is seen.
async fn receive(mut receiver: SplitStream<WebSocket>, parts: mpsc::Sender<Bytes>) {
    let mut parts = Some(parts);
    while let Some(Ok(message)) = receiver.next().await {
        let part = match message {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return,
        };
        for part in [part, Bytes::from_static(b"\n")] {
            if let Some(open) = &parts
                && open.send(part).await.is_err()
            {
                parts = None;
            }
        }
    }
}

/// Sends an answer, a message for each line.
async fn send(mut body: Body, sender: &mut SplitSink<WebSocket, Message>) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(mut line) = frame.into_data() else { continue };
        line.truncate(line.trim_ascii_end().len());
        let Ok(text) = Utf8Bytes::try_from(line) else { return };
        if !text.is_empty() && sender.send(Message::Text(text)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(pairs: &[(HeaderName, &'static str)]) -> Parts {
        let mut parts = http::Request::new(()).into_parts().0;
        for (name, value) in pairs {
            parts.headers.append(name.clone(), HeaderValue::from_static(value));
        }
        parts
    }

    #[test]
    fn an_upgrade_is_told_by_two_headers() {
        let of =
            |connection, upgrade| is_upgrade(&parts(&[(CONNECTION, connection), (UPGRADE, upgrade)]).headers);
        assert!(of("keep-alive, Upgrade", "WebSocket"));
        assert!(!of("keep-alive", "websocket"));
        assert!(!of("upgrade", "h2c"));
    }

    #[test]
    fn tokens_come_as_subprotocol_or_cookie_and_the_method_is_post() {
        let of = |pairs: &[(HeaderName, &'static str)]| {
            let head = head(&parts(pairs));
            assert_eq!(head.method, Method::POST);
            head.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of(&[(SEC_WEBSOCKET_PROTOCOL, "Bearer, abc")]), Some("Bearer abc".to_owned()));
        assert_eq!(of(&[(SEC_WEBSOCKET_PROTOCOL, "Bearer,abc")]), Some("Bearer abc".to_owned()));
        assert_eq!(of(&[(SEC_WEBSOCKET_PROTOCOL, "other")]), None);
        assert_eq!(of(&[(AUTHORIZATION, "x"), (COOKIE, "a=b; token=t")]), Some("Bearer t".to_owned()));
        let head = head(&parts(&[(ORIGIN, "http://a"), (COOKIE, "a=b")]));
        assert_eq!(head.headers.len(), 1);
    }
}
