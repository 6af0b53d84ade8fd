//! The server's side of a handshake.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{address, names, server::ServerTls};

/// A client that has not finished its handshake by then is not waited for.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for resolving the names in a certificate.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// An accepted connection.
pub(crate) struct Accepted<S> {
    /// The stream.
    pub(crate) stream: TlsStream<S>,
    /// Common name of the client's certificate, if it showed one.
    pub(crate) common_name: Option<String>,
    /// That certificate.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// Shakes hands; on a peer port also checks that a certificate is for the
/// address it comes from.
///
/// # Errors
/// The handshake failed or took too long, or the client may not connect.
pub(crate) async fn accept<S>(tls: &ServerTls, stream: S, remote: Option<IpAddr>) -> io::Result<Accepted<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long"))??;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let common_name = certificate.and_then(names::common_name);
    if tls.check_address
        && let Some(certificate) = certificate
    {
        let checked = tokio::time::timeout(ADDRESS_TIMEOUT, address::check(certificate, remote)).await;
        let checked =
            checked.unwrap_or_else(|_| Err("resolving the client's names took too long".to_owned()));
        checked.map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
    }
    let certificate = certificate.map(|certificate| certificate.clone().into_owned());
    Ok(Accepted { stream, common_name, certificate })
}
