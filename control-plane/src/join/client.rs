//! A client of a supervisor: first without trust, for the authorities alone, then
//! with these.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use skiff_token::{CaBundle, Credentials, wire};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a call may take, connecting included. A server may wait for its
/// datastore.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Connecting may take this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The port where a URL names none.
const DEFAULT_PORT: u16 = 6443;

/// Where a supervisor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    host: String,
    port: u16,
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

impl ServerUrl {
    /// One of this host and port.
    #[must_use]
    pub fn new(host: &str, port: u16) -> ServerUrl {
        ServerUrl { host: host.to_owned(), port }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Reads `https://host[:port]`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<ServerUrl, String> {
        let malformed = || format!("{text:?} must have the form https://host:port");
        let rest = text.trim().strip_prefix("https://").ok_or_else(malformed)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() || rest.contains(['/', '@', '?', '#', ' ']) {
            return Err(malformed());
        }
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']').ok_or_else(malformed)?;
                (
                    host,
                    after
                        .strip_prefix(':')
                        .or_else(|| Some("").filter(|_| after.is_empty()))
                        .ok_or_else(malformed)?,
                )
            }
            None => rest.split_once(':').unwrap_or((rest, "")),
        };
        let port = match port {
            "" => DEFAULT_PORT,
            digits => digits.parse().map_err(|_| malformed())?,
        };
        ServerName::try_from(host.to_owned()).map_err(|_| malformed())?;
        Ok(ServerUrl { host: host.to_owned(), port })
    }
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers there; later somebody may.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever answers is not who was meant.
    #[error("{0}")]
    Untrusted(String),
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

impl Reply {
    /// The sentence of a refusal.
    #[must_use]
    pub fn message(&self) -> String {
        let json: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let message = json.as_ref().and_then(|json| json.get("message")?.as_str());
        message.map_or_else(|| format!("the server answered {}", self.status), str::to_owned)
    }
}

/// A client of one supervisor.
#[derive(Clone)]
pub struct Client {
    server: ServerUrl,
    tls: TlsConnector,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// One that trusts these authorities, and shows these credentials.
    ///
    /// # Errors
    /// A sentence: an authority cannot be used, or the token holds what no header can.
    pub fn trusting(
        server: &ServerUrl,
        bundle: &CaBundle,
        credentials: &Credentials,
    ) -> Result<Client, String> {
        let mut roots = RootCertStore::empty();
        for certificate in bundle.trusted() {
            roots.add(certificate.clone()).map_err(|e| format!("an authority cannot be used: {e}"))?;
        }
        let config = builder()?.with_root_certificates(roots).with_no_client_auth();
        let mut authorization = HeaderValue::from_str(&credentials.authorization())
            .map_err(|_| "the token holds characters that cannot be sent".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Client {
            server: server.clone(),
            tls: TlsConnector::from(Arc::new(config)),
            authorization: Some(authorization),
        })
    }

    /// Makes a call.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Reply, CallError> {
        let unreachable = |problem: String| CallError::Unreachable(format!("{}: {problem}", self.server));
        match tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await {
            Ok(done) => done,
            Err(_) => Err(unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Reply, CallError> {
        let unreachable = |problem: String| CallError::Unreachable(format!("{}: {problem}", self.server));
        let connecting = TcpStream::connect((self.server.host.as_str(), self.server.port));
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected.map_err(|e| unreachable(e.to_string()))?,
            Err(_) => {
                return Err(unreachable(format!("cannot connect within {} s", CONNECT_TIMEOUT.as_secs())));
            }
        };
        let name = ServerName::try_from(self.server.host.clone())
            .map_err(|_| unreachable("the host is no name".to_owned()))?;
        let stream = self.tls.connect(name, stream).await.map_err(|e| self.handshake_failed(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| unreachable(e.to_string()))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.host_header());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| unreachable(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(e.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), wire::MAX_BODY).collect().await;
        driver.abort();
        Ok(Reply { status, body: body.map_err(|e| unreachable(e.to_string()))?.to_bytes() })
    }

    fn host_header(&self) -> String {
        self.server.to_string().trim_start_matches("https://").to_owned()
    }

    fn handshake_failed(&self, error: &std::io::Error) -> CallError {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(problem)) => CallError::Untrusted(format!(
                "{}: its certificate is not good for this cluster and this address ({problem:?}); use an address of \
                 the server, or give it the name with --tls-san",
                self.server
            )),
            _ => CallError::Unreachable(format!("{}: {error}", self.server)),
        }
    }
}

/// Asks whoever is there for the authorities, without trust: what comes back is
/// believed only as far as a hash vouches for it.
///
/// # Errors
/// See [`CallError`].
pub async fn authorities(server: &ServerUrl) -> Result<CaBundle, CallError> {
    let untrusted = |problem: String| CallError::Untrusted(format!("{server}: {problem}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = builder()
        .map_err(untrusted)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let client =
        Client { server: server.clone(), tls: TlsConnector::from(Arc::new(config)), authorization: None };
    let reply = client.call(Method::GET, wire::CA_CERTS, None).await?;
    if reply.status != StatusCode::OK {
        return Err(CallError::Unreachable(format!("{server}{}: {}", wire::CA_CERTS, reply.message())));
    }
    CaBundle::from_pem(reply.body.to_vec()).map_err(|e| untrusted(e.to_string()))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, String> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())
}

/// Takes any certificate. Only for [`authorities`].
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (text, shown) in [
            ("https://a:1", Some("https://a:1")),
            ("https://10.0.0.1", Some("https://10.0.0.1:6443")),
            (" https://[fd00::1]:7/ ", Some("https://[fd00::1]:7")),
            ("https://[fd00::1]", Some("https://[fd00::1]:6443")),
            ("http://a:1", None),
            ("a:1", None),
            ("https://", None),
            ("https://a:b", None),
            ("https://a:1/x", None),
            ("https://u@a:1", None),
            ("https://[::1:1", None),
            ("https://[::1]x", None),
            ("https://a b", None),
        ] {
            assert_eq!(ServerUrl::parse(text).ok().map(|url| url.to_string()).as_deref(), shown, "{text}");
        }
    }
}
