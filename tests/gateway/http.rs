//! A small HTTP client: one request a connection.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use skiff_test_support::Fault;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    /// The whole path with its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// How TLS is spoken; without it, none is.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Asked {
    /// A call of the gateway.
    pub(crate) fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        let (path, body) = (format!("/v3/{path}"), body.into());
        Asked { method: "POST", path, headers: Vec::new(), body, tls: None }
    }

    /// The same with another method.
    pub(crate) fn method(self, method: &'static str) -> Self {
        Asked { method, ..self }
    }

    /// The same over TLS.
    pub(crate) fn over(self, tls: &Arc<rustls::ClientConfig>) -> Self {
        Asked { tls: Some(tls.clone()), ..self }
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Sends a request; the body of the answer is still to be read.
pub(crate) async fn open(address: &str, asked: &Asked) -> Result<Response<Incoming>, Fault> {
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
    Ok(sender.send_request(request.body(Body::from(asked.body.clone()))?).await?)
}

/// Sends a request and reads the whole answer.
pub(crate) async fn ask(address: &str, asked: &Asked) -> Result<Answer, Fault> {
    let exchange = async {
        let (head, body) = open(address, asked).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, Fault>(Answer { status: head.status.as_u16(), headers: head.headers, body })
    };
    tokio::time::timeout(PATIENCE, exchange).await?
}
