//! An authority: its certificate, what is above it, and its key.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::subjects::{Request, Use};
use super::{DAY, Facts, keys};
use crate::files;

/// How long an authority is made for.
const AUTHORITY_DAYS: u32 = 3650;
/// How long a certificate is made for.
const LEAF_DAYS: u32 = 365;
/// Certificates begin a while ago, for clocks that go wrong.
const GRACE: Duration = Duration::from_secs(60 * 60);

/// An authority, with its key.
pub struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
    /// When it ends.
    pub(super) not_after: SystemTime,
}

impl Authority {
    /// Reads and checks one.
    ///
    /// # Errors
    /// A sentence with the path: it cannot be read, is no authority, has ended, or
    /// the key is not its own.
    pub fn load(cert: &Path, key: &Path) -> Result<Authority, String> {
        let at = |path: &Path, problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
        let missing = |path: &Path| format!("{} is missing", path.display());
        let pem = files::read(cert)?.ok_or_else(|| missing(cert))?;
        let key_pem = files::read(key)?.ok_or_else(|| missing(key))?;
        let pair = keys::read(&key_pem).map_err(|e| at(key, &e))?;
        let facts = Facts::all(&pem).map_err(|e| at(cert, &e))?;
        let own = facts.first().ok_or_else(|| at(cert, &"holds no certificate"))?;
        if !own.is_authority {
            return Err(at(cert, &"the first certificate is not that of an authority"));
        }
        if own.public_key != pair.public_key_raw() {
            return Err(format!("{} is not the key of {}", key.display(), cert.display()));
        }
        if own.not_after <= SystemTime::now() {
            return Err(at(cert, &"the authority has ended; place a new pair"));
        }
        let der = CertificateDer::from_pem_slice(&pem).map_err(|e| at(cert, &e))?;
        let not_after = own.not_after;
        let pem = String::from_utf8(pem).map_err(|_| at(cert, &"is no text"))?;
        Ok(Authority { pem, der, key: pair, not_after })
    }

    /// Certifies a key; answers the certificate and the authorities above it, as PEM.
    pub(super) fn issue(
        &self,
        request: &Request,
        key: &impl PublicKeyData,
        now: SystemTime,
    ) -> Result<String, String> {
        let failed = |e: rcgen::Error| format!("cannot make a certificate for {}: {e}", request.common_name);
        let mut params = CertificateParams::new(request.names.clone()).map_err(failed)?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, request.common_name.as_str());
        if let Some(organization) = &request.organization {
            name.push(DnType::OrganizationName, organization.as_str());
        }
        params.distinguished_name = name;
        let end = (now + DAY * LEAF_DAYS).min(self.not_after);
        params.not_before = keys::calendar(now - GRACE);
        params.not_after = keys::calendar(end);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match request.usage {
            Use::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Use::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Use::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.der, &self.key).map_err(failed)?;
        let certificate = params.signed_by(key, &issuer).map_err(failed)?;
        Ok(format!("{}{}", certificate.pem(), self.pem))
    }

    /// True if the first of these certificates is by this authority.
    pub(super) fn issued(&self, pem: &[u8]) -> bool {
        let Ok(leaf) = CertificateDer::from_pem_slice(pem) else { return false };
        let Ok((_, leaf)) = X509Certificate::from_der(&leaf) else { return false };
        let Ok((_, own)) = X509Certificate::from_der(&self.der) else { return false };
        leaf.issuer() == own.subject() && leaf.verify_signature(Some(own.public_key())).is_ok()
    }
}

/// Makes an authority that certifies itself; answers it and its key, as PEM.
pub(super) fn make(title: &str, now: SystemTime) -> Result<(String, String), String> {
    let failed = |e: rcgen::Error| format!("cannot make an authority: {e}");
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    let mut name = DistinguishedName::new();
    // The time tells authorities of the same title apart.
    let made = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    name.push(DnType::CommonName, format!("{title}@{made}"));
    params.distinguished_name = name;
    params.not_before = keys::calendar(now - GRACE);
    params.not_after = keys::calendar(now + DAY * AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
