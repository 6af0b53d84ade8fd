//! What stands in a certificate.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

/// The most certificates that are read of a file.
const MAX_CERTIFICATES: usize = 32;

/// What stands in a certificate.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its subject, in full.
    pub subject: String,
    /// The common name of its subject.
    pub common_name: Option<String>,
    /// The organizations of its subject: Kubernetes' groups.
    pub organizations: Vec<String>,
    /// Names and addresses it is for.
    pub names: Vec<String>,
    /// When it begins.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// It certifies others.
    pub is_authority: bool,
    /// What it may be used for: `ServerAuth`, `ClientAuth`.
    pub usages: Vec<&'static str>,
    /// The public key, as it stands in it.
    pub(super) public_key: Vec<u8>,
}

impl Facts {
    /// Those of every certificate in a PEM file.
    ///
    /// # Errors
    /// A sentence: not PEM, or a certificate cannot be read.
    pub fn all(pem: &[u8]) -> Result<Vec<Facts>, String> {
        let mut facts = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem) {
            if facts.len() == MAX_CERTIFICATES {
                return Err(format!("more than {MAX_CERTIFICATES} certificates"));
            }
            facts.push(Facts::of(&der.map_err(|e| e.to_string())?)?);
        }
        Ok(facts)
    }

    /// Those of one.
    ///
    /// # Errors
    /// A sentence: it cannot be read.
    pub fn of(der: &CertificateDer<'_>) -> Result<Facts, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|e| format!("no certificate: {e}"))?;
        let text =
            |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        let subject = parsed.subject();
        let extended = parsed.extended_key_usage().ok().flatten();
        let may = |usage: fn(&x509_parser::extensions::ExtendedKeyUsage<'_>) -> bool| {
            extended.as_ref().is_some_and(|extension| usage(extension.value))
        };
        let usages = [("ServerAuth", may(|u| u.server_auth)), ("ClientAuth", may(|u| u.client_auth))];
        Ok(Facts {
            subject: subject.to_string(),
            common_name: subject.iter_common_name().next().and_then(text),
            organizations: subject.iter_organization().filter_map(text).collect(),
            names: names(&parsed),
            not_before: time(parsed.validity().not_before),
            not_after: time(parsed.validity().not_after),
            is_authority: parsed.is_ca(),
            usages: usages.into_iter().filter(|(_, may)| *may).map(|(name, _)| name).collect(),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// True if it ends within this time.
    #[must_use]
    pub fn ends_within(&self, now: SystemTime, time: Duration) -> bool {
        self.not_after <= now + time
    }
}

fn names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let shown = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(host) => Some((*host).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    };
    extension.value.general_names.iter().filter_map(shown).collect()
}

fn time(at: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(at.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
