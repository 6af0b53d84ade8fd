//! Whom a node trusts.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use skiff_token::{CaBundle, wire};

use super::http::{Ask, Client};
use super::{JoinError, JoinOptions};

/// Finds out whom to trust: by the token's hash where it has one.
pub(super) async fn establish(options: &JoinOptions) -> Result<CaBundle, JoinError> {
    let fetched = client(options, trusting_anybody()?).ask(wire::CA_CERTS, Ask::default()).await?.good()?;
    let bundle = CaBundle::from_pem(fetched.to_vec())?;
    check(options, &bundle)?;
    if options.token.ca_hash.is_none() {
        tracing::warn!(
            server = %options.server, hash = %bundle.hash(),
            "the token holds no hash of the cluster's authorities, so this server is believed; better use the \
             whole token, from the file server/token of a server"
        );
    }
    if fetch(options, &bundle).await? != bundle {
        let problem = "the authorities differ from those of a moment ago; try again".to_owned();
        return Err(JoinError::Answer { path: wire::CA_CERTS.to_owned(), problem });
    }
    Ok(bundle)
}

/// The authorities that a server of these authorities serves.
pub(super) async fn fetch(options: &JoinOptions, known: &CaBundle) -> Result<CaBundle, JoinError> {
    let client = client(options, trusting(known, None)?);
    let fetched = client.ask(wire::CA_CERTS, Ask::default()).await?.good()?;
    Ok(CaBundle::from_pem(fetched.to_vec())?)
}

/// Checks that the authorities are those of the token.
pub(super) fn check(options: &JoinOptions, bundle: &CaBundle) -> Result<(), JoinError> {
    match options.token.ca_hash {
        Some(token) if token != bundle.hash() => Err(JoinError::CaHash { token, server: bundle.hash() }),
        _ => Ok(()),
    }
}

fn client(options: &JoinOptions, tls: Arc<ClientConfig>) -> Client<'_> {
    Client { server: &options.server, tls, timeout: options.request_timeout }
}

/// TLS settings that trust these authorities alone, and show the certificate if there is one.
pub(super) fn trusting(
    bundle: &CaBundle,
    shown: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<Arc<ClientConfig>, JoinError> {
    let unusable = |error: String| JoinError::Answer { path: wire::CA_CERTS.to_owned(), problem: error };
    let mut roots = RootCertStore::empty();
    for certificate in bundle.trusted() {
        roots.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_webpki_verifier(verifier);
    Ok(Arc::new(match shown {
        Some(shown) => builder.with_client_cert_resolver(shown),
        None => builder.with_no_client_auth(),
    }))
}

/// TLS settings for the one request that shows nothing and whose answer is checked.
fn trusting_anybody() -> Result<Arc<ClientConfig>, JoinError> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| JoinError::Answer { path: wire::CA_CERTS.to_owned(), problem: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Believes every certificate, though not that somebody else holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
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
