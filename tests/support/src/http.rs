//! A small HTTP client: one request a connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Fault;

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// GET, POST or another.
    pub method: &'static str,
    /// The whole path with its query.
    pub path: String,
    /// Beside those that every request has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How TLS is spoken; without it, none is.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl Asked {
    /// A call of the gateway.
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        let (path, body) = (format!("/v3/{path}"), body.into());
        Asked { method: "POST", path, headers: Vec::new(), body, tls: None }
    }

    /// The same with another method.
    pub fn method(self, method: &'static str) -> Self {
        Asked { method, ..self }
    }

    /// The same over TLS.
    pub fn over(self, tls: &Arc<rustls::ClientConfig>) -> Self {
        Asked { tls: Some(tls.clone()), ..self }
    }

    /// The same with one more header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or as much of it as was asked for.
    pub body: Bytes,
}

/// Sends a request; the body of the answer is still to be read.
///
/// # Errors
/// When the server is not there or breaks off.
pub async fn open(address: &str, asked: &Asked) -> Result<Response<Incoming>, Fault> {
    let stream = TcpStream::connect(address).await?;
    let Some(tls) = &asked.tls else { return exchange(stream, address, asked).await };
    let name = ServerName::try_from(address.split(':').next().unwrap_or_default().to_owned())?;
    exchange(TlsConnector::from(tls.clone()).connect(name, stream).await?, address, asked).await
}

async fn exchange<S>(stream: S, address: &str, asked: &Asked) -> Result<Response<Incoming>, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the exchange.
    tokio::spawn(connection);
    let mut request = hyper::Request::builder().method(asked.method).uri(&asked.path);
    if !asked.headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address);
    }
    for (name, value) in &asked.headers {
        request = request.header(*name, value);
    }
    Ok(sender.send_request(request.body(Full::new(Bytes::from(asked.body.clone())))?).await?)
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// When the server is not there, hangs, or breaks off.
pub async fn ask(address: &str, asked: &Asked) -> Result<Answer, Fault> {
    ask_lines(address, asked, usize::MAX).await
}

/// The same, but reads no more than so many lines of the answer and then leaves.
///
/// # Errors
/// When the server is not there, hangs, or breaks off.
pub async fn ask_lines(address: &str, asked: &Asked, lines: usize) -> Result<Answer, Fault> {
    let exchange = async {
        let (head, mut body) = open(address, asked).await?.into_parts();
        let (mut text, mut read) = (Vec::new(), 0);
        while read < lines {
            let Some(frame) = body.frame().await else { break };
            let data = frame?.into_data().unwrap_or_default();
            read += data.iter().filter(|byte| **byte == b'\n').count();
            text.extend_from_slice(&data);
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: text.into() })
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(answer) => answer,
        Err(_) => {
            let within = PATIENCE.as_secs();
            Err(format!("{} {}: no answer within {within} s", asked.method, asked.path).into())
        }
    }
}
