//! WebSockets, over real ones.

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;
use crate::common::serve;

type Socket = WebSocketStream<TcpStream>;

async fn start(config: ApiConfig) -> (String, watch::Sender<bool>) {
    let store = OddStore::new();
    let (stop, stopping) = watch::channel(false);
    (serve(store.clone(), store.inner.clone(), config, stopping).await, stop)
}

async fn connect(at: &str, path: &str) -> Socket {
    let request = format!("ws://{at}/v3/{path}").into_client_request().unwrap();
    let stream = TcpStream::connect(at).await.unwrap();
    within(tokio_tungstenite::client_async(request, stream)).await.unwrap().0
}

async fn next(socket: &mut Socket) -> Option<Value> {
    match within(socket.next()).await {
        Some(Ok(Message::Text(text))) => Some(serde_json::from_str(&text).unwrap()),
        None | Some(Ok(Message::Close(_)) | Err(_)) => None,
        other => panic!("{other:?}"),
    }
}

async fn say(socket: &mut Socket, text: &str) {
    within(socket.send(Message::text(text))).await.unwrap();
}

#[tokio::test]
async fn a_watch_over_a_socket() {
    let (at, stop) = start(ApiConfig::default()).await;
    let mut watch = connect(&at, "watch").await;
    say(&mut watch, r#"{"create_request":{"key":"YQ=="}}"#).await;
    assert_eq!(next(&mut watch).await.unwrap()["result"]["created"], json!(true));
    let mut put = connect(&at, "kv/put").await;
    within(put.send(Message::binary(r#"{"key":"YQ=="}"#))).await.unwrap();
    assert_eq!(next(&mut put).await.unwrap()["header"]["revision"], json!("2"));
    assert_eq!(next(&mut put).await, None, "a call of one answer ends the socket");
    assert_eq!(next(&mut watch).await.unwrap()["result"]["events"][0]["kv"]["key"], json!("YQ=="));
    say(&mut watch, r#"{"cancel_request":{"watch_id":0}}"#).await;
    assert_eq!(next(&mut watch).await.unwrap()["result"]["canceled"], json!(true));
    stop.send_replace(true);
    assert_eq!(next(&mut watch).await.unwrap()["error"]["message"], json!("etcdserver: server stopped"));
    assert_eq!(next(&mut watch).await, None);
}

#[tokio::test]
async fn errors_come_as_messages() {
    let (at, _stop) = start(ApiConfig::default()).await;
    for (path, said, want) in [
        ("kv/range", "{}", json!({"code": 3, "message": "etcdserver: key is not provided"})),
        ("nope", "{}", json!({"code": 5, "message": "Not Found"})),
        (
            "watch",
            "[]",
            json!({"error": {"code": 3, "message": "proto: syntax error (line 1:1): unexpected token ["}}),
        ),
    ] {
        let mut socket = connect(&at, path).await;
        say(&mut socket, said).await;
        assert_eq!(next(&mut socket).await, Some(want), "{path}");
        assert_eq!(next(&mut socket).await, None, "{path}");
    }
}

#[tokio::test]
async fn sockets_and_their_messages_are_bounded() {
    let config = ApiConfig { max_websockets: 1, max_request_bytes: 1000, ..Default::default() };
    let max = config.max_message_bytes() * 2;
    let (at, _stop) = start(config).await;
    let mut first = connect(&at, "watch").await;
    let request = format!("ws://{at}/v3/watch").into_client_request().unwrap();
    let stream = TcpStream::connect(&at).await.unwrap();
    let refused = within(tokio_tungstenite::client_async(request, stream)).await.unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
    // Too long a message ends the socket; the server may be gone before all is sent.
    let _ = within(first.send(Message::text(" ".repeat(max + 1)))).await;
    while let Some(Ok(message)) = within(first.next()).await {
        assert!(message.is_close(), "{message:?}");
    }
    // Which gives its place to another.
    loop {
        let request = format!("ws://{at}/v3/watch").into_client_request().unwrap();
        let stream = TcpStream::connect(&at).await.unwrap();
        if within(tokio_tungstenite::client_async(request, stream)).await.is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn raw(at: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    text.to_ascii_lowercase()
}

#[tokio::test]
async fn handshakes_that_are_none() {
    let (at, _stop) = start(ApiConfig::default()).await;
    let upgrade = "host: x\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n";
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let text = raw(&at, &format!("GET /v3/watch HTTP/1.1\r\n{upgrade}\r\n")).await;
    assert!(text.starts_with("http/1.1 400") && text.ends_with("\r\n\r\nbad request\n"), "{text}");
    let text =
        raw(&at, &format!("GET /v3/watch HTTP/1.1\r\n{upgrade}{key}sec-websocket-version: 12\r\n\r\n")).await;
    assert!(text.starts_with("http/1.1 400") && text.contains("sec-websocket-version: 13"), "{text}");
    let text =
        raw(&at, &format!("POST /v3/watch HTTP/1.1\r\n{upgrade}{key}sec-websocket-version: 13\r\n\r\n"))
            .await;
    assert!(text.starts_with("http/1.1 405") && text.ends_with("\r\n\r\nmethod not allowed\n"), "{text}");
}
