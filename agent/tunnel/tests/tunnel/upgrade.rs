//! The websocket's handshake, between our two ends.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use skiff_tunnel::upgrade::{ConnectError, connect, respond};
use skiff_tunnel::{End, Options, RefuseAll, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::support::{Echo, soon, target};

/// Reads a request's head, as a server would.
async fn head(io: &mut DuplexStream) -> (String, HeaderMap) {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(io.read_u8().await.unwrap() as char);
    }
    let mut headers = HeaderMap::new();
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    (text.lines().next().unwrap().to_owned(), headers)
}

async fn write_response(io: &mut DuplexStream, status: StatusCode, headers: &HeaderMap, body: &str) {
    let mut text = format!("HTTP/1.1 {} x\r\n", status.as_u16());
    for (name, value) in headers {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    io.write_all(format!("{text}\r\n{body}").as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_client_asks_and_a_server_answers() {
    let (a, mut b) = duplex(4096);
    let server = tokio::spawn(async move {
        let (line, headers) = head(&mut b).await;
        assert_eq!(line, "GET /v1-skiff/connect HTTP/1.1");
        assert_eq!(headers["x-test"], "1");
        let response = respond(&headers).unwrap();
        write_response(&mut b, response.status(), response.headers(), "").await;
        Tunnel::start(b, End::Server, Options::default(), Arc::new(Echo)).await.unwrap()
    });
    let headers = [(HeaderName::from_static("x-test"), HeaderValue::from_static("1"))];
    let url = "wss://server:6443/v1-skiff/connect";
    let tunnel = soon(connect(a, url, &headers, Options::default(), Arc::new(RefuseAll))).await.unwrap();
    let _server = soon(server).await.unwrap();
    let mut stream = soon(tunnel.open(target())).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn a_refusal_tells_status_and_text() {
    let (a, mut b) = duplex(4096);
    tokio::spawn(async move {
        head(&mut b).await;
        let length = HeaderMap::from_iter([(http::header::CONTENT_LENGTH, HeaderValue::from_static("4"))]);
        write_response(&mut b, StatusCode::FORBIDDEN, &length, "nope").await;
    });
    match soon(connect(a, "wss://s/x", &[], Options::default(), Arc::new(RefuseAll))).await {
        Err(ConnectError::Status(status, text)) => {
            assert_eq!((status, text.as_str()), (StatusCode::FORBIDDEN, "nope"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_requests_are_answered_with_what_is_wrong() {
    let good = HeaderMap::from_iter([
        (http::header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade")),
        (http::header::UPGRADE, HeaderValue::from_static("websocket")),
        (http::header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (http::header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("skiff-tunnel")),
        (http::header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==")),
    ]);
    let accept = respond(&good).unwrap().headers()["sec-websocket-accept"].clone();
    assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "the example of RFC 6455");
    for missing in good.keys() {
        let mut headers = good.clone();
        headers.remove(missing);
        assert!(respond(&headers).is_err(), "{missing}");
    }
}
