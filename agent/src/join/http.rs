//! Requests to a server: one connection each, bounded in time and size.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use skiff_token::wire;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::JoinError;
use crate::address::ServerAddress;
use crate::reason::reason;

/// Asks one server.
pub(super) struct Client<'a> {
    pub(super) server: &'a ServerAddress,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) timeout: Duration,
}

/// What is asked.
#[derive(Default)]
pub(super) struct Ask {
    /// Shown in `Authorization`.
    pub(super) authorization: Option<String>,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Sent with POST; without it, GET.
    pub(super) csr: Option<Vec<u8>>,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) path: String,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client<'_> {
    /// Asks for a path.
    ///
    /// # Errors
    /// The server does not answer, or is none of the cluster's.
    pub(super) async fn ask(&self, path: &str, ask: Ask) -> Result<Answer, JoinError> {
        let request = self.request(path, ask)?;
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {:?}", self.timeout));
        let answered = timeout(self.timeout, self.send(request)).await.unwrap_or_else(|_| Err(late()));
        let (head, body) = answered.map_err(|error| self.explain(error))?;
        Ok(Answer { path: path.to_owned(), status: head.status, headers: head.headers, body })
    }

    fn request(&self, path: &str, ask: Ask) -> Result<Request<Full<Bytes>>, JoinError> {
        let invalid =
            |error: http::Error| JoinError::File(io::Error::new(io::ErrorKind::InvalidInput, error));
        let method = if ask.csr.is_some() { Method::POST } else { Method::GET };
        let mut builder = Request::builder().method(method).uri(path).header(HOST, self.server.to_string());
        if let Some(authorization) = ask.authorization {
            let mut value = HeaderValue::try_from(authorization).map_err(|error| invalid(error.into()))?;
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        for (name, value) in ask.headers {
            builder = builder.header(name, value);
        }
        if ask.csr.is_some() {
            builder = builder.header(CONTENT_TYPE, wire::CSR_TYPE);
        }
        builder.body(Full::from(ask.csr.unwrap_or_default())).map_err(invalid)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> io::Result<(http::response::Parts, Bytes)> {
        let tcp = TcpStream::connect(self.server.dial()).await?;
        let tls = TlsConnector::from(self.tls.clone()).connect(self.server.name()?, tcp).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, wire::MAX_BODY).collect().await.map_err(io::Error::other)?;
            Ok((head, body.to_bytes()))
        };
        let connection = async {
            // Its errors reach the exchange.
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            biased;
            exchanged = exchange => exchanged,
            never = connection => never,
        }
    }

    fn explain(&self, error: io::Error) -> JoinError {
        let server = self.server.to_string();
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls @ rustls::Error::InvalidCertificate(_)) => {
                JoinError::Untrusted { server, error: tls.clone() }
            }
            _ => JoinError::Unreachable { server, error },
        }
    }
}

impl Answer {
    /// Its body, if it is what was asked for.
    pub(super) fn good(self) -> Result<Bytes, JoinError> {
        if self.status == StatusCode::OK {
            return Ok(self.body);
        }
        let text = reason(&String::from_utf8_lossy(&self.body));
        Err(JoinError::Status { path: self.path, status: self.status.as_u16(), text })
    }

    pub(super) fn refused(&self) -> Option<wire::Refused> {
        let header = self.headers.get(wire::REFUSED).and_then(|value| value.to_str().ok());
        wire::Refused::read(self.status.as_u16(), header)
    }
}
