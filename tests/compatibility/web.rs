//! A small HTTP client: one request a connection, answers as lines.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use skiff_test_support::Fault;
use tokio::net::TcpStream;

/// How long an answer, or the next piece of one, may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer: the status, and the body or as much of it as was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends a request. With `lines`, the body is read up to that many lines and
/// the connection is then closed.
///
/// # Errors
/// When the server is not there, hangs, or breaks off.
pub(crate) async fn send(
    address: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: String,
    lines: Option<usize>,
) -> Result<Answer, Fault> {
    let exchange = exchange(address, method, path, token, body, lines);
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{method} {path}: no answer within {} s", PATIENCE.as_secs()).into()),
    }
}

async fn exchange(
    address: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: String,
    lines: Option<usize>,
) -> Result<Answer, Fault> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", address);
    if let Some(token) = token {
        request = request.header("authorization", token);
    }
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut text = Vec::new();
    while lines.is_none_or(|lines| text.iter().filter(|byte| **byte == b'\n').count() < lines) {
        let Some(frame) = incoming.frame().await else { break };
        if let Ok(data) = frame?.into_data() {
            text.extend_from_slice(&data);
        }
    }
    drop(incoming);
    connection.abort();
    Ok(Answer { status, body: String::from_utf8_lossy(&text).into_owned() })
}
