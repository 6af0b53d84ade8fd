//! Names in certificates.

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Who a certificate is for, beside the name of its subject.
#[derive(Debug, Default)]
pub(super) struct AlternativeNames {
    /// It bears addresses.
    pub(super) addresses: bool,
    /// The host names it bears.
    pub(super) hosts: Vec<String>,
}

/// The alternative names of a certificate; `None` if it cannot be read.
pub(super) fn alternative_names(certificate: &CertificateDer<'_>) -> Option<AlternativeNames> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = AlternativeNames::default();
    let borne = parsed.subject_alternative_name().ok()?;
    for name in borne.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(host) => names.hosts.push((*host).to_owned()),
            GeneralName::IPAddress(_) => names.addresses = true,
            _ => {}
        }
    }
    Some(names)
}

/// The common name of a certificate's subject.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// True if a certificate is for this host.
pub(crate) fn is_for_host(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(certificate) else { return false };
    let Ok(name) = ServerName::try_from(host) else { return false };
    verify_server_name(&parsed, &name).is_ok()
}
