//! Opens a byte stream to an endpoint.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::endpoint::{Address, Endpoint};
use super::options::TlsSource;

/// A byte stream to an endpoint, encrypted or not.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The protocol spoken on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        }
    }
}

/// Connects; the caller bounds the time.
pub(super) async fn dial(
    endpoint: &Endpoint,
    tls: Option<&TlsSource>,
    protocol: Protocol,
) -> io::Result<Box<dyn Io>> {
    match &endpoint.address {
        Address::Tcp(authority) => {
            let tcp = TcpStream::connect(authority.as_str()).await?;
            tcp.set_nodelay(true)?;
            encrypt(tcp, endpoint, tls, protocol).await
        }
        Address::Unix(path) => encrypt(UnixStream::connect(path).await?, endpoint, tls, protocol).await,
    }
}

async fn encrypt<S: Io + 'static>(
    stream: S,
    endpoint: &Endpoint,
    tls: Option<&TlsSource>,
    protocol: Protocol,
) -> io::Result<Box<dyn Io>> {
    if !endpoint.tls {
        return Ok(Box::new(stream));
    }
    let source =
        tls.ok_or_else(|| invalid("the endpoint uses TLS, but no TLS is configured here".to_owned()))?;
    let mut config = (*source()).clone();
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    let name = ServerName::try_from(endpoint.server_name().to_owned()).map_err(|e| invalid(e.to_string()))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    if protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(protocol.alpn()) {
        return Err(invalid("the endpoint does not speak HTTP/2 over TLS".to_owned()));
    }
    Ok(Box::new(stream))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
