//! What a certificate must fulfil beside being signed by an authority: not
//! revoked, and bearing a name that is allowed. Holds for both ends of a
//! connection between peers, as with etcd.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::load::at;
use super::names;
use super::options::TlsOptions;

/// Serial numbers of revoked certificates. As with etcd they count by
/// themselves: whoever issued the list.
#[derive(Debug, Default)]
struct Revoked(HashSet<Vec<u8>>);

impl Revoked {
    /// Reads lists, PEM or DER.
    fn read(path: &Path) -> Result<Revoked, String> {
        let bytes = std::fs::read(path).map_err(|e| at(path, e))?;
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let lists = match lists.map_err(|e| at(path, e))? {
            lists if lists.is_empty() => vec![CertificateRevocationListDer::from(bytes)],
            lists => lists,
        };
        let mut serials = HashSet::new();
        for list in lists {
            let (_, parsed) = CertificateRevocationList::from_der(&list)
                .map_err(|e| at(path, format!("not a list of revoked certificates: {e}")))?;
            serials.extend(parsed.iter_revoked_certificates().map(|entry| number(entry.raw_serial())));
        }
        Ok(Revoked(serials))
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if self.0.contains(&number(parsed.raw_serial())) {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        Ok(())
    }
}

/// A serial number without the zeros that lead it.
fn number(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// What certificates must fulfil.
#[derive(Debug)]
pub(super) struct Conditions {
    revoked: Revoked,
    /// Common names one of which must be borne; empty for any.
    names: Vec<String>,
    /// Host names one of which must be borne; empty for any.
    hosts: Vec<String>,
}

impl Conditions {
    /// Reads the lists the options name.
    pub(super) fn new(options: &TlsOptions) -> Result<Conditions, String> {
        Ok(Conditions {
            revoked: options.crl.as_deref().map(Revoked::read).transpose()?.unwrap_or_default(),
            names: options.allowed_names.clone(),
            hosts: options.allowed_hosts.clone(),
        })
    }

    fn check(&self, end: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        std::iter::once(end).chain(others).try_for_each(|certificate| self.revoked.check(certificate))?;
        let name_fits = || names::common_name(end).is_some_and(|name| self.names.contains(&name));
        if !self.names.is_empty() && !name_fits() {
            return Err(not_allowed("bears no allowed common name"));
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|host| names::is_for_host(end, host)) {
            return Err(not_allowed("bears no allowed host name"));
        }
        Ok(())
    }
}

/// Why a certificate is refused that is valid.
#[derive(Debug)]
struct NotAllowed(&'static str);

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client certificate authentication failed: it {}", self.0)
    }
}

impl std::error::Error for NotAllowed {}

fn not_allowed(why: &'static str) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(NotAllowed(why)))))
}

/// What both kinds of verifiers have under the same names: signatures are the
/// inner one's affair.
macro_rules! inner_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.inner.verify_tls12_signature(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.inner.verify_tls13_signature(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.inner.supported_verify_schemes()
        }
    };
}

/// Checks the conditions after all that `inner` checks.
#[derive(Debug)]
pub(super) struct Restricted<V: ?Sized> {
    pub(super) conditions: Conditions,
    pub(super) inner: Arc<V>,
}

impl<V: ServerCertVerifier + ?Sized> ServerCertVerifier for Restricted<V> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.conditions.check(end_entity, intermediates)?;
        Ok(verified)
    }

    inner_signatures!();
}

impl<V: ClientCertVerifier + ?Sized> ClientCertVerifier for Restricted<V> {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        self.conditions.check(end_entity, intermediates)?;
        Ok(verified)
    }

    inner_signatures!();
}
