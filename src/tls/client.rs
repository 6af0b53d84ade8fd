//! TLS of connections to peers, and to an external etcd.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::options::TlsOptions;
use super::verify::{Conditions, Restricted};
use super::{load, reload::Reload};

/// TLS of connections to peers; its files are read again when they change.
pub(crate) struct PeerClientTls {
    config: Reload<Arc<ClientConfig>>,
}

impl PeerClientTls {
    /// Loads the files; `None` if TLS between peers is not configured.
    ///
    /// # Errors
    /// A sentence with the path or the missing flag.
    pub(crate) fn new(options: &TlsOptions) -> Result<Option<Arc<PeerClientTls>>, String> {
        if !options.enabled() {
            return Ok(None);
        }
        if options.ca.is_none() && !options.auto {
            return Err("TLS between peers needs --peer-trusted-ca-file: the authorities to trust".to_owned());
        }
        Self::load(options).map(Some)
    }

    /// Loads the files of connections to an external etcd.
    ///
    /// # Errors
    /// A sentence with the path.
    pub(crate) fn load(options: &TlsOptions) -> Result<Arc<PeerClientTls>, String> {
        let mut files = Vec::new();
        if let Some(own) = options.client.as_ref().or(options.server.as_ref()) {
            files.extend([own.cert.clone(), own.key.clone()]);
        }
        files.extend(options.ca.clone());
        files.extend(options.crl.clone());
        let owned = options.clone();
        Ok(Arc::new(PeerClientTls { config: Reload::new(files, move || build(&owned))? }))
    }

    /// The settings for the next connection.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config.get())
    }
}

fn build(options: &TlsOptions) -> Result<Arc<ClientConfig>, String> {
    let provider = super::provider(&options.suites);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&options.versions)
        .map_err(|e| e.to_string())?;
    let builder = match &options.ca {
        Some(ca) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(load::roots(ca)?, provider);
            let inner = verifier.build().map_err(|e| e.to_string())?;
            let verifier = Restricted { conditions: Conditions::new(options)?, inner };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    match options.client.as_ref().or(options.server.as_ref()) {
        Some(files) => {
            let (chain, key) = load::identity(files)?;
            let config = builder.with_client_auth_cert(chain, key);
            config.map(Arc::new).map_err(|e| format!("{}: {e}", files.cert.display()))
        }
        None => Ok(Arc::new(builder.with_no_client_auth())),
    }
}

/// Takes any certificate: what `--peer-auto-tls` means with etcd too. The
/// traffic is encrypted; who is at the other end is not checked. Only used
/// where no authorities are configured.
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
