//! The server's side of a handshake.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{names, server::ServerTls};

/// A client that has not finished its handshake by then is not waited for.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// An accepted connection.
pub(crate) struct Accepted<S> {
    /// The stream.
    pub(crate) stream: TlsStream<S>,
    /// Common name of the client's certificate, if it showed one.
    pub(crate) common_name: Option<String>,
}

/// Shakes hands, and checks the names in the client's certificate.
///
/// # Errors
/// The handshake failed or took too long, or the client may not connect.
pub(crate) async fn accept<S>(tls: &ServerTls, stream: S) -> io::Result<Accepted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long"))??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let common_name = certificate.and_then(names::common_name);
    let denied = |what: &str| {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("client certificate {what}")))
    };
    if !tls.allowed_names.is_empty()
        && !common_name.as_ref().is_some_and(|name| tls.allowed_names.contains(name))
    {
        return denied("bears no allowed common name");
    }
    let for_host = |host: &String| certificate.is_some_and(|c| names::is_for_host(c, host));
    if !tls.allowed_hosts.is_empty() && !tls.allowed_hosts.iter().any(for_host) {
        return denied("bears no allowed host name");
    }
    Ok(Accepted { stream, common_name })
}
